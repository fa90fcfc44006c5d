/**
 * The journal is the outbox of the audit (design §7): each entry names the request that made it, until the audit holds
 * the outcome of that request. Marked in the background, many at a time: a mark that is lost costs a look at the
 * stream, and no second record.
 */

import type { KeyStore } from '../store/store.ts';

const AT_ONCE = 200;

export class Outbox {
  readonly #store: Pick<KeyStore, 'markRecorded'>;
  readonly #bootId: string;
  #recorded: string[] = [];

  constructor(store: Pick<KeyStore, 'markRecorded'>, bootId: string) {
    this.#store = store;
    this.#bootId = bootId;
  }

  recorded(requestId: string): void {
    this.#recorded.push(requestId);
  }

  /** @throws KmsError `store-unavailable`; nothing is forgotten then */
  async flush(): Promise<void> {
    while (this.#recorded.length > 0) {
      const part = this.#recorded.slice(0, AT_ONCE);
      await this.#store.markRecorded(this.#bootId, part);
      this.#recorded.splice(0, part.length);
    }
  }
}
