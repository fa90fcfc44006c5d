/** Statements on intents (security S-20, S-25), common to every database. They run in the transaction they are given. */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { FIRST_REVISION, intentRow, toIntent } from './rows.ts';
import type { Schema } from './schema.ts';
import type { Intent } from './store.ts';

type Db = Kysely<Schema>;

export async function listIntents(db: Db): Promise<Intent[]> {
  const rows = await db.selectFrom('intent').selectAll().orderBy('created_ms').orderBy('id').execute();
  return rows.map(toIntent);
}

/**
 * A second intent of the same action for the same key fails on its unique index.
 *
 * @throws KmsError `conflict` when the vault holds or held a key with this id
 */
export async function announceCreate(db: Db, intent: Omit<Intent, 'revision' | 'action'>): Promise<void> {
  const taken = await db
    .selectFrom('key')
    .select('id')
    .where('vault_id', '=', intent.vaultId)
    .where('id', '=', intent.keyId)
    .executeTakeFirst();
  if (taken !== undefined) throw new KmsError('conflict', 'the vault has or had a key with this id');
  await insertIntent(db, { ...intent, action: 'create' });
}

export async function insertIntent(db: Db, intent: Omit<Intent, 'revision'>): Promise<void> {
  await db.insertInto('intent').values(intentRow(intent)).execute();
}

/**
 * Removes the announcement of a key that is about to be committed. A reconciler that gave the creation up has raised
 * the revision, or removed the row, before it touched the token: then the late commit must fail (design §7).
 *
 * @throws KmsError `conflict` then, and when the intent announced another key
 */
export async function redeemCreate(db: Db, intentId: string, vaultId: string, keyId: string): Promise<void> {
  const { numDeletedRows } = await db
    .deleteFrom('intent')
    .where('id', '=', intentId)
    .where('revision', '=', FIRST_REVISION)
    .where('action', '=', 'create')
    .where('vault_id', '=', vaultId)
    .where('key_id', '=', keyId)
    .executeTakeFirstOrThrow();
  if (numDeletedRows !== 1n) throw new KmsError('conflict', 'the creation of this key was given up');
}

/** With a destroy intent go the objects it proves gone, and their counters; the version rows stay for reports. */
export async function removeIntent(db: Db, intentId: string): Promise<void> {
  const row = await db.selectFrom('intent').selectAll().where('id', '=', intentId).executeTakeFirst();
  if (row === undefined) return;
  await db.deleteFrom('intent').where('id', '=', intentId).execute();
  const { action, objectIds } = toIntent(row);
  if (action !== 'destroy' || objectIds.length === 0) return;
  await db.deleteFrom('key_object').where('object_id', 'in', objectIds).execute();
  await db.deleteFrom('invocation_counter').where('object_id', 'in', objectIds).execute();
}
