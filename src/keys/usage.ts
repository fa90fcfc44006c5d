/**
 * One row per operation on key material: which usage it needs, which permission, and whether it applies or processes
 * protection (SP 800-57 part 1 §5.3). And which objects a key needs.
 */

import type { KeyShape } from '../crypto/engine.ts';
import type { Family, Key, KeyVersion, Kind, Permission, Usage, Vault } from './key.ts';

export interface Operation {
  /** Name in the audit. */
  readonly event: string;
  readonly usage: Usage;
  readonly permission: Permission;
  readonly direction: 'apply' | 'process';
  /** Kinds of key that can serve it; a key of another kind may have the usage for what it serves elsewhere. */
  readonly kinds: readonly Kind[];
}

const SECRET: readonly Kind[] = ['oct'];
const PAIR: readonly Kind[] = ['RSA', 'EC'];
const ANY: readonly Kind[] = ['oct', 'RSA', 'EC'];

export const OPERATIONS = {
  /** Into a format that names key and version, and out of it. */
  seal: operation('encrypt', 'encrypt', 'key/encrypt', 'apply', SECRET),
  unseal: operation('decrypt', 'decrypt', 'key/decrypt', 'process', SECRET),
  createDataKey: operation('datakey.create', 'wrapKey', 'key/dataKey/create', 'apply', SECRET),
  decryptDataKey: operation('datakey.decrypt', 'unwrapKey', 'key/dataKey/decrypt', 'process', SECRET),
  signMessage: operation('sign', 'sign', 'key/sign', 'apply', PAIR),
  verifyMessage: operation('verify', 'verify', 'key/verify', 'process', PAIR),
  /** Of the key that an import was wrapped for. */
  openImport: operation('unwrap', 'unwrapKey', 'key/unwrapKey', 'process', ['RSA']),
  /** With any algorithm that fits the key. */
  encrypt: operation('encrypt', 'encrypt', 'key/encrypt', 'apply', ANY),
  decrypt: operation('decrypt', 'decrypt', 'key/decrypt', 'process', ANY),
  wrapKey: operation('wrap', 'wrapKey', 'key/wrapKey', 'apply', ANY),
  unwrapKey: operation('unwrap', 'unwrapKey', 'key/unwrapKey', 'process', ANY),
  sign: operation('sign', 'sign', 'key/sign', 'apply', ANY),
  verify: operation('verify', 'verify', 'key/verify', 'process', ANY),
} as const satisfies Readonly<Record<string, Operation>>;

function operation(
  event: string,
  usage: Usage,
  permission: Permission,
  direction: Operation['direction'],
  kinds: readonly Kind[],
): Operation {
  return { event: `key.${event}`, usage, permission, direction, kinds };
}

/** As each API spells a permission; null where it has no name for it. One name may stand for several. */
export interface Spelling {
  /** After `okms:apikms:` (okms-rest-api §4.3). */
  readonly okms: string | null;
  /** In access policies of a vault (azure-keyvault-keys-api §6.1). */
  readonly accessPolicy: string | null;
  /** Data action of a vault, after `Microsoft.KeyVault/vaults/`. */
  readonly vault: string | null;
  /** Data action of a managed HSM, after `Microsoft.KeyVault/managedHsm/`. */
  readonly managedHsm: string | null;
}

const spelt = (okms: string | null, accessPolicy: string | null, vault: string | null, managedHsm = vault): Spelling =>
  ({ okms, accessPolicy, vault, managedHsm });

