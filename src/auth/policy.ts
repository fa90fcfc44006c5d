/**
 * May this principal do this? Pure: assignments in, answer out. Deny by default. Only the gate in `keys/access.ts`
 * asks.
 */

import type { Assignment, Permission } from '../keys/key.ts';

interface Role {
  /** As it is stored. */
  readonly slug: string;
  readonly name: string;
  /** GUID under which Azure knows it; null for ours. */
  readonly id: string | null;
  /** `all` covers permissions that do not exist yet. */
  readonly permissions: ReadonlySet<Permission> | 'all';
}

const READ: readonly Permission[] = ['key/get', 'key/deleted/get'];
const USE_OF_OTHERS: readonly Permission[] = [...READ, 'key/dataKey/create', 'key/dataKey/decrypt', 'key/wrapKey', 'key/unwrapKey'];
const USE: readonly Permission[] = [
  ...USE_OF_OTHERS, 'key/encrypt', 'key/decrypt', 'key/sign', 'key/verify', 'key/update', 'key/backup', 'random/get',
];

function role(name: string, id: string | null, permissions: readonly Permission[] | 'all'): Role {
  const slug = name.toLowerCase().replaceAll(' ', '-');
  return { slug, name, id, permissions: permissions === 'all' ? 'all' : new Set(permissions) };
}

/** `owner`, and the built-in roles of a Key Vault as far as they are about keys (azure-keyvault-keys-api §6.2). */
const ROLES: readonly Role[] = [
  role('owner', null, 'all'),
  role('Key Vault Administrator', '00482a5a-887f-4fb3-b363-3b7fe8e74483', 'all'),
  role('Key Vault Crypto Officer', '14b46e9e-c2b7-41b4-b07b-48a6ebf60603', 'all'),
  role('Key Vault Crypto User', '12338af0-0e69-4776-bea7-57ae8d297424', USE),
  role('Key Vault Crypto Service Encryption User', 'e147488a-f6f5-4113-8e2d-b22465e65bf6', USE_OF_OTHERS),
  role('Key Vault Crypto Service Release User', '08bbd89e-9f13-488c-ac41-acfcb10c90ab', ['key/release']),
  role('Key Vault Reader', '21090545-7ca7-4776-b22c-e363652d74d2', [...READ, 'key/rotationPolicy/get']),
];

const BY_SLUG: ReadonlyMap<string, Role> = new Map(ROLES.map((known) => [known.slug, known]));

/** @param text name as Azure shows it, slug or GUID @returns the slug; undefined for a role nobody knows */
export function findRole(text: string): string | undefined {
  const wanted = text.toLowerCase();
  return ROLES.find(({ slug, name, id }) => [slug, name.toLowerCase(), id].includes(wanted))?.slug;
}

export function roleNames(): readonly string[] {
  return ROLES.map(({ slug }) => slug);
}

function grants(slug: string, permission: Permission): boolean {
  const permissions = BY_SLUG.get(slug)?.permissions;
  return permissions === 'all' || permissions?.has(permission) === true;
}

/** Whether there is any key of the vault with which it may be done. */
export function isAllowedSomewhere(assignments: readonly Assignment[], permission: Permission, vaultId: string): boolean {
  return assignments.some(({ role, vaultId: scope }) => grants(role, permission) && (scope === null || scope === vaultId));
}

/** @param keyId null for an operation on the vault's collection of keys, such as create */
export function isAllowed(
  assignments: readonly Assignment[],
  permission: Permission,
  vaultId: string,
  keyId: string | null,
): boolean {
  return assignments.some(
    (assignment) =>
      grants(assignment.role, permission) &&
      (assignment.vaultId === null || assignment.vaultId === vaultId) &&
      (assignment.keyId === null || assignment.keyId === keyId),
  );
}
