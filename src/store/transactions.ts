/**
 * How statements run: each write in one transaction, each read with its seals checked, and what a failing one throws
 * translated in one place.
 */

import type { Kysely } from 'kysely';
import { Changes, type ChangeContext } from './changes.ts';
import { meaning, unavailable, type Engine } from './engine.ts';
import type { Damage } from './evidence.ts';
import { HeadKeeper } from './head.ts';
import type { Schema } from './schema.ts';
import { damaged, type StoreMacs } from './seal.ts';
import { type Loaded, loadSteadily } from './verified.ts';

type Db = Kysely<Schema>;

export class Transactions {
  readonly heads: HeadKeeper;
  readonly #engine: Engine;
  readonly #bootId: string;
  readonly #running = new Set<Promise<unknown>>();
  readonly #reported = new Set<string>();
  #macs: StoreMacs | undefined;
  #report: (damage: Damage) => void = () => undefined;
  #closed = false;

  /** @param bootId names this process, and its audit stream, in the journal */
  constructor(engine: Engine, bootId: string) {
    this.#engine = engine;
    this.#bootId = bootId;
    this.heads = new HeadKeeper(engine);
  }

  /** From here on rows can be read and written. */
  unlock(macs: StoreMacs): void {
    this.#macs = macs;
  }

  onDamage(report: (damage: Damage) => void): void {
    this.#report = report;
  }

  /** Reports each damage once. */
  tell(damage: Damage): void {
    const name = JSON.stringify(damage);
    if (this.#reported.has(name)) return;
    this.#reported.add(name);
    this.#report(damage);
  }

  /** @throws KmsError `store-unavailable` */
  assertOpen(): void {
    if (this.#closed) throw unavailable('the store is closed');
  }

  /** @throws KmsError `store-unavailable` when it is not verified yet */
  macs(): StoreMacs {
    if (this.#macs === undefined) throw unavailable('the store is not verified yet');
    return this.#macs;
  }

  context(macs: StoreMacs, storeId: string): ChangeContext {
    const { rowLocks } = this.#engine;
    return { macs, storeId, rowLocks, stream: this.#bootId, nowMs: (db) => this.#engine.nowMs(db) };
  }

  /** Something of which no part may be damaged. @throws KmsError `integrity` */
  whole<T>(load: (db: Db, macs: StoreMacs) => Promise<Loaded<T>>): Promise<T> {
    return this.guard(() => this.#loadWhole(load));
  }

  /** A collection, from which the load left out what is damaged. */
  partly<T>(load: (db: Db, macs: StoreMacs) => Promise<Loaded<T>>): Promise<T> {
    return this.guard(async () => (await this.#load(load)).value);
  }

  /** A change of sealed rows; its head is known here as soon as it has committed. */
  change<T>(requestId: string, work: (changes: Changes) => Promise<T>): Promise<T> {
    return this.guard(() => this.#commit(requestId, work));
  }

  /** A change, and what it left; the end of the store waits for both steps. */
  changeAndLoad<T>(
    requestId: string,
    work: (changes: Changes) => Promise<void>,
    load: (db: Db, macs: StoreMacs) => Promise<Loaded<T>>,
  ): Promise<T> {
    return this.guard(async () => {
      await this.#commit(requestId, work);
      return this.#loadWhole(load);
    });
  }

  /** A transaction on rows outside the journal. */
  write<T>(work: (db: Db, macs: StoreMacs) => Promise<T>): Promise<T> {
    return this.transaction((db) => work(db, this.macs()));
  }

  /** Of a store that need not be verified. */
  transaction<T>(work: (db: Db) => Promise<T>): Promise<T> {
    return this.guard(() => this.#engine.writer.transaction().execute(work));
  }

  /** @throws KmsError in place of whatever the database throws */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    this.assertOpen();
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } catch (error) {
      throw meaning(this.#engine, error);
    } finally {
      this.#running.delete(running);
    }
  }

  /** Refuses new work and lets the running end. @returns false when it did before */
  async close(): Promise<boolean> {
    if (this.#closed) return false;
    this.#closed = true;
    await Promise.allSettled(this.#running);
    return true;
  }

  async #commit<T>(requestId: string, work: (changes: Changes) => Promise<T>): Promise<T> {
    const macs = this.macs();
    this.heads.assertSound();
    const context = this.context(macs, this.heads.known().storeId);
    const { value, head } = await this.#engine.writer.transaction().execute(async (db) => {
      const changes = await Changes.begin(db, context, requestId);
      this.heads.assertFollows(changes.head);
      const result = await work(changes);
      const after = await changes.finish();
      await this.#engine.announce(db, after.seq);
      return { value: result, head: after };
    });
    this.heads.committed(head);
    return value;
  }

  async #loadWhole<T>(load: (db: Db, macs: StoreMacs) => Promise<Loaded<T>>): Promise<T> {
    const { value, damage } = await this.#load(load);
    const [first] = damage;
    if (first === undefined) return value;
    throw damaged(`${first.table} ${first.row}: the stored row is damaged`);
  }

  async #load<T>(load: (db: Db, macs: StoreMacs) => Promise<Loaded<T>>): Promise<Loaded<T>> {
    const macs = this.macs();
    this.heads.assertSound();
    const loaded = await loadSteadily(() => load(this.#engine.reader, macs));
    loaded.damage.forEach((of) => { this.tell(of); });
    return loaded;
  }
}
