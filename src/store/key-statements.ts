/** Statements on keys, versions and objects, common to every database. */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Key, KeyState } from '../keys/key.ts';
import type { Changes, Unsealed } from './changes.ts';
import type { Damage } from './evidence.ts';
import { FAMILIES } from './families.ts';
import { changedVersionColumns, keyRow, type KeyPlace, type KeyRows, objectRow, toKey, versionRow } from './key-rows.ts';
import type { KeyObjectTable, KeyTable, KeyVersionTable, Schema } from './schema.ts';
import { damaged, journalMac, partsOf, sameBytes, type StoreMacs } from './seal.ts';
import type { AnyRow } from './sealed-tables.ts';
import type { KeyPage, NamePage, NewKey, NewVersion, VersionChange } from './store.ts';
import { brokenSeals, damageIn, type Loaded, wasRemoved } from './verified.ts';

type Db = Kysely<Schema>;

export async function loadKey(db: Db, macs: StoreMacs, vaultId: string, keyId: string): Promise<Loaded<Key | undefined>> {
  const row = await db
    .selectFrom('key').selectAll().where('vault_id', '=', vaultId).where('id', '=', keyId).executeTakeFirst();
  if (row !== undefined) {
    const { value: [key], damage } = await withParts(db, macs, vaultId, [row]);
    return { value: key, damage };
  }
  const pk = `${vaultId}/${keyId}`;
  const gone = await wasRemoved(db, 'key', pk);
  return { value: undefined, damage: gone ? [{ table: 'key', row: pk, reason: 'removed' }] : [] };
}

export async function loadKeyByName(db: Db, macs: StoreMacs, vaultId: string, name: string): Promise<Loaded<Key | undefined>> {
  const row = await db
    .selectFrom('key').selectAll().where('vault_id', '=', vaultId).where('live_name', '=', name.toLowerCase()).executeTakeFirst();
  if (row === undefined) return { value: undefined, damage: [] };
  const { value: [key], damage } = await withParts(db, macs, vaultId, [row]);
  return { value: key, damage };
}

/** Damaged keys are not in the value. */
export async function loadPage(db: Db, macs: StoreMacs, page: KeyPage): Promise<Loaded<readonly Key[]>> {
  if (page.states.length === 0) return { value: [], damage: [] }; // `in ()` is not SQL everywhere
  const rows = await pageQuery(db, page).execute();
  if (page.softly !== 'as-they-are' && page.states.includes('destroyed')) rows.push(...(await softlyDeletedQuery(db, page).execute()));
  rows.sort((left, right) => left.ordinal - right.ordinal);
  return withParts(db, macs, page.vaultId, rows.slice(0, page.limit));
}

export async function loadNamePage(db: Db, macs: StoreMacs, page: NamePage): Promise<Loaded<readonly Key[]>> {
  return withParts(db, macs, page.vaultId, await namePageQuery(db, page).execute());
}

/** The key before the page may be destroyed since, but its row keeps name and ordinal. */
export function namePageQuery(db: Db, { vaultId, deleted, afterOrdinal, limit }: NamePage) {
  const before = db
    .selectFrom('key').select((of) => of.fn<string>('lower', ['name']).as('name'))
    .where('vault_id', '=', vaultId).where('ordinal', '=', afterOrdinal);
  return db
    .selectFrom('key')
    .selectAll()
    .where('vault_id', '=', vaultId)
    .where('live_name', 'is not', null)
    .$if(afterOrdinal >= 0, (query) => query.where('live_name', '>', before))
    .where('deleted_ms', deleted ? 'is not' : 'is', null)
    .orderBy('live_name')
    .limit(limit);
}

export async function loadDuePurges(db: Db, macs: StoreMacs, nowMs: number, limit: number): Promise<Loaded<readonly Key[]>> {
  const rows = await db
    .selectFrom('key').selectAll().where('deleted_ms', 'is not', null).where('scheduled_purge_ms', '<=', nowMs).limit(limit).execute();
  const damage: Damage[] = [];
  const value: Key[] = [];
  for (const row of rows) {
    const loaded = await withParts(db, macs, row.vault_id, [row]);
    value.push(...loaded.value);
    damage.push(...loaded.damage);
  }
  return { value, damage };
}

function softlyDeletedQuery(db: Db, { vaultId, afterOrdinal, limit }: KeyPage) {
  return db
    .selectFrom('key').selectAll()
    .where('vault_id', '=', vaultId).where('ordinal', '>', afterOrdinal).where('deleted_ms', 'is not', null)
    .orderBy('ordinal').limit(limit);
}

