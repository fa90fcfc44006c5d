/**
 * The session of one token thread. One operation at a time; after any error it is replaced, because a failed call may
 * leave its operation active for ever (security H-3).
 */

import type { Cryptoki, Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import type { Profile } from './profile.ts';
import { classify } from './return-value.ts';

/** One operation is several calls: with one failing in twenty, a single repetition would still lose one in thirty. */
const ATTEMPTS = 3;

export class TokenSession {
  readonly cryptoki: Cryptoki;
  readonly profile: Profile;
  readonly #slot: Handle;
  #handle: Handle;

  constructor(cryptoki: Cryptoki, profile: Profile, slot: Handle) {
    this.cryptoki = cryptoki;
    this.profile = profile;
    this.#slot = slot;
    this.#handle = cryptoki.openSession(slot);
  }

  get handle(): Handle {
    return this.#handle;
  }

  tokenFacts(): ReturnType<Cryptoki['tokenFacts']> {
    return this.cryptoki.tokenFacts(this.#slot);
  }

  /**
   * Runs one operation; replaces the session whenever it fails.
   * @param idempotent whether it may run again on a new session
   * @throws CryptokiError
   */
  run<T>(operation: (session: TokenSession) => T, idempotent: boolean): T {
    for (let left = idempotent ? ATTEMPTS : 1; ; left -= 1) {
      try {
        return operation(this);
      } catch (error) {
        this.#replace();
        if (left === 1 || !this.#mayRetry(error)) throw error;
      }
    }
  }

  /** The operation never ran, or ran and may run again without harm. */
  #mayRetry(error: unknown): boolean {
    return error instanceof CryptokiError && classify(error.code, this.profile) === 'session';
  }

  close(): void {
    this.cryptoki.closeSession(this.#handle);
  }

  /** The new one is opened first: a module may end the login with its last session. */
  #replace(): void {
    const old = this.#handle;
    try {
      this.#handle = this.cryptoki.openSession(this.#slot);
      this.cryptoki.closeSession(old);
    } catch {
      // The next operation fails on the old session and tries again; the canary decides whether the token is lost.
    }
  }
}
