/** Statements on the installation, vaults, credentials and assignments, common to every database. */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Assignment, Credential, CustomRole, Holder, Installation, TokenClient, Vault } from '../keys/key.ts';
import * as rows from './access-rows.ts';
import type { Changes } from './changes.ts';
import type { Damage } from './evidence.ts';
import type { Schema } from './schema.ts';
import type { StoreMacs } from './seal.ts';
import type { FirstRows, PolicyChange, VaultChange } from './store.ts';
import { damageIn, type Loaded, missingRows, wasRemoved } from './verified.ts';

type Db = Kysely<Schema>;

/** Internal keys are written with the installation and never change. */
export async function findInstallation(db: Db): Promise<Installation | undefined> {
  const row = await db.selectFrom('installation').selectAll().executeTakeFirst();
  if (row === undefined) return undefined;
  const internalKeys = await db.selectFrom('internal_key').selectAll().orderBy('name').execute();
  return rows.toInstallation(row, internalKeys);
}

/** What `findInstallation` reads, verified. */
export async function checkInstallation(db: Db, macs: StoreMacs): Promise<Loaded<null>> {
  const damage: Damage[] = [];
  for (const table of ['installation', 'internal_key'] as const) {
    const found = await db.selectFrom(table).selectAll().execute();
    damage.push(...(await damageIn(db, macs, table, found)), ...(await missingRows(db, table, found)));
  }
  return { value: null, damage };
}

export async function insertInstallation(changes: Changes, first: FirstRows): Promise<void> {
  const { installation, vaults, credentials, assignments } = first;
  await changes.insert('installation', rows.installationRow(installation));
  await changes.insert('internal_key', ...installation.internalKeys.map(rows.internalKeyRow));
  await changes.insert('vault', ...vaults.map(rows.vaultRow));
  await changes.insert('credential', ...credentials.map(rows.credentialRow));
  await changes.insert('assignment', ...assignments.map(rows.assignmentRow));
}

export async function hasInstallation(db: Db): Promise<boolean> {
  return (await db.selectFrom('installation').select('id').executeTakeFirst()) !== undefined;
}

export async function listVaults(db: Db, macs: StoreMacs): Promise<Loaded<readonly Vault[]>> {
  const found = await db.selectFrom('vault').selectAll().orderBy('ordinal').execute();
  const damage = [...(await damageIn(db, macs, 'vault', found)), ...(await missingRows(db, 'vault', found))];
  return { value: found.map(rows.toVault), damage };
}

/** Vaults are made one after the other, as every change takes the head. @throws KmsError `conflict` */
export async function insertVault(changes: Changes, vault: Omit<Vault, 'revision'>): Promise<Vault> {
  const rowsBefore = await changes.db.selectFrom('vault').select(['name', 'ordinal']).execute();
  if (rowsBefore.some(({ name }) => name === vault.name)) throw new KmsError('conflict', `there is a vault ${vault.name}`);
  const ordinal = Math.max(-1, ...rowsBefore.map((row) => row.ordinal)) + 1;
  await changes.insert('vault', rows.vaultRow(vault, ordinal));
  return { ...vault, revision: 0 };
}

/** @throws KmsError `conflict`, `not-found` */
export async function changeVault(changes: Changes, id: string, revision: number, change: VaultChange): Promise<Vault> {
  if (!(await changes.update('vault', { id }, revision, rows.vaultColumns(change)))) throw new KmsError('not-found', 'no such vault');
  const found = await changes.db.selectFrom('vault').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
  return rows.toVault(found);
}

export async function findCredential(
  db: Db,
  macs: StoreMacs,
  issuerKeyHash: string,
  serial: string,
): Promise<Loaded<Credential | undefined>> {
  const row = await db
    .selectFrom('credential')
    .selectAll()
    .where('issuer_key_hash', '=', issuerKeyHash)
    .where('serial', '=', serial)
    .executeTakeFirst();
  if (row !== undefined) return { value: rows.toCredential(row), damage: await damageIn(db, macs, 'credential', [row]) };
  const pk = `${issuerKeyHash}/${serial}`;
  const gone = await wasRemoved(db, 'credential', pk);
  return { value: undefined, damage: gone ? [{ table: 'credential', row: pk, reason: 'removed' }] : [] };
}

export async function listCredentials(db: Db, macs: StoreMacs): Promise<Loaded<readonly Credential[]>> {
  const found = await db.selectFrom('credential').selectAll().orderBy('created_ms').orderBy('serial').execute();
  return { value: found.map(rows.toCredential), damage: await damageIn(db, macs, 'credential', found) };
}

export async function insertCredential(
  changes: Changes,
  credential: Omit<Credential, 'revision'>,
  roles: readonly Omit<Assignment, 'revision'>[],
): Promise<void> {
  await changes.insert('credential', rows.credentialRow(credential));
  for (const role of roles) await insertAssignment(changes, role);
}

/** @throws KmsError `not-found` */
export async function revokeCredential(changes: Changes, issuerKeyHash: string, serial: string, revokedMs: number): Promise<void> {
  const key = { issuer_key_hash: issuerKeyHash, serial };
  const found = await changes.find('credential', key);
  if (found === undefined || found.revoked_ms !== null) throw new KmsError('not-found', 'no such certificate, or it is revoked');
  await changes.update('credential', key, null, { revoked_ms: revokedMs });
}