export const PERMISSIONS: Readonly<Record<Permission, Spelling>> = {
  'key/create': spelt('serviceKey/create', 'create', 'keys/create/action', 'keys/create'),
  'key/rotate': spelt(null, 'rotate', 'keys/rotate/action'),
  'key/import': spelt('serviceKey/import', 'import', 'keys/import/action'),
  'key/get': spelt('serviceKey/get', 'get', 'keys/read', 'keys/read/action'),
  'key/list': spelt(null, 'list', 'keys/read', 'keys/read/action'),
  'key/update': spelt('serviceKey/update', 'update', 'keys/update/action', 'keys/write/action'),
  'key/delete': spelt('serviceKey/delete', 'delete', 'keys/delete'),
  'key/activate': spelt('serviceKey/activate', null, null),
  'key/deactivate': spelt('serviceKey/deactivate', null, null),
  'key/encrypt': spelt('serviceKey/encrypt', 'encrypt', 'keys/encrypt/action'),
  'key/decrypt': spelt('serviceKey/decrypt', 'decrypt', 'keys/decrypt/action'),
  'key/dataKey/create': spelt('serviceKey/dataKey/create', null, null),
  'key/dataKey/decrypt': spelt('serviceKey/dataKey/decrypt', null, null),
  'key/sign': spelt('serviceKey/sign', 'sign', 'keys/sign/action'),
  'key/verify': spelt('serviceKey/verify', 'verify', 'keys/verify/action'),
  'key/wrapKey': spelt('serviceKey/wrapKey', 'wrapKey', 'keys/wrap/action'),
  'key/unwrapKey': spelt('serviceKey/unwrapKey', 'unwrapKey', 'keys/unwrap/action'),
  'key/recover': spelt(null, 'recover', 'keys/recover/action', 'keys/deletedKeys/recover/action'),
  'key/purge': spelt(null, 'purge', 'keys/purge/action', 'keys/deletedKeys/delete'),
  'key/deleted/get': spelt(null, 'get', 'keys/read', 'keys/deletedKeys/read/action'),
  'key/deleted/list': spelt(null, 'list', 'keys/read', 'keys/deletedKeys/read/action'),
  'key/backup': spelt(null, 'backup', 'keys/backup/action'),
  'key/restore': spelt(null, 'restore', 'keys/restore/action'),
  'key/release': spelt(null, 'release', 'keys/release/action'),
  'key/rotationPolicy/get': spelt(null, 'getrotationpolicy', 'keyrotationpolicies/read', 'keys/read/action'),
  'key/rotationPolicy/update': spelt(null, 'setrotationpolicy', 'keyrotationpolicies/write', 'keys/write/action'),
  'random/get': spelt('random/get', null, null, 'rng/action'),
  'role/assignment/get': spelt(null, null, null, 'roleAssignments/read/action'),
  'role/assignment/create': spelt(null, null, null, 'roleAssignments/write/action'),
  'role/assignment/delete': spelt(null, null, null, 'roleAssignments/delete/action'),
  'role/definition/get': spelt(null, null, null, 'roleDefinitions/read/action'),
  'role/definition/update': spelt(null, null, null, 'roleDefinitions/write/action'),
  'role/definition/delete': spelt(null, null, null, 'roleDefinitions/delete/action'),
};

/** What somebody who holds only the public half can do. */
const PUBLIC_USAGES: ReadonlySet<Usage> = new Set(['verify', 'wrapKey']);

/** Usages a new key of this kind may have. */
const USAGES: Readonly<Record<Kind, readonly Usage[]>> = {
  oct: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'],
  RSA: ['sign', 'verify', 'wrapKey', 'unwrapKey'],
  EC: ['sign', 'verify'],
};

/** @param publicOnly of a key without a private half */
export function possibleUsages(kind: Kind, publicOnly = false): readonly Usage[] {
  return publicOnly ? USAGES[kind].filter((usage) => PUBLIC_USAGES.has(usage)) : USAGES[kind];
}

/** Usages of a key whose creator named none (okms-rest-api §2.2). */
const DEFAULT_USAGES: Readonly<Record<Kind, readonly Usage[]>> = {
  oct: ['encrypt', 'decrypt'],
  RSA: ['sign', 'verify'],
  EC: ['sign', 'verify'],
};

export function defaultUsages(kind: Kind, publicOnly = false): readonly Usage[] {
  return publicOnly ? ['verify'] : DEFAULT_USAGES[kind];
}

/** Whether there is no private half to it. */
export function isPublicOnly({ origin }: Pick<Key, 'origin'>): boolean {
  return origin === 'imported-public';
}

/** What the objects of a version were made as, whatever its usages are now. */
export function shapeOf({ kind, bits, curve }: Key, { madeFor }: Pick<KeyVersion, 'madeFor'>): KeyShape {
  return { kind, bits, curve, usages: madeFor };
}

/** Token objects one version of such a key consists of (design §4). */
export function familiesFor(kind: Kind, usages: readonly Usage[], vault: Vault): readonly Family[] {
  if (kind !== 'oct') return ['private', 'public'];
  const has = (...wanted: readonly Usage[]): boolean => wanted.some((usage) => usages.includes(usage));
  const families: Family[] = [];
  if (has('encrypt', 'decrypt')) families.push('gcm', ...(vault.cbc ? (['cbc'] as const) : []));
  if (has('wrapKey', 'unwrapKey')) families.push('kw', 'dk');
  if (has('sign', 'verify')) families.push('mac');
  return families;
}
