/**
 * Keeps floods of refusals from before authentication out of the audit: the first of a source, reason and rule in a second is
 * recorded at once, the others of that second are counted into one record when it ends.
 */

import type { AuditEvent } from './record.ts';

export type SourceRefusal = AuditEvent & { readonly source: string };

export interface FloodGate {
  /**
   * Resolves when the refusal is recorded, or counted beside one of the same second that is recorded. Rejects as
   * `append` does.
   */
  refused(event: SourceRefusal): Promise<void>;
  /** Records what is counted so far: at shutdown, before the log closes. Rejects as `append` does. */
  flush(): Promise<void>;
}

export interface FloodGateOptions {
  readonly append: (event: AuditEvent) => Promise<void>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

interface Bucket {
  /** What all refusals of the bucket have in common. */
  readonly event: AuditEvent;
  /** Settles with the record of the first. */
  readonly recorded: Promise<void>;
  count: number;
}

/** Counted refusals whose summary is not on disk yet. */
interface Owed {
  readonly event: AuditEvent;
  readonly count: number;
}

const SECOND_MS = 1000;
/** Above that many different ones in a second all others share one bucket. */
const BUCKETS_MAX = 10_000;
const OTHER = 'other';

export function createFloodGate(options: FloodGateOptions): FloodGate {
  return new CountingGate(options);
}

class CountingGate implements FloodGate {
  readonly #append: (event: AuditEvent) => Promise<void>;
  readonly #now: () => number;
  #buckets = new Map<string, Bucket>();
  #owed = new Map<string, Owed>();
  #second = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor({ append, now }: FloodGateOptions) {
    this.#append = append;
    this.#now = now;
  }

  refused(event: SourceRefusal): Promise<void> {
    this.#turnSecond();
    const key = this.#keyOf(event);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) return this.#open(key, event);
    bucket.count += 1;
    return bucket.recorded;
  }

  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [key, { event, count }] of this.#buckets) if (count > 0) this.#owe(key, { event, count });
    this.#buckets = new Map();
    const owed = this.#owed;
    this.#owed = new Map();
    await Promise.all([...owed].map(([key, summary]) => this.#summarise(key, summary)));
  }

  #keyOf({ source, reason, event, detail }: SourceRefusal): string {
    const key = JSON.stringify([source, reason, event, detail?.['rule']]);
    return this.#buckets.size < BUCKETS_MAX || this.#buckets.has(key) ? key : OTHER;
  }

  #open(key: string, event: SourceRefusal): Promise<void> {
    const recorded = this.#append(event);
    const bucket = { event: common(key, event), recorded, count: 0 };
    this.#buckets.set(key, bucket);
    recorded.catch(() => {
      this.#forget(key, bucket);
    });
    this.#startTimer();
    return recorded;
  }

  /** Whoever was counted beside a refusal that was not recorded was told so; the next one tries anew. */
  #forget(key: string, bucket: Bucket): void {
    if (this.#buckets.get(key) === bucket) this.#buckets.delete(key);
  }

  /** The timer may come late under load; the clock decides. */
  #turnSecond(): void {
    const second = Math.floor(this.#now() / SECOND_MS);
    if (second !== this.#second) void this.#endSecond();
    this.#second = second;
  }

  #startTimer(): void {
    const rest = SECOND_MS - (this.#now() % SECOND_MS);
    this.#timer ??= setTimeout(() => void this.#endSecond(), rest).unref();
  }

  /** A failure is seen in the log's own health, and what could not be written stays owed. */
  async #endSecond(): Promise<void> {
    await this.flush().catch(() => undefined);
  }

  async #summarise(key: string, { event, count }: Owed): Promise<void> {
    try {
      await this.#append({ ...event, detail: { count } });
    } catch (error) {
      this.#owe(key, { event, count });
      this.#startTimer();
      throw error;
    }
  }

  #owe(key: string, { event, count }: Owed): void {
    const slot = this.#owed.size < BUCKETS_MAX || this.#owed.has(key) ? key : OTHER;
    const before = this.#owed.get(slot);
    const summary = slot === key ? event : { event: event.event, result: event.result, source: OTHER };
    this.#owed.set(slot, { event: before?.event ?? summary, count: count + (before?.count ?? 0) });
  }
}

/** The bucket of all others mixes sources and reasons: it names neither. */
function common(key: string, { event, result, reason, source }: SourceRefusal): AuditEvent {
  if (key === OTHER) return { event, result, source: OTHER };
  return { event, result, source, ...(reason !== undefined && { reason }) };
}
