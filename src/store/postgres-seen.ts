/** Who has seen which head: saying it for this process, and waiting for the others. No connection of its own. */

import { setTimeout as delay } from 'node:timers/promises';

/** More than any installation has processes; the boots of dead ones are forgotten beyond it. */
const MAX_BOOTS = 1_000;

/** Says the newest seq seen: one message at a time, and only the newest of those that waited. */
export class Speaker {
  readonly #send: (seq: number) => Promise<unknown>;
  #said = -1;
  #wanted = -1;
  #sending = false;

  /** @param send may reject: the next `say` tries again */
  constructor(send: (seq: number) => Promise<unknown>) {
    this.#send = send;
  }

  /** What was said before is not said again. */
  say(seq: number): void {
    if (seq <= this.#said) return;
    this.#wanted = Math.max(this.#wanted, seq);
    if (!this.#sending) void this.#run();
  }

  async #run(): Promise<void> {
    this.#sending = true;
    try {
      while (this.#wanted > this.#said) {
        const seq = this.#wanted;
        await this.#send(seq);
        this.#said = seq;
      }
    } catch {
      this.#wanted = this.#said;
    } finally {
      this.#sending = false;
    }
  }
}

interface Waiter {
  readonly seq: number;
  readonly missing: Set<string>;
  readonly resolve: () => void;
}

/** What the others have said. */
export class Witnesses {
  readonly #seen = new Map<string, number>();
  readonly #waiters = new Set<Waiter>();
  #closed = false;

  heard(boot: string, seq: number): void {
    const highest = Math.max(seq, this.#seen.get(boot) ?? -1);
    this.#seen.delete(boot); // to the end of the order, which is that of the last words
    this.#seen.set(boot, highest);
    for (const [oldest] of this.#seen) {
      if (this.#seen.size <= MAX_BOOTS) break;
      this.#seen.delete(oldest);
    }
    for (const waiter of this.#waiters) {
      if (highest >= waiter.seq && waiter.missing.delete(boot) && waiter.missing.size === 0) waiter.resolve();
    }
  }

  /** Resolves when all of `boots` have said `seq` or more, `timeoutMs` after the call, or at the end. Never rejects. */
  async wait(seq: number, boots: readonly string[], timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const missing = new Set(boots.filter((boot) => (this.#seen.get(boot) ?? -1) < seq));
    if (missing.size === 0 || this.#closed) return;
    const settled = new AbortController();
    const waiter: Waiter = { seq, missing, resolve: () => settled.abort() };
    this.#waiters.add(waiter);
    await passed(deadline, settled.signal);
    this.#waiters.delete(waiter);
  }

  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiters) waiter.resolve();
  }
}

/** Timers count from the event loop's idea of now, which may be old, and so may fire early. */
async function passed(deadline: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && performance.now() < deadline) {
    await delay(Math.ceil(deadline - performance.now()), undefined, { signal }).catch(() => undefined);
  }
}
