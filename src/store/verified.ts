/**
 * Reading of sealed rows: none is believed before its seal is checked, and its place in the journal. A row and its
 * journal entry are read by two statements, so a difference that a change in between explains is read again.
 */

import type { Kysely } from 'kysely';
import type { Damage } from './evidence.ts';
import { latestSeqs, newestQuery } from './journal-statements.ts';
import type { Schema } from './schema.ts';
import { isSealed, type StoreMacs } from './seal.ts';
import { type AnyRow, keyText, type SealedTable } from './sealed-tables.ts';

type Db = Kysely<Schema>;

/** What a load found, and what of it cannot be believed. */
export interface Loaded<T> {
  readonly value: T;
  readonly damage: readonly Damage[];
}

/** Another change of the same rows in the moment between two statements, several times over, is not chance. */
const ATTEMPTS = 6;

/** Reasons that a change between two statements explains. */
const RACES: ReadonlySet<Damage['reason']> = new Set(['superseded', 'parts', 'removed']);

export async function loadSteadily<T>(load: () => Promise<Loaded<T>>): Promise<Loaded<T>> {
  for (let attempt = 1; ; attempt += 1) {
    const loaded = await load();
    const raced = loaded.damage.some(({ reason }) => RACES.has(reason));
    if (!raced || attempt === ATTEMPTS) return loaded;
  }
}

/** @returns what is wrong with these rows of one table; nothing when each is the newest that was written */
export async function damageIn(db: Db, macs: StoreMacs, table: SealedTable, rows: readonly object[]): Promise<Damage[]> {
  const found = rows as readonly AnyRow[];
  const latest = await latestSeqs(db, table, found.map((row) => keyText(table, row)));
  return found.flatMap((row): Damage[] => {
    const pk = keyText(table, row);
    if (!isSealed(macs, table, row)) return [{ table, row: pk, reason: 'seal' }];
    return latest.get(pk) === row['seq'] ? [] : [{ table, row: pk, reason: 'superseded' }];
  });
}

/** Seals alone, for rows for which another one speaks. */
export function brokenSeals(macs: StoreMacs, table: SealedTable, rows: readonly object[]): Damage[] {
  return (rows as readonly AnyRow[])
    .filter((row) => !isSealed(macs, table, row))
    .map((row) => ({ table, row: keyText(table, row), reason: 'seal' }));
}

/** Rows of a small table that the journal knows, nobody removed, and are not among these. */
export async function missingRows(db: Db, table: SealedTable, rows: readonly object[]): Promise<Damage[]> {
  const there = new Set((rows as readonly AnyRow[]).map((row) => keyText(table, row)));
  const known = await db.selectFrom('journal').select('pk').distinct().where('tbl', '=', table).execute();
  const damage: Damage[] = [];
  for (const { pk } of known) {
    if (!there.has(pk) && (await wasRemoved(db, table, pk))) damage.push({ table, row: pk, reason: 'removed' });
  }
  return damage;
}

/** Whether the journal knows a row under this key that nobody removed: then its absence is damage. */
export async function wasRemoved(db: Db, table: SealedTable, pk: string): Promise<boolean> {
  const newest = await newestQuery(db, table, pk).executeTakeFirst();
  return newest !== undefined && newest.canonical !== null;
}
