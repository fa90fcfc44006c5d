/** Statements on keys, versions and objects, common to every database. Each takes the connection or transaction to run on. */

import type { Kysely, SelectQueryBuilder } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Key } from '../keys/key.ts';
import { keyRow, objectRow, toKeys, versionRow } from './key-rows.ts';
import type { KeyTable, Schema } from './schema.ts';
import type { KeyPage, NewKey, NewVersion } from './store.ts';

type Db = Kysely<Schema>;

export async function findKey(db: Db, vaultId: string, keyId: string): Promise<Key | undefined> {
  const one = db.selectFrom('key').selectAll().where('vault_id', '=', vaultId).where('id', '=', keyId);
  const [key] = toKeys(await withVersions(db, one).execute());
  return key;
}

export async function listKeys(db: Db, page: KeyPage): Promise<Key[]> {
  if (page.states.length === 0) return []; // `in ()` is not SQL everywhere
  return toKeys(await pageQuery(db, page).execute());
}

/** Apart from `listKeys` so that a test can ask the database for its plan. */
export function pageQuery(db: Db, page: KeyPage) {
  const keys = db
    .selectFrom('key')
    .selectAll()
    .where('vault_id', '=', page.vaultId)
    .where('ordinal', '>', page.afterOrdinal)
    .where('state', 'in', page.states)
    .orderBy('ordinal')
    .limit(page.limit);
  return withVersions(db, keys);
}

/** The join leaves out versions of tombstones, as the contract says. */
function withVersions(db: Db, keys: SelectQueryBuilder<Schema, 'key', KeyTable>) {
  return db
    .selectFrom(keys.as('k'))
    .leftJoin('key_version as v', (join) =>
      join.onRef('v.vault_id', '=', 'k.vault_id').onRef('v.key_id', '=', 'k.id').on('k.live_name', 'is not', null),
    )
    .leftJoin('key_object as o', (join) =>
      join
        .onRef('o.vault_id', '=', 'v.vault_id')
        .onRef('o.key_id', '=', 'v.key_id')
        .onRef('o.version_ordinal', '=', 'v.ordinal'),
    )
    .selectAll('k')
    .select(['v.id as v_id', 'v.ordinal as v_ordinal', 'v.enabled as v_enabled', 'v.nbf_ms as v_nbf_ms'])
    .select(['v.exp_ms as v_exp_ms', 'v.created_ms as v_created_ms', 'v.updated_ms as v_updated_ms'])
    .select(['v.public_key as v_public_key', 'v.revision as v_revision'])
    .select(['o.family as o_family', 'o.object_id as o_object_id', 'o.proof as o_proof'])
    .orderBy('k.ordinal')
    .orderBy('v.ordinal')
    .orderBy('o.object_id')
    .orderBy('o.family');
}

export async function countLiveKeys(db: Db): Promise<number> {
  const { live } = await db
    .selectFrom('key')
    .select((of) => of.fn.count<number>('live_name').as('live'))
    .executeTakeFirstOrThrow();
  return live;
}

/** Position after the newest key of the vault. The caller holds the vault's lock, or two keys get the same. */
async function nextOrdinal(db: Db, vaultId: string): Promise<number> {
  const { last } = await db
    .selectFrom('key')
    .select((of) => of.fn.max('ordinal').as('last'))
    .where('vault_id', '=', vaultId)
    .$castTo<{ last: number | null }>()
    .executeTakeFirstOrThrow();
  return last === null ? 0 : last + 1;
}

export async function insertKey(db: Db, key: NewKey, version: NewVersion): Promise<Key> {
  await db.insertInto('key').values(keyRow(key, await nextOrdinal(db, key.vaultId))).execute();
  await db.insertInto('key_version').values(versionRow(key, version)).execute();
  const objects = version.objects.map((object) => objectRow(key, version, object));
  if (objects.length > 0) await db.insertInto('key_object').values(objects).execute();
  return existingKey(db, key.vaultId, key.id);
}

/**
 * Writes columns of a live key and raises its revision, if it still is at `revision`.
 *
 * @throws KmsError `conflict` when it is not; `not-found` when there is no such live key
 */
export async function changeKey(
  db: Db,
  vaultId: string,
  keyId: string,
  revision: number,
  columns: Partial<KeyTable>,
): Promise<Key> {
  const { numUpdatedRows } = await db
    .updateTable('key')
    .set({ ...columns, revision: revision + 1 })
    .where('vault_id', '=', vaultId)
    .where('id', '=', keyId)
    .where('revision', '=', revision)
    .where('live_name', 'is not', null)
    .executeTakeFirstOrThrow();
  const key = await existingKey(db, vaultId, keyId);
  if (numUpdatedRows === 1n) return key;
  throw key.revision === revision ? noSuchKey() : new KmsError('conflict', 'the key was changed by another request');
}

async function existingKey(db: Db, vaultId: string, keyId: string): Promise<Key> {
  const key = await findKey(db, vaultId, keyId);
  if (key === undefined) throw noSuchKey();
  return key;
}

function noSuchKey(): KmsError {
  return new KmsError('not-found', 'no such key');
}
