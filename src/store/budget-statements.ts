/** Failure budgets: how often a principal failed with a key in the hour that is running. Outside seals and journal. */

import type { Kysely } from 'kysely';
import type { Schema } from './schema.ts';
import type { Failures } from './store.ts';

type Db = Kysely<Schema>;

const WINDOW_MS = 3_600_000;

export async function failures(db: Db, keyId: string, principal: string, nowMs: number): Promise<Failures> {
  const row = await db
    .selectFrom('failure_budget').selectAll().where('key_id', '=', keyId).where('principal', '=', principal).executeTakeFirst();
  if (row === undefined || nowMs - row.window_ms >= WINDOW_MS) return { count: 0, sinceLastMs: WINDOW_MS };
  return { count: row.failures, sinceLastMs: Math.max(0, nowMs - row.last_ms) };
}

/** One statement, so that no failure of two at once is lost. */
export async function noteFailure(db: Db, keyId: string, principal: string, nowMs: number): Promise<number> {
  const over = nowMs - WINDOW_MS;
  const { failures: total } = await db
    .insertInto('failure_budget')
    .values({ key_id: keyId, principal, window_ms: nowMs, last_ms: nowMs, failures: 1 })
    .onConflict((on) => on.columns(['key_id', 'principal']).doUpdateSet((of) => ({
      failures: of.case().when('failure_budget.window_ms', '<=', over).then(1).else(of('failure_budget.failures', '+', 1)).end(),
      window_ms: of.case().when('failure_budget.window_ms', '<=', over).then(nowMs).else(of.ref('failure_budget.window_ms')).end(),
      last_ms: nowMs,
    })))
    .returning('failures')
    .executeTakeFirstOrThrow();
  return total;
}

/** What nobody needs any more. */
export async function forgetFailures(db: Db, nowMs: number): Promise<void> {
  await db.deleteFrom('failure_budget').where('window_ms', '<=', nowMs - WINDOW_MS).execute();
}
