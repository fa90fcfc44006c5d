/**
 * Rows on their way from one store to another, byte for byte as they are: seals and macs hold wherever a row stands.
 * Read and written in stretches, so that a million of them are never in memory together. The head is not among them:
 * it names its store, and is written last. Nor are `duty`, as nobody of the old store has one in the new, and
 * `failure_budget`, which lasts an hour.
 */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { stretchQuery } from './key-order.ts';
import type { Schema } from './schema.ts';
import { type AnyRow, SEALED_TABLES, TABLES } from './sealed-tables.ts';

type Db = Kysely<Schema>;
type AnyDb = Kysely<Record<string, AnyRow>>;

/** Nothing of them moves. */
const PASSING = ['duty', 'failure_budget'] as const;

export type TransferTable = Exclude<keyof Schema, 'head' | (typeof PASSING)[number]>;

/** Rows of one table. */
export interface Batch {
  readonly table: TransferTable;
  readonly rows: readonly AnyRow[];
}

/** In an order in which foreign keys hold. */
export const TRANSFER_TABLES: readonly TransferTable[] = [
  ...SEALED_TABLES, 'journal', 'process', 'invocation_counter', 'pin_latch',
];

/** Columns of the primary key, by which a table is read. */
const KEYS: Readonly<Record<TransferTable, readonly string[]>> = {
  ...(Object.fromEntries(SEALED_TABLES.map((table) => [table, TABLES[table].key])) as Record<(typeof SEALED_TABLES)[number], readonly string[]>),
  journal: ['seq'],
  process: TABLES.process.key,
  invocation_counter: ['object_id'],
  pin_latch: ['host_id'],
};

const STRETCH = 500;

/** Every table, in stretches. @param db a snapshot: the tables must be of one moment */
export async function* readTables(db: Db): AsyncGenerator<Batch> {
  for (const table of TRANSFER_TABLES) {
    for (let rows = await stretchAfter(db, table, undefined); rows.length > 0;) {
      yield { table, rows };
      rows = rows.length < STRETCH ? [] : await stretchAfter(db, table, rows.at(-1));
    }
  }
}

async function stretchAfter(db: Db, table: TransferTable, last: AnyRow | undefined): Promise<AnyRow[]> {
  const key = KEYS[table];
  return stretchQuery(db, table, key, last === undefined ? [] : key.map((name) => last[name] ?? null), STRETCH).execute();
}

export async function writeBatch(db: Db, { table, rows }: Batch): Promise<void> {
  for (let from = 0; from < rows.length; from += STRETCH) {
    await (db as unknown as AnyDb).insertInto(table).values(rows.slice(from, from + STRETCH)).execute();
  }
}

/** Tables of ours; any other is somebody else's. */
const OWN: ReadonlySet<string> = new Set([...TRANSFER_TABLES, 'head', ...PASSING, 'kysely_migration', 'kysely_migration_lock']);

/** @throws KmsError `conflict` when the database holds a table that is not ours */
export async function assertNoStrangers(db: Db): Promise<void> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  const stranger = tables.find(({ name }) => !OWN.has(name));
  if (stranger !== undefined) throw notEmpty(`it holds the table ${stranger.name}`);
}

/** @returns the first table that holds a row; duties are nobody's rows */
export async function firstFilled(db: Db): Promise<string | undefined> {
  for (const table of ['head', ...TRANSFER_TABLES] as const) {
    const row = await (db as unknown as AnyDb).selectFrom(table as string).selectAll().limit(1).executeTakeFirst();
    if (row !== undefined) return table;
  }
  return undefined;
}

/** @throws KmsError `conflict` */
export async function assertEmpty(db: Db): Promise<void> {
  const table = await firstFilled(db);
  if (table !== undefined) throw notEmpty(`its table ${table} has rows`);
}

/** Removes every row. */
export async function clear(db: Db): Promise<void> {
  for (const table of ['head', ...PASSING, ...TRANSFER_TABLES.toReversed()] as const) {
    await (db as unknown as AnyDb).deleteFrom(table).execute();
  }
}

function notEmpty(why: string): KmsError {
  return new KmsError('conflict', `the target is not empty: ${why}`);
}
