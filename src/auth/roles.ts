/** The built-in roles: `owner`, and those of both Key Vault services as far as they are about keys (azure-keyvault-keys-api §6.2, §6.3). */

import type { CustomRole, Permission } from '../keys/key.ts';

/** `all` covers permissions that do not exist yet; `keys` all but those on roles. */
export type Permissions = ReadonlySet<Permission> | 'all' | 'keys';

export interface Role {
  /** As it is stored with an assignment. */
  readonly slug: string;
  readonly name: string;
  /** GUID under which Azure knows it; null for ours. */
  readonly id: string | null;
  readonly permissions: Permissions;
}

const READ: readonly Permission[] = ['key/get', 'key/list', 'key/deleted/get', 'key/deleted/list'];
const WRAP: readonly Permission[] = ['key/dataKey/create', 'key/dataKey/decrypt', 'key/wrapKey', 'key/unwrapKey'];
const USE: readonly Permission[] = [...WRAP, 'key/encrypt', 'key/decrypt', 'key/sign', 'key/verify', 'random/get'];
/** A managed HSM tells those that are deleted apart. */
const READ_LIVING: readonly Permission[] = ['key/get', 'key/list', 'key/rotationPolicy/get'];
const WRITE: readonly Permission[] = ['key/create', 'key/import', 'key/update', 'key/rotate', 'key/delete', 'key/rotationPolicy/update'];
const ROLES: readonly Permission[] = [
  'role/assignment/get', 'role/assignment/create', 'role/assignment/delete',
  'role/definition/get', 'role/definition/update', 'role/definition/delete',
];
const DELETED: readonly Permission[] = ['key/deleted/get', 'key/deleted/list', 'key/recover', 'key/purge'];

function role(name: string, id: string | null, permissions: readonly Permission[] | 'all' | 'keys'): Role {
  const slug = name.toLowerCase().replaceAll(' ', '-');
  return { slug, name, id, permissions: typeof permissions === 'string' ? permissions : new Set(permissions) };
}

export const BUILT_IN_ROLES: readonly Role[] = [
  role('owner', null, 'all'),
  role('Key Vault Administrator', '00482a5a-887f-4fb3-b363-3b7fe8e74483', 'keys'),
  role('Key Vault Crypto Officer', '14b46e9e-c2b7-41b4-b07b-48a6ebf60603', 'keys'),
  role('Key Vault Crypto User', '12338af0-0e69-4776-bea7-57ae8d297424', [...READ, ...USE, 'key/update', 'key/backup']),
  role('Key Vault Crypto Service Encryption User', 'e147488a-f6f5-4113-8e2d-b22465e65bf6', [...READ, ...WRAP]),
  role('Key Vault Crypto Service Release User', '08bbd89e-9f13-488c-ac41-acfcb10c90ab', ['key/release']),
  role('Key Vault Reader', '21090545-7ca7-4776-b22c-e363652d74d2', [...READ, 'key/rotationPolicy/get']),
  // Of deleted vaults; nothing of keys.
  role('Key Vault Purge Operator', 'a68e7c17-0ab2-4c09-9a58-125dae29748c', []),
  role('Managed HSM Administrator', 'a290e904-7015-4bba-90c8-60543313cdb4', ROLES),
  role('Managed HSM Crypto Officer', '515eb02d-2335-4d2d-92f2-b1cbdf9c3778', [...DELETED, ...ROLES]),
  role('Managed HSM Crypto User', '21dbd100-6940-42c2-9190-5d6cb909625b', [
    ...READ_LIVING, ...WRITE, ...USE, 'key/backup', 'key/restore', 'key/release',
  ]),
  role('Managed HSM Policy Administrator', '4bd23610-cdcf-4971-bdee-bdc562cc28e4', ROLES),
  role('Managed HSM Crypto Auditor', '2c18b078-7c48-4d3a-af88-5a3a1b3f82b3', READ_LIVING),
  role('Managed HSM Crypto Service Encryption User', '33413926-3206-4cdd-b39a-83574fe37a17', [...READ_LIVING, ...WRAP]),
  role('Managed HSM Crypto Service Release User', '21dbd100-6940-42c2-9190-5d6cb909625c', ['key/release']),
  role('Managed HSM Backup', '7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8', ['key/backup']),
  role('Managed HSM Restore', '6efe6056-5259-49d2-8b3d-d3d73544b20b', ['key/restore']),
];

const BY_SLUG: ReadonlyMap<string, Role> = new Map(BUILT_IN_ROLES.map((known) => [known.slug, known]));

export function builtInRole(slug: string): Role | undefined {
  return BY_SLUG.get(slug);
}

/** @param text name as Azure shows it, slug or GUID */
export function findBuiltInRole(text: string): Role | undefined {
  const wanted = text.toLowerCase();
  return BUILT_IN_ROLES.find(({ slug, name, id }) => [slug, name.toLowerCase(), id].includes(wanted));
}

/**
 * @param text as `findBuiltInRole`, or name or id of a custom role
 * @param vaultId where it is to count, null for every vault: a role of another vault counts nowhere else
 * @returns what an assignment stores; undefined for a role nobody knows there
 */
export function findRole(text: string, custom: readonly CustomRole[], vaultId: string | null): string | undefined {
  const wanted = text.toLowerCase();
  const there = custom.filter((role) => role.vaultId === null || role.vaultId === vaultId);
  return findBuiltInRole(text)?.slug ?? there.find(({ id, name }) => id === wanted || name.toLowerCase() === wanted)?.id;
}

export function covers(permissions: Permissions, permission: Permission): boolean {
  if (permissions === 'all') return true;
  return permissions === 'keys' ? !permission.startsWith('role/') : permissions.has(permission);
}