const TOMBSTONES: ReadonlySet<KeyState> = new Set(['destroyed', 'destroyed_compromised']);

/** Apart from `loadPage` so that a test can ask the database for its plan. */
export function pageQuery(db: Db, { vaultId, states, softly, afterOrdinal, limit }: KeyPage) {
  const [only] = states;
  return db
    .selectFrom('key')
    .selectAll()
    .where('vault_id', '=', vaultId)
    .where('ordinal', '>', afterOrdinal)
    .$if(softly !== 'as-they-are', (query) => query.where('deleted_ms', 'is', null))
    // Each of these has an index of its own, in the order of the page.
    .$if(states.length === 1, (query) => query.where('state', '=', only ?? 'active'))
    .$if(states.length > 1, (query) => query.where('state', 'in', states))
    .$if(states.every((state) => !TOMBSTONES.has(state)), (query) => query.where('live_name', 'is not', null))
    .orderBy('ordinal')
    .limit(limit);
}

async function withParts(db: Db, macs: StoreMacs, vaultId: string, rows: readonly KeyTable[]): Promise<Loaded<readonly Key[]>> {
  const living = rows.filter(({ live_name }) => live_name !== null).map(({ id }) => id);
  const versions = await partsIn(db, 'key_version', vaultId, living);
  const objects = await partsIn(db, 'key_object', vaultId, living);
  const damage = await damageIn(db, macs, 'key', rows);
  const keys = rows.map((key): KeyRows => ({
    key,
    versions: versions.filter(({ key_id }) => key_id === key.id).sort((left, right) => left.ordinal - right.ordinal),
    objects: objects.filter(({ key_id }) => key_id === key.id).sort(byId),
  }));
  for (const of of keys) damage.push(...damageInParts(macs, of));
  const broken = new Set(damage.map(({ row }) => row));
  const whole = keys.filter(({ key }) => !broken.has(pkOf(key)));
  return { value: whole.map(toKey), damage };
}

function byId(left: KeyObjectTable, right: KeyObjectTable): number {
  if (left.object_id !== right.object_id) return left.object_id < right.object_id ? -1 : 1;
  return left.family < right.family ? -1 : 1;
}

function partsIn(db: Db, table: 'key_version', vaultId: string, keyIds: readonly string[]): Promise<KeyVersionTable[]>;
function partsIn(db: Db, table: 'key_object', vaultId: string, keyIds: readonly string[]): Promise<KeyObjectTable[]>;
async function partsIn(db: Db, table: 'key_version' | 'key_object', vaultId: string, keyIds: readonly string[]) {
  if (keyIds.length === 0) return [];
  return db.selectFrom(table).selectAll().where('vault_id', '=', vaultId).where('key_id', 'in', keyIds).execute();
}

function pkOf({ vault_id, id }: KeyTable): string {
  return `${vault_id}/${id}`;
}

/** The key row vouches for the rows below it; damage below is told of the key too, which must not be used. */
function damageInParts(macs: StoreMacs, { key, versions, objects }: KeyRows): Damage[] {
  const below = [...brokenSeals(macs, 'key_version', versions), ...brokenSeals(macs, 'key_object', objects)];
  const whole = key.parts === null ? versions.length === 0 : sameBytes(key.parts, partsOf(sealsOf(versions, objects)));
  return whole && below.length === 0 ? [] : [...below, { table: 'key', row: pkOf(key), reason: 'parts' }];
}

function sealsOf(versions: readonly KeyVersionTable[], objects: readonly KeyObjectTable[]): Uint8Array[] {
  return [...versions, ...objects].map(({ seal }) => seal);
}

/** @param vaultId of all vaults without it */
export async function countLiveKeys(db: Db, vaultId?: string): Promise<number> {
  const { live } = await db
    .selectFrom('key')
    .select((of) => of.fn.count<number>('live_name').as('live'))
    .where('live_name', 'is not', null)
    .$if(vaultId !== undefined, (query) => query.where('vault_id', '=', vaultId ?? ''))
    .executeTakeFirstOrThrow();
  return live;
}

/** Position after the newest key of the vault; the transaction holds the head, so nobody else takes it. */
async function nextOrdinal(db: Db, vaultId: string): Promise<number> {
  const last = await db
    .selectFrom('key').select('ordinal').where('vault_id', '=', vaultId).orderBy('ordinal', 'desc').limit(1).executeTakeFirst();
  return last === undefined ? 0 : last.ordinal + 1;
}

export async function insertKey(changes: Changes, key: NewKey, version: NewVersion): Promise<void> {
  const made = prepareVersion(changes, { vaultId: key.vaultId, keyId: key.id }, 0, version);
  await changes.insert('key', keyRow(key, await nextOrdinal(changes.db, key.vaultId), partsOf(made.seals)));
  await putVersion(changes, made);
}

