/**
 * The KeyStore over any engine. Each write is one transaction; what a failing one throws is translated in one place.
 * The statements themselves stand by subject in the `…-statements.ts` beside this file.
 */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Assignment, KeyState } from '../keys/key.ts';
import * as access from './access-statements.ts';
import * as counters from './counter-statements.ts';
import { meaning, unavailable, type Engine } from './engine.ts';
import * as intents from './intent-statements.ts';
import { changedColumns } from './key-rows.ts';
import * as keys from './key-statements.ts';
import type { Schema } from './schema.ts';
import type { Intent, KeyChange, KeyPage, KeyStore, NewKey, NewVersion } from './store.ts';

type Db = Kysely<Schema>;
type Tombstone = Parameters<KeyStore['beginDestroy']>[3];

export class StatementStore implements KeyStore {
  readonly #engine: Engine;
  readonly #running = new Set<Promise<unknown>>();
  #closed = false;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  installation() {
    return this.#read((db) => access.findInstallation(db));
  }

  createInstallation(rows: access.FirstRows) {
    return this.#write((db) => access.insertInstallation(db, rows));
  }

  vaults() {
    return this.#read((db) => access.listVaults(db));
  }

  credential(issuerKeyHash: string, serial: string) {
    return this.#read((db) => access.findCredential(db, issuerKeyHash, serial));
  }

  assignments(method: Assignment['method'], issuer: string, subject: string) {
    return this.#read((db) => access.findAssignments(db, method, issuer, subject));
  }

  findKey(vaultId: string, keyId: string) {
    return this.#read((db) => keys.findKey(db, vaultId, keyId));
  }

  listKeys(page: KeyPage) {
    return this.#read((db) => keys.listKeys(db, page));
  }

  countLiveKeys() {
    return this.#read((db) => keys.countLiveKeys(db));
  }

  beginCreate(intent: Omit<Intent, 'revision' | 'action'>) {
    return this.#write((db) => intents.announceCreate(db, intent));
  }

  commitCreate(intentId: string, key: NewKey, version: NewVersion) {
    return this.#write(async (db) => {
      await intents.redeemCreate(db, intentId, key.vaultId, key.id);
      await this.#lockVault(db, key.vaultId);
      return keys.insertKey(db, key, version);
    });
  }

  removeIntent(intentId: string) {
    return this.#write((db) => intents.removeIntent(db, intentId));
  }

  intents() {
    return this.#read((db) => intents.listIntents(db));
  }

  updateKey(vaultId: string, keyId: string, revision: number, change: KeyChange) {
    return this.#write((db) => {
      if (isTombstone(change.state)) throw new KmsError('internal', 'only beginDestroy makes a tombstone');
      return keys.changeKey(db, vaultId, keyId, revision, changedColumns(change));
    });
  }

  beginDestroy(
    vaultId: string,
    keyId: string,
    revision: number,
    tombstone: Tombstone,
    intent: Omit<Intent, 'revision' | 'action' | 'vaultId' | 'keyId'>,
  ) {
    const columns = { state: tombstone.state, destroyed_ms: tombstone.destroyedMs, live_name: null };
    return this.#write(async (db) => {
      const key = await keys.changeKey(db, vaultId, keyId, revision, columns);
      await intents.insertIntent(db, { ...intent, action: 'destroy', vaultId, keyId });
      return key;
    });
  }

  reserveInvocations(objectId: string, count: number, limit: number) {
    return this.#write((db) => counters.reserve(db, this.#engine.rowLocks, objectId, count, limit));
  }

  returnInvocations(objectId: string, count: number) {
    return this.#write((db) => counters.giveBack(db, objectId, count));
  }

  changeCounter(): number {
    if (this.#closed) throw closed();
    try {
      return this.#engine.changeCounter();
    } catch (error) {
      throw meaning(this.#engine, error);
    }
  }

  ping() {
    return this.#guard(() => this.#engine.ping());
  }

  /** Refuses new work, lets the running end, closes. Idempotent. */
  async close() {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#running);
    await this.#engine.close();
  }

  /** Ordinals of a vault are given out one at a time. */
  async #lockVault(db: Db, vaultId: string) {
    if (!this.#engine.rowLocks) return;
    await db.selectFrom('vault').select('id').where('id', '=', vaultId).forUpdate().execute();
  }

  #read<T>(work: (db: Db) => Promise<T>): Promise<T> {
    return this.#guard(() => work(this.#engine.reader));
  }

  #write<T>(work: (db: Db) => Promise<T>): Promise<T> {
    return this.#guard(() => this.#engine.writer.transaction().execute(work));
  }

  async #guard<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw closed();
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
}

function isTombstone(state: KeyState | undefined): boolean {
  return state === 'destroyed' || state === 'destroyed_compromised';
}

function closed(): KmsError {
  return unavailable('the store is closed');
}
