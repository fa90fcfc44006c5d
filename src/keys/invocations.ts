/**
 * The durable count of AES-GCM encryptions under one token object (SP 800-38D §8.3, security P-10). Blocks are
 * reserved in the store before they are used, so that a killed process can only lose invocations, never repeat them.
 */

import { KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import type { Origin } from './key.ts';

const FIRST_BLOCK = 256;
const LARGEST_BLOCK = 65_536;

interface Block {
  left: number;
  size: number;
  reserving: Promise<void> | undefined;
}

/** Imported material may have been used elsewhere before. One invocation less for the proof. */
function limitOf(origin: Origin): number {
  return (origin === 'generated' ? 2 ** 32 : 2 ** 31) - 1;
}

export class Invocations {
  readonly #store: Pick<KeyStore, 'reserveInvocations' | 'returnInvocations'>;
  readonly #blocks = new Map<string, Block>();
  #news: Record<string, number> = {};
  #reserved = 0;

  constructor(store: Pick<KeyStore, 'reserveInvocations' | 'returnInvocations'>) {
    this.#store = store;
  }

  /** Invocations reserved since the start. */
  get reserved(): number {
    return this.#reserved;
  }

  /** Totals by object that were reserved since the last call, for the audit: a store that goes back is found out. */
  takeNews(): Readonly<Record<string, number>> {
    const news = this.#news;
    this.#news = {};
    return news;
  }

  /** @throws KmsError `key-exhausted` when the object may encrypt no more; decryption is unaffected */
  async take(objectId: string, origin: Origin): Promise<void> {
    const block = this.#block(objectId);
    while (block.left === 0) {
      block.reserving ??= this.#reserve(objectId, block, limitOf(origin)).finally(() => { block.reserving = undefined; });
      await block.reserving;
    }
    block.left -= 1;
  }

  /** Gives the rest back; to be called once, when nothing encrypts any more. */
  async close(): Promise<void> {
    for (const [objectId, block] of this.#blocks) {
      const { left } = block;
      block.left = 0;
      if (left > 0) await this.#store.returnInvocations(objectId, left);
    }
  }

  #block(objectId: string): Block {
    const known = this.#blocks.get(objectId);
    if (known !== undefined) return known;
    const block: Block = { left: 0, size: FIRST_BLOCK, reserving: undefined };
    this.#blocks.set(objectId, block);
    return block;
  }

  async #reserve(objectId: string, block: Block, limit: number): Promise<void> {
    const { granted, total } = await this.#store.reserveInvocations(objectId, block.size, limit);
    this.#news[objectId] = total;
    if (granted === 0) throw new KmsError('key-exhausted', 'the key reached its limit of encryptions: use a new key');
    block.left += granted;
    block.size = Math.min(block.size * 2, LARGEST_BLOCK);
    this.#reserved += granted;
  }
}