export async function findAssignments(
  db: Db,
  macs: StoreMacs,
  { method, issuer, subject }: Holder,
): Promise<Loaded<readonly Assignment[]>> {
  const found = await db
    .selectFrom('assignment')
    .selectAll()
    .where('method', '=', method)
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .orderBy('created_ms')
    .orderBy('id')
    .execute();
  return { value: found.map(rows.toAssignment), damage: await damageIn(db, macs, 'assignment', found) };
}

export async function insertAssignment(changes: Changes, assignment: Omit<Assignment, 'revision'>): Promise<Assignment> {
  const { role, vaultId, keyId, permissions } = assignment;
  const { value: theirs } = await findAssignments(changes.db, changes.macs, assignment);
  const same = theirs.find((has) =>
    has.role === role && has.vaultId === vaultId && has.keyId === keyId && String(has.permissions) === String(permissions));
  if (same !== undefined) return same;
  await changes.insert('assignment', rows.assignmentRow(assignment));
  return { ...assignment, revision: 0 };
}

/** Without the rows that cannot be believed. */
function sound<T extends { readonly id: string }>(found: readonly T[], damage: readonly Damage[]): readonly T[] {
  const broken = new Set(damage.map(({ row }) => row));
  return found.filter(({ id }) => !broken.has(id));
}

/** Damaged ones are left out. */
export async function listAssignments(db: Db, macs: StoreMacs): Promise<Loaded<readonly Assignment[]>> {
  const found = await db.selectFrom('assignment').selectAll().orderBy('created_ms').orderBy('id').execute();
  const damage = await damageIn(db, macs, 'assignment', found);
  return { value: sound(found, damage).map(rows.toAssignment), damage };
}

/** Damaged ones are left out: they give nothing. */
export async function listCustomRoles(db: Db, macs: StoreMacs): Promise<Loaded<readonly CustomRole[]>> {
  const found = await db.selectFrom('custom_role').selectAll().orderBy('created_ms').orderBy('id').execute();
  const damage = await damageIn(db, macs, 'custom_role', found);
  return { value: sound(found, damage).map(rows.toCustomRole), damage };
}

/** @throws KmsError `not-found`, `conflict` */
export async function changePolicy(changes: Changes, change: PolicyChange): Promise<void> {
  for (const role of change.define ?? []) {
    const row = rows.customRoleRow(role);
    const before = await changes.find('custom_role', { id: role.id });
    if (before !== undefined && before.vault_id !== role.vaultId) throw new KmsError('conflict', 'this is the id of another role');
    if (!(await changes.update('custom_role', { id: role.id }, null, row))) await changes.insert('custom_role', row);
  }
  for (const assignment of change.assign ?? []) await insertAssignment(changes, assignment);
  for (const id of change.withdraw ?? []) {
    if ((await changes.remove('assignment', { id })) === undefined) throw new KmsError('not-found', 'no such assignment');
  }
  for (const id of change.forget ?? []) await forgetRole(changes, id);
}

async function forgetRole(changes: Changes, id: string): Promise<void> {
  const user = await changes.db.selectFrom('assignment').select('subject').where('role', '=', id).executeTakeFirst();
  if (user !== undefined) throw new KmsError('conflict', `somebody has this role: ${user.subject}`);
  if ((await changes.remove('custom_role', { id })) === undefined) throw new KmsError('not-found', 'no such role');
}

export async function findTokenClient(db: Db, macs: StoreMacs, id: string): Promise<Loaded<TokenClient | undefined>> {
  const row = await db.selectFrom('token_client').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) {
    const gone = await wasRemoved(db, 'token_client', id);
    return { value: undefined, damage: gone ? [{ table: 'token_client', row: id, reason: 'removed' }] : [] };
  }
  return { value: rows.toTokenClient(row), damage: await damageIn(db, macs, 'token_client', [row]) };
}

export async function listTokenClients(db: Db, macs: StoreMacs): Promise<Loaded<readonly TokenClient[]>> {
  const found = await db.selectFrom('token_client').selectAll().orderBy('created_ms').orderBy('id').execute();
  return { value: found.map(rows.toTokenClient), damage: await damageIn(db, macs, 'token_client', found) };
}

export async function insertTokenClient(changes: Changes, client: Omit<TokenClient, 'revision'>): Promise<void> {
  await changes.insert('token_client', rows.tokenClientRow(client));
}

/** @throws KmsError `not-found` */
export async function revokeTokenClient(changes: Changes, id: string, revokedMs: number): Promise<void> {
  const found = await changes.find('token_client', { id });
  if (found === undefined || found.revoked_ms !== null) throw new KmsError('not-found', 'no such client, or it is revoked');
  await changes.update('token_client', { id }, null, { revoked_ms: revokedMs });
}

/** @throws KmsError `conflict` */
export function alreadyInstalled(): KmsError {
  return new KmsError('conflict', 'there is an installation already');
}