/** Sealed rows of a version, and their seals, for which the key row speaks. */
interface Prepared {
  readonly versions: readonly AnyRow[];
  readonly objects: readonly AnyRow[];
  readonly seals: readonly Uint8Array[];
}

function prepareVersion(changes: Changes, place: KeyPlace, ordinal: number, version: NewVersion): Prepared {
  const versions = changes.prepare('key_version', versionRow(place, ordinal, version));
  const objects = changes.prepare('key_object', ...version.objects.map((object) => objectRow(place, ordinal, object)));
  return { versions, objects, seals: [...versions, ...objects].map((row) => row['seal'] as Uint8Array) };
}

async function putVersion(changes: Changes, { versions, objects }: Prepared): Promise<void> {
  await changes.put('key_version', versions);
  await changes.put('key_object', objects);
}

/** @throws KmsError `not-found`, `wrong-state` for a key that must not get another version */
export function assertMayRotate(key: KeyTable | undefined): asserts key is KeyTable {
  if (key === undefined || key.live_name === null || key.deleted_ms !== null) throw noSuchKey();
  if (key.state !== 'active') throw new KmsError('wrong-state', `the key is ${key.state}`);
}

export async function addVersion(
  changes: Changes,
  place: KeyPlace,
  version: NewVersion,
  columns: Partial<Unsealed<'key'>>,
): Promise<void> {
  await appendVersion(changes, place, version, await wholeKey(changes, place), columns);
}

/** Whatever the state of the key. @throws KmsError `not-found`, `integrity` */
export async function restoreVersion(changes: Changes, place: KeyPlace, version: NewVersion): Promise<void> {
  const key = await changes.find('key', { vault_id: place.vaultId, id: place.keyId });
  if (key === undefined || key.live_name === null) throw noSuchKey();
  await appendVersion(changes, place, version, await wholeParts(changes, key));
}

/** The key as it was, as a tombstone: its id must not be used again. */
export async function insertTombstone(changes: Changes, key: NewKey): Promise<void> {
  const row = keyRow(key, await nextOrdinal(changes.db, key.vaultId), new Uint8Array());
  await changes.insert('key', { ...row, live_name: null, parts: null });
  changes.buried();
}

async function appendVersion(
  changes: Changes,
  place: KeyPlace,
  version: NewVersion,
  { versions, objects }: Omit<KeyRows, 'key'>,
  columns: Partial<Unsealed<'key'>> = {},
): Promise<void> {
  const ordinal = Math.max(...versions.map((row) => row.ordinal)) + 1;
  const made = prepareVersion(changes, place, ordinal, version);
  await putVersion(changes, made);
  const parts = partsOf([...sealsOf(versions, objects), ...made.seals]);
  await changes.update('key', { vault_id: place.vaultId, id: place.keyId }, null, { ...columns, parts });
}

/** The rows of a key that may get another version. @throws KmsError `integrity` when they do not belong together */
async function wholeKey(changes: Changes, { vaultId, keyId }: KeyPlace): Promise<KeyRows> {
  const key = await changes.find('key', { vault_id: vaultId, id: keyId });
  assertMayRotate(key);
  return { key, ...(await wholeParts(changes, key)) };
}

/** What stands below a key row, verified. @throws KmsError `integrity` */
async function wholeParts(changes: Changes, key: KeyTable): Promise<Omit<KeyRows, 'key'>> {
  const versions = await partsIn(changes.db, 'key_version', key.vault_id, [key.id]);
  const objects = await partsIn(changes.db, 'key_object', key.vault_id, [key.id]);
  const [first] = damageInParts(changes.macs, { key, versions, objects });
  if (first !== undefined) throw damaged(`${first.table} ${first.row}: the stored row is damaged`);
  return { versions, objects };
}

/**
 * Writes columns of a live key and raises its revision, if it still is at `revision`.
 *
 * @throws KmsError `conflict` when it is not; `not-found` when there is no such live key
 */
export async function changeKey(
  changes: Changes,
  { vaultId, keyId }: KeyPlace,
  revision: number,
  columns: Partial<Unsealed<'key'>>,
): Promise<void> {
  await liveKeyAt(changes, { vaultId, keyId }, revision);
  await changes.update('key', { vault_id: vaultId, id: keyId }, revision, columns);
}

