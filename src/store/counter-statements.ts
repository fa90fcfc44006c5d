/**
 * Durable invocation counters (security P-10), common to every database. They count invocations and give out no
 * numbers: IVs are random, so that what was reserved and not used may be given back.
 */

import type { Kysely } from 'kysely';
import type { Schema } from './schema.ts';

type Db = Kysely<Schema>;

/**
 * @param rowLocks whether a read row must be locked against other writers, because transactions run side by side
 * @returns how many of `count` fit under `limit`, and the total reserved with them
 */
export async function reserve(
  db: Db,
  rowLocks: boolean,
  objectId: string,
  count: number,
  limit: number,
): Promise<{ readonly granted: number; readonly total: number }> {
  await db
    .insertInto('invocation_counter')
    .values({ object_id: objectId, reserved: 0 })
    .onConflict((on) => on.doNothing())
    .execute();
  const { reserved } = await db
    .selectFrom('invocation_counter')
    .select('reserved')
    .where('object_id', '=', objectId)
    .$if(rowLocks, (query) => query.forUpdate())
    .executeTakeFirstOrThrow();
  const granted = Math.max(0, Math.min(count, limit - reserved));
  if (granted > 0) await add(db, objectId, granted);
  return { granted, total: reserved + granted };
}

async function add(db: Db, objectId: string, count: number): Promise<void> {
  await db
    .updateTable('invocation_counter')
    .set((of) => ({ reserved: of('reserved', '+', count) }))
    .where('object_id', '=', objectId)
    .execute();
}

/** Never below zero, whatever is given back; without effect once the object is destroyed. */
export async function giveBack(db: Db, objectId: string, count: number): Promise<void> {
  await db
    .updateTable('invocation_counter')
    .set((of) => ({ reserved: of('reserved', '-', count) }))
    .where('object_id', '=', objectId)
    .where('reserved', '>=', count)
    .execute();
}

/**
 * Of a store that lost an unknown number of reservations: every counter rises by `margin` above what it or the audit
 * says. @returns how many there are
 */
export async function raiseAll(
  db: Db,
  totals: Readonly<Record<string, number>>,
  objectIds: readonly string[],
  margin: number,
): Promise<number> {
  for (const objectId of objectIds) {
    await db.insertInto('invocation_counter').values({ object_id: objectId, reserved: 0 }).onConflict((on) => on.doNothing()).execute();
  }
  await raise(db, totals);
  const { numUpdatedRows } = await db
    .updateTable('invocation_counter').set((of) => ({ reserved: of('reserved', '+', margin) })).executeTakeFirstOrThrow();
  return Number(numUpdatedRows);
}

/** @returns how many counters were below the total that the audit saw reserved */
export async function raise(db: Db, totals: Readonly<Record<string, number>>): Promise<number> {
  let raised = 0;
  for (const [objectId, total] of Object.entries(totals)) {
    const { numUpdatedRows } = await db
      .updateTable('invocation_counter')
      .set({ reserved: total })
      .where('object_id', '=', objectId)
      .where('reserved', '<', total)
      .executeTakeFirstOrThrow();
    raised += Number(numUpdatedRows);
  }
  return raised;
}
