/**
 * May this caller do this? Pure: grants in, answer out. Deny by default. Only the gate in `keys/access.ts` asks, and
 * `kms explain` tells.
 */

import type { Assignment, CustomRole, Permission } from '../keys/key.ts';
import { builtInRole, covers, type Permissions } from './roles.ts';

/** What one assignment gives. */
export interface Grant {
  readonly permissions: Permissions;
  /** null: every vault. */
  readonly vaultId: string | null;
  /** null: every key of the scope. */
  readonly keyId: string | null;
}

/** An assignment of a role that nobody knows gives nothing. */
export function grantsOf(assignments: readonly Assignment[], custom: readonly CustomRole[]): readonly Grant[] {
  return assignments.flatMap((assignment) => {
    const permissions = permissionsOf(assignment, custom);
    const { vaultId, keyId } = assignment;
    return permissions === undefined ? [] : [{ permissions, vaultId, keyId }];
  });
}

function permissionsOf({ role, permissions, vaultId }: Assignment, custom: readonly CustomRole[]): Permissions | undefined {
  if (permissions !== null) return new Set(permissions);
  const own = custom.find(({ id }) => id === role);
  if (own !== undefined) return own.vaultId === null || own.vaultId === vaultId ? new Set(own.permissions) : undefined;
  return builtInRole(role)?.permissions;
}

function counts({ permissions, vaultId: scope }: Grant, permission: Permission, vaultId: string): boolean {
  return covers(permissions, permission) && (scope === null || scope === vaultId);
}

/** Whether there is any key of the vault with which it may be done. */
export function isAllowedSomewhere(grants: readonly Grant[], permission: Permission, vaultId: string): boolean {
  return grants.some((grant) => counts(grant, permission, vaultId));
}

/** @param keyId null for an operation on the vault's collection of keys, such as create */
export function isAllowed(grants: readonly Grant[], permission: Permission, vaultId: string, keyId: string | null): boolean {
  return grants.some((grant) => counts(grant, permission, vaultId) && (grant.keyId === null || grant.keyId === keyId));
}
