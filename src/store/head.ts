/**
 * What this process knows of the store's head. It only ever moves forwards along one chain: a head that goes back or
 * stands beside what was known, here or to any other witness, means that the store was rolled back or forked, and
 * nothing is served from it again (integrity §4).
 */

import type { Kysely } from 'kysely';
import type { KmsError } from '../errors.ts';
import type { Finished } from './changes.ts';
import type { Engine } from './engine.ts';
import type { Head, Witness, WitnessVerdict } from './evidence.ts';
import { checkedHead, entriesAfter, findEntry, findHead, followChain, GENESIS } from './journal-statements.ts';
import type { HeadTable, Schema } from './schema.ts';
import { damaged, sameBytes, type StoreMacs } from './seal.ts';
import { unavailable } from './engine.ts';

type Db = Kysely<Schema>;

/** Newest journal entries that are verified at start. */
const NEWEST = 200;

export class HeadKeeper {
  readonly #engine: Engine;
  #macs: StoreMacs | undefined;
  #storeId = '';
  #known: Head | undefined;
  #fault: KmsError | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** The head of a store that is about to get its first rows. */
  first(storeId: string): HeadTable {
    const counts = { live_rows: 0, tombstones: 0 };
    const { seq, mac } = GENESIS;
    return { singleton: 1, epoch: 1, seq, mac, key_epoch: 1, ...counts, store_id: storeId, status: 'serving', seal: mac };
  }

  /**
   * Verifies head and newest entries.
   * @param copies whether the head may name another store than the one it lies in
   * @throws KmsError `integrity`
   */
  async unlock(macs: StoreMacs, copies: 'refused' | 'accepted' = 'refused'): Promise<void> {
    const here = await this.#engine.storeId();
    this.#macs = macs;
    this.#known = await this.#engine.snapshot(async (db) => {
      const found = await findHead(db);
      const head = checkedHead(macs, found, copies === 'accepted' ? (found?.store_id ?? here) : here);
      await verifyNewest(db, macs, head);
      this.#storeId = head.store_id;
      return toHead(head);
    });
  }

  /** @throws KmsError `store-unavailable` before `unlock` */
  known(): Head {
    if (this.#known === undefined) throw unavailable('the store is not verified yet');
    return this.#known;
  }

  /** @throws KmsError `integrity` once the store was seen to have gone back or beside */
  assertSound(): void {
    if (this.#fault !== undefined) throw this.#fault;
  }

  /** The head that a transaction found must not be behind what is known. @throws KmsError `integrity` */
  assertFollows(head: HeadTable): void {
    const { epoch, seq, mac } = this.known();
    const behind = head.epoch < epoch || (head.epoch === epoch && head.seq < seq);
    const beside = head.epoch === epoch && head.seq === seq && !sameBytes(head.mac, mac);
    if (behind || beside) throw this.#condemn(behind ? 'rolled-back' : 'forked');
  }

  committed({ seq, mac, epoch, storeId }: Finished): void {
    const known = this.known();
    if (seq > known.seq) this.#known = { ...known, seq, mac, epoch, storeId };
    this.#storeId = storeId;
    this.#engine.committed(seq);
  }

  async poll(): Promise<Head> {
    this.assertSound();
    const [macs, before] = [this.#macs, this.known()];
    if (macs === undefined) throw unavailable('the store is not verified yet');
    try {
      const { head, verdict } = await this.#engine.snapshot(async (db) => {
        const found = checkedHead(macs, await findHead(db), await this.#engine.storeId());
        return { head: toHead(found), verdict: await judge(db, found, before) };
      });
      if (verdict === 'rolled-back' || verdict === 'forked') throw this.#condemn(verdict);
      if (head.seq > this.known().seq || head.epoch > before.epoch) this.#known = head;
      return head;
    } catch (error) {
      throw this.#remember(error);
    }
  }

  examine(witness: Witness): Promise<WitnessVerdict> {
    const macs = this.#macs;
    if (macs === undefined) throw unavailable('the store is not verified yet');
    return this.#engine.snapshot(async (db) => judge(db, checkedHead(macs, await findHead(db), this.#storeId), witness));
  }

  #condemn(verdict: 'rolled-back' | 'forked'): KmsError {
    const what = verdict === 'forked' ? 'was forked: its journal is not the one seen before' : 'was rolled back while it ran';
    this.#fault = damaged(`the store ${what}; see \`kms store accept-rollback\``);
    return this.#fault;
  }

  #remember(error: unknown): unknown {
    const { code } = error as Partial<KmsError>;
    if (code === 'integrity') this.#fault ??= error as KmsError;
    return error;
  }
}

function toHead({ store_id, epoch, seq, mac, live_rows, tombstones }: HeadTable): Head {
  return { storeId: store_id, epoch, seq, mac, liveRows: live_rows, tombstones };
}

export async function judge(db: Db, head: Pick<HeadTable, 'epoch' | 'seq'>, { epoch, seq, mac }: Witness): Promise<WitnessVerdict> {
  if (epoch < head.epoch) return 'past';
  if (epoch > head.epoch || seq > head.seq) return 'rolled-back';
  if (seq === 0) return 'consistent';
  const entry = await findEntry(db, seq);
  return entry !== undefined && sameBytes(entry.mac, mac) ? 'consistent' : 'forked';
}

async function verifyNewest(db: Db, macs: StoreMacs, head: HeadTable): Promise<void> {
  const from = Math.max(0, head.seq - NEWEST);
  const before = from === 0 ? undefined : await findEntry(db, from);
  if (from > 0 && before === undefined) throw damaged(`the journal has no entry ${from}`);
  const end = followChain(macs, before ?? GENESIS, await entriesAfter(db, from, NEWEST + 1));
  if ('badSeq' in end) throw damaged(`the journal was altered at entry ${end.badSeq}`);
  if (end.seq !== head.seq || !sameBytes(end.mac, head.mac)) throw damaged('the journal does not end where the head says');
}
