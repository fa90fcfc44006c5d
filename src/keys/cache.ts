/**
 * What the store said, remembered only while nothing was committed since, by this process or any other: a restriction
 * acknowledged anywhere is effective here at once (design §7).
 */

import type { KeyStore } from '../store/store.ts';

interface Entry<T> {
  readonly value: T;
  readonly counter: number;
}

/** The store's change counter, read at most once per turn of the event loop: every request of a turn may share it. */
export class ChangeWatch {
  readonly #store: Pick<KeyStore, 'changeCounter'>;
  #counter: number | undefined;

  constructor(store: Pick<KeyStore, 'changeCounter'>) {
    this.#store = store;
  }

  /** @throws KmsError `store-unavailable` */
  current(): number {
    if (this.#counter === undefined) {
      this.#counter = this.#store.changeCounter();
      setImmediate(() => { this.#counter = undefined; });
    }
    return this.#counter;
  }

  /** After a commit of our own, before the turn ends. */
  forget(): void {
    this.#counter = undefined;
  }
}

export class FreshCache<T> {
  readonly #watch: ChangeWatch;
  readonly #limit: number;
  readonly #entries = new Map<string, Entry<T>>();

  /** @param limit entries kept; the longest unread go first */
  constructor(watch: ChangeWatch, limit: number) {
    this.#watch = watch;
    this.#limit = limit;
  }

  async get(key: string, load: () => Promise<T>): Promise<T> {
    const counter = this.#watch.current();
    const cached = this.#entries.get(key);
    if (cached?.counter === counter) return cached.value;
    // The counter was read before the row: a commit in between makes the entry stale, never wrong.
    const value = await load();
    this.#entries.delete(key);
    this.#entries.set(key, { value, counter });
    if (this.#entries.size > this.#limit) this.#dropOldest();
    return value;
  }

  #dropOldest(): void {
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}
