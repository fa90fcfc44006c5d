/** Permissions as people and files write them: our own names, OKMS actions, data actions of both Key Vault services, access policies. */

import { invalidField } from '../errors.ts';
import type { Permission } from './key.ts';
import { PERMISSIONS } from './usage.ts';

const OKMS = 'okms:apikms:';
const VAULT = 'Microsoft.KeyVault/vaults/';
const MANAGED_HSM = 'Microsoft.KeyVault/managedHsm/';

export const ALL_PERMISSIONS = Object.keys(PERMISSIONS) as readonly Permission[];

/** Every full name of a permission. */
function namesOf(permission: Permission): readonly string[] {
  const { okms, vault, managedHsm } = PERMISSIONS[permission];
  const prefixed = (prefix: string, name: string | null): readonly string[] => (name === null ? [] : [prefix + name]);
  return [permission, ...prefixed(OKMS, okms), ...prefixed(VAULT, vault), ...prefixed(MANAGED_HSM, managedHsm)];
}

/**
 * @param texts each a full name; a star at its end stands for whatever follows
 * @throws KmsError `invalid-field` for a name that no permission has
 */
export function readPermissions(texts: readonly string[]): readonly Permission[] {
  const found = texts.flatMap((text) => {
    const these = ALL_PERMISSIONS.filter((permission) => namesOf(permission).some((name) => matches(text, name)));
    if (these.length === 0) throw invalidField('permission', `there is no permission ${text.slice(0, 100)}`);
    return these;
  });
  return ALL_PERMISSIONS.filter((permission) => found.includes(permission));
}

/** Azure does not tell upper and lower case apart. */
function matches(text: string, name: string): boolean {
  const [wanted, full] = [text.toLowerCase(), name.toLowerCase()];
  return wanted.endsWith('*') ? full.startsWith(wanted.slice(0, -1)) : full === wanted;
}

/** Names of an access policy, without regard to case. @throws KmsError `invalid-field` */
export function readAccessPolicy(names: readonly string[]): readonly Permission[] {
  const spelt = (permission: Permission): string | undefined => PERMISSIONS[permission].accessPolicy?.toLowerCase();
  const found = names.map((text) => text.toLowerCase()).flatMap((wanted) => {
    const these = ALL_PERMISSIONS.filter((permission) => spelt(permission) === wanted || (wanted === 'all' && spelt(permission) !== undefined));
    if (these.length === 0) throw invalidField('keys', `an access policy knows no permission ${wanted.slice(0, 100)}`);
    return these;
  });
  return ALL_PERMISSIONS.filter((permission) => found.includes(permission));
}

/** @returns the data actions of a managed HSM that stand for these permissions */
export function dataActions(permissions: readonly Permission[]): readonly string[] {
  const names = permissions.map((permission) => PERMISSIONS[permission].managedHsm).filter((name) => name !== null);
  return [...new Set(names)].map((name) => MANAGED_HSM + name);
}
