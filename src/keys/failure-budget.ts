/**
 * Failed decryptions by which a caller could learn something, RSA and AES-CBC (security P-9, P-11): a budget per key and
 * principal, never a lock for others; and replies that leave on a tick of the clock, so that their time says less.
 */

import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { asKmsError, KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import type { Call } from './access.ts';
import type { Key } from './key.ts';

/** Failures in an hour that cost nothing. */
export const FREE_FAILURES = 100;
/** Seconds of the longest delay. */
const DELAY_MAX = 3600;
const TICK_MS = 10;

export class FailureBudget {
  readonly #store: Pick<KeyStore, 'failures' | 'noteFailure'>;
  readonly #onSpent: (call: Call, key: Key) => void;

  /** @param onSpent told once an hour of a principal who has none left with a key */
  constructor(store: Pick<KeyStore, 'failures' | 'noteFailure'>, onSpent: (call: Call, key: Key) => void) {
    this.#store = store;
    this.#onSpent = onSpent;
  }

  /** @throws KmsError `rate-limited` when the budget is spent and the delay not over; what `open` throws */
  async spend<T>(call: Call, key: Key, open: () => Promise<T>): Promise<T> {
    const who = principalOf(call);
    const { count, sinceLastMs } = await this.#store.failures(key.id, who);
    const waitMs = delaySeconds(count) * 1000 - sinceLastMs;
    if (waitMs > 0) {
      throw new KmsError('rate-limited', 'too many failed decryptions with this key', { retryAfter: Math.ceil(waitMs / 1000) });
    }
    try {
      return await open();
    } catch (error) {
      if (asKmsError(error).code === 'decryption-failed' && (await this.#store.noteFailure(key.id, who)) === FREE_FAILURES) {
        this.#onSpent(call, key);
      }
      throw error;
    }
  }
}

/** Doubles with each failure beyond the free ones. */
function delaySeconds(failures: number): number {
  return failures < FREE_FAILURES ? 0 : Math.min(DELAY_MAX, 2 ** (failures - FREE_FAILURES));
}

function principalOf({ vault, principal: { method, issuer, subject } }: Call): string {
  return createHash('sha256').update(JSON.stringify([vault.id, method, issuer, subject])).digest('hex');
}

/** Success and failure alike leave on the next tick. */
export async function onTick<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } finally {
    await sleep(TICK_MS - (performance.now() % TICK_MS));
  }
}
