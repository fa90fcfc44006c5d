/**
 * Requests of one principal in a second, by class of operation, in this process (security S-29). A bucket of tokens each: it
 * holds a second's worth, and fills all the time. Memory is bounded: the longest unseen principals are forgotten, whose
 * buckets are full.
 */

import type { Principal } from '../auth/principal.ts';
import { KmsError } from '../errors.ts';

export type OperationClass = 'use' | 'read' | 'manage';

/** Requests per second; 0 for no limit. */
export type Rates = Readonly<Record<OperationClass, number>>;

interface Bucket {
  tokens: number;
  filledMs: number;
}

const PRINCIPALS_MAX = 10_000;

export class RateLimits {
  readonly #rates: Rates;
  readonly #nowMs: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param nowMs a clock that never goes back */
  constructor(rates: Rates, nowMs: () => number) {
    this.#rates = rates;
    this.#nowMs = nowMs;
  }

  /** @throws KmsError `rate-limited` with the seconds until there is room */
  take({ method, issuer, subject }: Pick<Principal, 'method' | 'issuer' | 'subject'>, of: OperationClass): void {
    const rate = this.#rates[of];
    if (rate === 0) return;
    const bucket = this.#filled(JSON.stringify([of, method, issuer, subject]), rate);
    if (bucket.tokens < 1) {
      throw new KmsError('rate-limited', `more than ${rate} requests of this kind in a second`, { retryAfter: Math.ceil((1 - bucket.tokens) / rate) });
    }
    bucket.tokens -= 1;
  }

  #filled(key: string, rate: number): Bucket {
    const now = this.#nowMs();
    const bucket = this.#buckets.get(key) ?? { tokens: capacity(rate), filledMs: now };
    bucket.tokens = Math.min(capacity(rate), bucket.tokens + ((now - bucket.filledMs) / 1000) * rate);
    bucket.filledMs = now;
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > PRINCIPALS_MAX) this.#dropOldest();
    return bucket;
  }

  #dropOldest(): void {
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined) this.#buckets.delete(oldest);
  }
}

/** At least one request, also where the share of a process is less than one a second. */
function capacity(rate: number): number {
  return Math.max(1, rate);
}
