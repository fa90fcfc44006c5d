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
