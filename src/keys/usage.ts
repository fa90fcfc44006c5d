/**
 * One row per operation on key material: which usage it needs, which permission, whether it applies or processes
 * protection (SP 800-57 part 1 §5.3), and which token object serves it. And which objects a key needs.
 */

import type { Family, Kind, Permission, Usage, Vault } from './key.ts';

export interface Operation {
  /** Name in the audit. */
  readonly event: string;
  readonly usage: Usage;
  readonly permission: Permission;
  readonly direction: 'apply' | 'process';
  readonly family: Family;
}

export const OPERATIONS = {
  encrypt: operation('encrypt', 'encrypt', 'key/encrypt', 'apply', 'gcm'),
  decrypt: operation('decrypt', 'decrypt', 'key/decrypt', 'process', 'gcm'),
  createDataKey: operation('datakey.create', 'wrapKey', 'key/dataKey/create', 'apply', 'dk'),
  decryptDataKey: operation('datakey.decrypt', 'unwrapKey', 'key/dataKey/decrypt', 'process', 'dk'),
  sign: operation('sign', 'sign', 'key/sign', 'apply', 'private'),
  verify: operation('verify', 'verify', 'key/verify', 'process', 'public'),
} as const satisfies Readonly<Record<string, Operation>>;

function operation(
  event: string,
  usage: Usage,
  permission: Permission,
  direction: Operation['direction'],
  family: Family,
): Operation {
  return { event: `key.${event}`, usage, permission, direction, family };
}

/** Usages a new key of this kind may have. */
const USAGES: Readonly<Record<Kind, readonly Usage[]>> = {
  oct: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'],
  RSA: ['sign', 'verify'],
  EC: ['sign', 'verify'],
};

export function possibleUsages(kind: Kind): readonly Usage[] {
  return USAGES[kind];
}

/** Usages of a key whose creator named none (okms-rest-api §2.2). */
const DEFAULT_USAGES: Readonly<Record<Kind, readonly Usage[]>> = {
  oct: ['encrypt', 'decrypt'],
  RSA: ['sign', 'verify'],
  EC: ['sign', 'verify'],
};

export function defaultUsages(kind: Kind): readonly Usage[] {
  return DEFAULT_USAGES[kind];
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
