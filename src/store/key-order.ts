/** Reading a table in the order of its primary key, a stretch at a time; common to every database. */

import { type Kysely, sql } from 'kysely';
import type { Schema } from './schema.ts';
import type { AnyRow, Value } from './sealed-tables.ts';

type AnyDb = Kysely<Record<string, AnyRow>>;

/**
 * Rows after a primary key. Compared as a whole: spelt out with `or`, both databases walk over all rows before it.
 *
 * @param key columns of the primary key @param after their values; none for the start of the table
 */
export function stretchQuery(db: Kysely<Schema>, table: keyof Schema, key: readonly string[], after: readonly Value[], limit: number) {
  const all = (db as unknown as AnyDb).selectFrom(table as string).selectAll().limit(limit);
  const ordered = key.reduce((query, name) => query.orderBy(name), all);
  if (after.length === 0) return ordered;
  return ordered.where(sql<boolean>`(${sql.join(key.map((name) => sql.ref(name)))}) > (${sql.join(after)})`);
}
