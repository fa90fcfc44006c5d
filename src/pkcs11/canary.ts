/**
 * The canary: an HMAC key whose answer was recorded when the installation was made, asked together with the token's
 * serial. Session calls alone succeed, and searches find nothing without an error, when the token is gone
 * (security H-6, H-7).
 */

import { type Canary, CANARY_QUESTION, type ObjectHandle } from './job.ts';
import { StartError } from './start-error.ts';
import { toCkMechanism } from './mechanism.ts';
import { findOne, fromObjectHandle } from './objects.ts';
import type { TokenSession } from './session.ts';

/**
 * Single calls may fail; a token is lost when none of these tries succeeds. A moment lies between them: in SoftHSM the
 * login of another process makes C_GetTokenInfo fail while it lasts.
 */
const TRIES = 6;
const PAUSE_MS = 15;

export class CanaryWatch {
  readonly #session: TokenSession;
  readonly #canary: Canary | null;
  /** Null only while the installation is made. */
  readonly handle: ObjectHandle | null;
  readonly serial: string;

  /**
   * @param canary null while the installation is made
   * @param known where another thread found it
   * @throws StartError `wrong-token` when it is not there
   */
  constructor(session: TokenSession, canary: Canary | null, known: ObjectHandle | null) {
    this.#session = session;
    this.#canary = canary;
    this.serial = session.tokenFacts().serial;
    this.handle = canary === null ? null : known ?? findOne(session, canary.objectId, 'secret') ?? null;
    if (canary !== null && (this.handle === null || !this.#ask())) throw new StartError('wrong-token');
  }

  /** @returns false when the token is not the one of this installation, or does not answer */
  answers(): boolean {
    for (let left = TRIES; left > 0; left -= 1) {
      try {
        if (this.#session.run(() => this.#ask(), false)) return true;
      } catch {
        // Whatever it is, the next try or the verdict says it.
      }
      pause(PAUSE_MS);
    }
    return false;
  }

  #ask(): boolean {
    if (this.#canary === null || this.handle === null) return true;
    const { cryptoki, handle, profile } = this.#session;
    const mechanism = toCkMechanism({ name: 'hmac', hash: 'sha256' }, profile);
    const mac = cryptoki.sign(handle, mechanism, fromObjectHandle(this.handle), CANARY_QUESTION, 32);
    return this.#session.tokenFacts().serial === this.serial && mac.equals(this.#canary.mac);
  }
}

/** The thread has nothing else to do: its calls are synchronous anyway. */
function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}
