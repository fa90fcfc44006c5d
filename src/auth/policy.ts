/**
 * May this principal do this? Pure: assignments in, answer out. Deny by default. Only the gate in `keys/access.ts`
 * asks.
 */

import type { Assignment, Permission } from '../keys/key.ts';

interface Role {
  readonly name: string;
  /** `all` covers permissions that do not exist yet. */
  readonly permissions: ReadonlySet<Permission> | 'all';
}

const ROLES: ReadonlyMap<string, Role> = new Map([['owner', { name: 'owner', permissions: 'all' }]]);

function grants(role: string, permission: Permission): boolean {
  const permissions = ROLES.get(role)?.permissions;
  return permissions === 'all' || permissions?.has(permission) === true;
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
