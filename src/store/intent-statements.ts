/** Statements on intents (security S-20, S-25), common to every database. They run in the transaction they are given. */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Changes } from './changes.ts';
import { assertMayRotate, countLiveKeys } from './key-statements.ts';
import { intentRow, toIntent } from './rows.ts';
import type { Schema } from './schema.ts';
import type { StoreMacs } from './seal.ts';
import type { Announcement, Intent } from './store.ts';
import { damageIn, type Loaded } from './verified.ts';

type Db = Kysely<Schema>;

const QUOTA_RETRY_SECONDS = 10;

/** An intent that fails its seal is left out: it may name anybody's objects. */
export async function listIntents(db: Db, macs: StoreMacs): Promise<Loaded<readonly Intent[]>> {
  const rows = await db.selectFrom('intent').selectAll().orderBy('created_ms').orderBy('id').execute();
  const damage = await damageIn(db, macs, 'intent', rows);
  const broken = new Set(damage.map(({ row }) => row));
  return { value: rows.filter(({ id }) => !broken.has(id)).map(toIntent), damage };
}

/**
 * A second creation of the same key fails on its slot.
 *
 * @throws KmsError `conflict` when the vault holds or held a key with this id; `rate-limited` when it holds as many as it may
 */
export async function announceCreate(changes: Changes, intent: Announcement): Promise<void> {
  await assertRoom(changes, intent.vaultId);
  const taken = await changes.find('key', { vault_id: intent.vaultId, id: intent.keyId });
  if (taken !== undefined) throw new KmsError('conflict', 'the vault has or had a key with this id');
  await changes.insert('intent', intentRow(intent, 'create'));
}

/** Announced keys count; the transaction holds the head, so nobody else takes the last place. */
async function assertRoom({ db }: Changes, vaultId: string): Promise<void> {
  const { quota } = await db.selectFrom('vault').select('key_quota as quota').where('id', '=', vaultId).executeTakeFirstOrThrow();
  if (quota === null) return;
  const announced = await db
    .selectFrom('intent').select((of) => of.fn.countAll<number>().as('keys'))
    .where('vault_id', '=', vaultId).where('action', '=', 'create').executeTakeFirstOrThrow();
  if ((await countLiveKeys(db, vaultId)) + announced.keys < quota) return;
  throw new KmsError('rate-limited', `the vault may hold ${quota} keys, and does`, { retryAfter: QUOTA_RETRY_SECONDS });
}

/** @throws KmsError `not-found`, `wrong-state` */
export async function announceRotate(changes: Changes, intent: Announcement): Promise<void> {
  assertMayRotate(await changes.find('key', { vault_id: intent.vaultId, id: intent.keyId }));
  await changes.insert('intent', intentRow(intent, 'rotate'));
}

/** @throws KmsError `conflict` when the key is being destroyed already */
export async function announceDestroy(changes: Changes, intent: Announcement): Promise<void> {
  await changes.insert('intent', intentRow(intent, 'destroy'));
}

/**
 * Removes the announcement of material that is about to be committed. A reconciler that gave it up has said so, or
 * removed the row, before it touched the token: then the late commit must fail (design §7).
 *
 * @throws KmsError `conflict` then, and when the intent announced something else
 */
export async function redeem(
  changes: Changes,
  action: 'create' | 'rotate',
  intentId: string,
  vaultId: string,
  keyId: string,
): Promise<void> {
  const found = await changes.find('intent', { id: intentId });
  const fits = found?.state === 'announced' && found.action === action && found.vault_id === vaultId && found.key_id === keyId;
  if (!fits) throw new KmsError('conflict', 'the making of this key was given up');
  await changes.remove('intent', { id: intentId });
}

/** @throws KmsError `conflict` when it changed or is gone */
export async function abortIntent(changes: Changes, intentId: string, revision: number): Promise<void> {
  const there = await changes.update('intent', { id: intentId }, revision, { state: 'aborting' });
  if (!there) throw new KmsError('conflict', 'the intent is gone');
}

/** With a destroy intent go the objects it proves gone, and their counters; the version rows stay for reports. */
export async function removeIntent(changes: Changes, intentId: string): Promise<void> {
  const row = await changes.remove('intent', { id: intentId });
  if (row === undefined) return;
  const { action, objectIds } = toIntent(row);
  if (objectIds.length === 0) return;
  await changes.db.deleteFrom('invocation_counter').where('object_id', 'in', objectIds).execute();
  if (action !== 'destroy') return;
  const objects = await changes.db.selectFrom('key_object').selectAll().where('object_id', 'in', objectIds).execute();
  for (const { object_id, family } of objects) await changes.remove('key_object', { object_id, family });
}
