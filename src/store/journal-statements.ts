/** Statements on head and journal (integrity §4), common to every database. */

import type { Kysely } from 'kysely';
import type { HeadTable, JournalTable, Schema } from './schema.ts';
import { damaged, isSealed, journalMac, sameBytes, type StoreMacs } from './seal.ts';
import type { SealedTable } from './sealed-tables.ts';

type Db = Kysely<Schema>;

/** More parameters than this in one statement are not portable. */
const KEYS_AT_ONCE = 500;

export async function findHead(db: Db): Promise<HeadTable | undefined> {
  return db.selectFrom('head').selectAll().executeTakeFirst();
}

/** The head, locked until the transaction ends: whoever changes sealed rows takes turns here. */
export async function lockHead(db: Db, rowLocks: boolean): Promise<HeadTable | undefined> {
  return db.selectFrom('head').selectAll().$if(rowLocks, (query) => query.forUpdate()).executeTakeFirst();
}

/** @throws KmsError `integrity` for a head that is missing, forged, of another store, or closed for good */
export function checkedHead(macs: StoreMacs, head: HeadTable | undefined, storeId: string): HeadTable {
  const own = authenticHead(macs, head, storeId);
  if (own.status === 'moved') throw damaged('this store was moved: another one goes on from here');
  return own;
}

/** @throws KmsError `integrity` for a head that is missing, forged or of another store */
export function authenticHead(macs: StoreMacs, head: HeadTable | undefined, storeId: string): HeadTable {
  if (head === undefined) throw damaged('the store has no head');
  if (!isSealed(macs, 'head', { ...head })) throw damaged('the head of the store fails its seal');
  if (head.store_id !== storeId) throw damaged('this database is a copy: its head names another store');
  return head;
}

/** The newest journal entry of each of these rows. */
export async function latestSeqs(db: Db, table: SealedTable, keys: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const latest = new Map<string, number>();
  for (let from = 0; from < keys.length; from += KEYS_AT_ONCE) {
    const rows = await latestQuery(db, table, keys.slice(from, from + KEYS_AT_ONCE)).execute();
    for (const { pk, last } of rows) latest.set(pk, last);
  }
  return latest;
}

/** Apart from `latestSeqs` so that a test can ask the database for its plan; so is the next. */
export function latestQuery(db: Db, table: SealedTable, keys: readonly string[]) {
  return db
    .selectFrom('journal')
    .select(['pk', (of) => of.fn.max('seq').as('last')])
    .where('tbl', '=', table)
    .where('pk', 'in', keys)
    .groupBy('pk');
}

export function newestQuery(db: Db, table: SealedTable, pk: string) {
  return db.selectFrom('journal').select('canonical').where('tbl', '=', table).where('pk', '=', pk).orderBy('seq', 'desc').limit(1);
}

export async function findEntry(db: Db, seq: number): Promise<JournalTable | undefined> {
  return db.selectFrom('journal').selectAll().where('seq', '=', seq).executeTakeFirst();
}

export async function entriesAfter(db: Db, seq: number, limit: number): Promise<JournalTable[]> {
  return db.selectFrom('journal').selectAll().where('seq', '>', seq).orderBy('seq').limit(limit).execute();
}

/** The end of a verified stretch of the journal. */
export interface JournalEnd {
  readonly seq: number;
  readonly mac: Uint8Array;
}

/** Before the first entry. */
export const GENESIS: JournalEnd = { seq: 0, mac: new Uint8Array(32) };

/**
 * Follows the chain over entries that come next.
 * @returns the new end, or the seq of the first entry that does not belong
 */
export function followChain(macs: StoreMacs, from: JournalEnd, entries: readonly JournalTable[]): JournalEnd | { readonly badSeq: number } {
  let end = from;
  for (const entry of entries) {
    const fits = entry.seq === end.seq + 1 && sameBytes(entry.prev, end.mac) && sameBytes(entry.mac, journalMac(macs, entry));
    if (!fits) return { badSeq: end.seq + 1 };
    end = { seq: entry.seq, mac: entry.mac };
  }
  return end;
}