/** Writes columns of one version; the key row speaks for it, and its revision rises. @throws KmsError as `changeKey`, and `integrity` */
export async function changeVersion(
  changes: Changes,
  { vaultId, keyId, ordinal }: KeyPlace & { readonly ordinal: number },
  revision: number,
  change: VersionChange,
): Promise<void> {
  const key = await liveKeyAt(changes, { vaultId, keyId }, revision);
  const { objects } = await wholeParts(changes, key);
  const place = { vault_id: vaultId, key_id: keyId, ordinal };
  if (!(await changes.update('key_version', place, null, changedVersionColumns(change)))) throw noSuchKey();
  const versions = await partsIn(changes.db, 'key_version', vaultId, [keyId]);
  await changes.update('key', { vault_id: vaultId, id: keyId }, revision, { parts: partsOf(sealsOf(versions, objects)) });
}

async function liveKeyAt(changes: Changes, { vaultId, keyId }: KeyPlace, revision: number): Promise<KeyTable> {
  const key = await changes.find('key', { vault_id: vaultId, id: keyId });
  if (key === undefined) throw noSuchKey();
  if (key.revision !== revision) throw new KmsError('conflict', 'the key was changed by another request');
  if (key.live_name === null) throw noSuchKey();
  return key;
}

/**
 * Makes a live key a tombstone, if it still is at `revision`.
 *
 * @returns the CKA_IDs of all its versions, each once @throws KmsError as `changeKey`, and `integrity`
 */
export async function buryKey(
  changes: Changes,
  { vaultId, keyId }: KeyPlace,
  revision: number,
  columns: Pick<KeyTable, 'state' | 'destroyed_ms'> & Partial<Unsealed<'key'>>,
): Promise<readonly string[]> {
  // Whom another forestalled is told so: the parts of a tombstone are not looked at.
  const key = await liveKeyAt(changes, { vaultId, keyId }, revision);
  // A forged row below it must not lead to the destruction of somebody else's objects.
  const { objects } = await wholeParts(changes, key);
  await changes.update('key', { vault_id: vaultId, id: keyId }, revision, {
    ...columns, live_name: null, parts: null, deleted_ms: null, scheduled_purge_ms: null,
  });
  changes.buried();
  return [...new Set(objects.map(({ object_id }) => object_id))];
}

/**
 * CKA_IDs among these whose key is destroyed: also when their destruction was completed, and a token that was restored
 * shows them again. Then only the journal knows them, by the removal of their rows.
 */
export async function ofTombstones(db: Db, macs: StoreMacs, objectIds: readonly string[]): Promise<ReadonlySet<string>> {
  const pending = await ofPending(db, objectIds);
  const gone = await removedObjects(db, macs, objectIds.filter((id) => !pending.has(id)));
  return new Set([...pending, ...gone]);
}

const KEYS_AT_ONCE = 70;

/** Only the completed destruction of a key removes the rows of its objects. */
async function removedObjects(db: Db, macs: StoreMacs, objectIds: readonly string[]): Promise<readonly string[]> {
  const removed: string[] = [];
  for (let from = 0; from < objectIds.length; from += KEYS_AT_ONCE) {
    const pks = objectIds.slice(from, from + KEYS_AT_ONCE).flatMap((id) => FAMILIES.map((family) => `${id}/${family}`));
    const entries = await db
      .selectFrom('journal').selectAll().where('tbl', '=', 'key_object').where('pk', 'in', pks).orderBy('seq').execute();
    const newest = new Map(entries.map((entry) => [entry.pk, entry]));
    const removals = [...newest.values()].filter((entry) => entry.canonical === null && sameBytes(entry.mac, journalMac(macs, entry)));
    removed.push(...removals.map(({ pk }) => pk.split('/', 1)[0] ?? ''));
  }
  return removed;
}

async function ofPending(db: Db, objectIds: readonly string[]): Promise<ReadonlySet<string>> {
  if (objectIds.length === 0) return new Set();
  const rows = await db
    .selectFrom('key_object as o')
    .innerJoin('key as k', (join) => join.onRef('k.vault_id', '=', 'o.vault_id').onRef('k.id', '=', 'o.key_id'))
    .select('o.object_id')
    .where('o.object_id', 'in', objectIds)
    .where('k.live_name', 'is', null)
    .execute();
  return new Set(rows.map(({ object_id }) => object_id));
}

/** Request ids of the entries on one key row. */
export async function listRequests(db: Db, pk: string): Promise<string[]> {
  const entries = await db.selectFrom('journal').select('request_id').where('tbl', '=', 'key').where('pk', '=', pk).execute();
  return entries.map(({ request_id }) => request_id);
}

export function noSuchKey(): KmsError {
  return new KmsError('not-found', 'no such key');
}
