/** Roles as commands give them: sealed assignments, and records of them. */

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { issuerOf } from '../auth/principal.ts';
import { BUILT_IN_ROLES, findRole } from '../auth/roles.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { Assignment, CustomRole, Holder, Installation, Vault } from '../keys/key.ts';
import { recorded } from './recorded.ts';
import type { Session } from './session.ts';
import { namedVault } from './vault.ts';

export interface Roles {
  readonly role: readonly string[];
  readonly vault?: string;
}

export function withRoles(command: Command): Command {
  return command
    .option('--role <role>', 'also give this role to the subject, for good; repeatable; kms role types shows them', collect, [])
    .option('--vault <name>', 'where the roles count; the first vault by default');
}

/** Of a repeatable option. */
export function collect(text: string, before: readonly string[]): readonly string[] {
  return [...before, text];
}

/** The subject of tokens of the built-in issuer. */
export function tokenHolder({ id }: Pick<Installation, 'id'>, subject: string): Holder {
  return { method: 'token', issuer: issuerOf(id), subject };
}

/** On an open store, and enrolled where there are roles. @throws KmsError `not-found` for the vault; `invalid-field` for a role */
export async function assignRoles(session: Session, holder: Holder, { role: roles, vault }: Roles): Promise<void> {
  for (const { role, vaultId, keyId } of await rolesFor(session, holder, { role: roles, ...(vault !== undefined && { vault }) })) {
    await assign(session, { ...holder, role, vaultId, keyId });
  }
}

/** As they are to be assigned. @throws KmsError as `assignRoles` */
export async function rolesFor(session: Session, holder: Holder, { role: roles, vault }: Roles): Promise<readonly Omit<Assignment, 'revision'>[]> {
  const { id: vaultId } = await vaultNamed(session, vault);
  const custom = roles.length === 0 ? [] : await session.store.customRoles();
  return roles.map((text) =>
    ({ id: randomUUID(), ...holder, role: knownRole(text, custom, vaultId), permissions: null, vaultId, keyId: null, createdMs: Date.now() }));
}

/** @param name of the first vault by default @throws KmsError `not-found` */
export async function vaultNamed({ store }: Pick<Session, 'store'>, name: string | undefined): Promise<Vault> {
  const vaults = await store.vaults();
  const where = name === undefined ? vaults[0] : namedVault(vaults, name);
  if (where === undefined) throw new KmsError('internal', 'the installation has no vault');
  return where;
}

/** @param vaultId where it is to count, null for every vault @returns what an assignment stores @throws KmsError `invalid-field` */
export function knownRole(text: string, custom: readonly CustomRole[], vaultId: string | null): string {
  const role = findRole(text, custom, vaultId);
  if (role !== undefined) return role;
  const names = [...BUILT_IN_ROLES.map(({ slug }) => slug), ...custom.map(({ name }) => name)];
  throw invalidField('--role', `there is no role ${text}; there are ${names.join(', ')}`);
}

type Given = Pick<Assignment, 'method' | 'issuer' | 'subject' | 'role' | 'vaultId' | 'keyId'>;

/** @returns the assignment, which may have been there */
export async function assign(session: Session, given: Given): Promise<Assignment> {
  const requestId = randomUUID();
  const made = await session.store.assign({ id: randomUUID(), ...given, permissions: null, createdMs: Date.now() }, requestId);
  const { vaultId, keyId, ...said } = given;
  const detail = { ...said, assignment: made.id, ...(keyId !== null && { key: keyId }) };
  await recorded(session, { event: 'role.assign', requestId, ...(vaultId !== null && { vault: vaultId }), detail });
  return made;
}

/** Of what is to be left. @throws KmsError `conflict` when nobody is owner of every vault */
export function assertOwned(assignments: readonly Pick<Assignment, 'role' | 'vaultId' | 'keyId'>[]): void {
  if (assignments.some(({ role, vaultId, keyId }) => role === 'owner' && vaultId === null && keyId === null)) return;
  throw new KmsError('conflict', 'nobody would be owner of every vault any more: give the role owner to somebody first');
}
