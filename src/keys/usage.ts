/**
 * One row per operation on key material: which usage it needs, which permission, whether it applies or processes
 * protection (SP 800-57 part 1 §5.3), and which token object serves it. And which objects a key needs.
 */

import type { Family, Key, Kind, Permission, Usage, Vault } from './key.ts';

export interface Operation {
  /** Name in the audit. */
  readonly event: string;
  readonly usage: Usage;
  readonly permission: Permission;
  readonly direction: 'apply' | 'process';
  /** Kinds of key that can serve it; a key of another kind may have the usage for what it serves elsewhere. */
  readonly kinds: readonly Kind[];
  readonly family: Family;
}

const SECRET: readonly Kind[] = ['oct'];
const PAIR: readonly Kind[] = ['RSA', 'EC'];

export const OPERATIONS = {
  encrypt: operation('encrypt', 'encrypt', 'key/encrypt', 'apply', SECRET, 'gcm'),
  decrypt: operation('decrypt', 'decrypt', 'key/decrypt', 'process', SECRET, 'gcm'),
  createDataKey: operation('datakey.create', 'wrapKey', 'key/dataKey/create', 'apply', SECRET, 'dk'),
  decryptDataKey: operation('datakey.decrypt', 'unwrapKey', 'key/dataKey/decrypt', 'process', SECRET, 'dk'),
  sign: operation('sign', 'sign', 'key/sign', 'apply', PAIR, 'private'),
  verify: operation('verify', 'verify', 'key/verify', 'process', PAIR, 'public'),
  /** Of the key that an import was wrapped for. */
  openImport: operation('unwrap', 'unwrapKey', 'key/unwrapKey', 'process', ['RSA'], 'private'),
} as const satisfies Readonly<Record<string, Operation>>;

function operation(
  event: string,
  usage: Usage,
  permission: Permission,
  direction: Operation['direction'],
  kinds: readonly Kind[],
  family: Family,
): Operation {
  return { event: `key.${event}`, usage, permission, direction, kinds, family };
}

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
