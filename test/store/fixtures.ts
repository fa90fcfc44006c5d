/** Rows for store tests. Every value differs from every default, so that a swapped column shows. */

import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import type { Assignment, Credential, CustomRole, Installation, InternalKey, Key, KeyObject, TokenClient, Vault } from '../../src/keys/key.ts';
import type { Announcement, KeyStore, NewKey, NewVersion, StoreMacs } from '../../src/store/store.ts';

type Fresh<T> = Omit<T, 'revision'>;

/** Keys of the seals, as the token of an installation would give them; hex, so that child processes can be told. */
export const SEAL_KEYS = { seal: randomBytes(32).toString('hex'), journal: randomBytes(32).toString('hex') };

export function macsOf(keys: Readonly<Record<keyof StoreMacs, string>>): StoreMacs {
  const hmac = (key: string) => (bytes: Uint8Array) => createHmac('sha256', Buffer.from(key, 'hex')).update(bytes).digest();
  return { seal: hmac(keys.seal), journal: hmac(keys.journal) };
}

export const MACS = macsOf(SEAL_KEYS);
/** Of every change that a test does not name otherwise. */
export const REQUEST = 'request';

export const hex = () => randomBytes(16).toString('hex');

export function vault(over: Partial<Vault> = {}): Fresh<Vault> {
  return {
    id: randomUUID(),
    name: `v-${hex()}`,
    flavour: 'managed-hsm',
    softDeleteDays: 7,
    purgeProtection: true,
    backup: 'allowed',
    cbc: false,
    rsa15: true,
    rsnull: false,
    compromiseRule: 'final',
    profile: 'fips',
    keyQuota: 1000,
    createdMs: 1_700_000_000_001,
    ...over,
  };
}

export function internalKey(name: InternalKey['name'], publicKey: Buffer | null): InternalKey {
  return { name, objectId: hex(), proof: randomBytes(32), publicKey };
}

export function installation(): Fresh<Installation> {
  return {
    id: randomUUID(),
    kind: 'dev',
    tokenLabel: 'label',
    tokenSerial: 'serial',
    createdMs: 1_700_000_000_002,
    internalKeys: [internalKey('audit', randomBytes(91)), internalKey('canary', null)],
    accessCa: '-----BEGIN CERTIFICATE-----',
    serverCa: '-----BEGIN CERTIFICATE----- of the other',
  };
}

export function credential(vaultId: string, over: Partial<Credential> = {}): Fresh<Credential> {
  return {
    issuerKeyHash: hex() + hex(),
    serial: hex(),
    vaultId,
    subject: 'CN=admin',
    identities: ['urn:v1:eu:identity:user:nic/login'],
    notAfterMs: 4_102_444_800_000,
    createdMs: 1_700_000_000_003,
    revokedMs: null,
    ...over,
  };
}

export function assignment(over: Partial<Assignment> = {}): Fresh<Assignment> {
  return {
    id: randomUUID(),
    method: 'certificate',
    issuer: 'issuer',
    subject: 'subject',
    role: 'owner',
    permissions: null,
    vaultId: null,
    keyId: null,
    createdMs: 1_700_000_000_004,
    ...over,
  };
}

export function customRole(over: Partial<CustomRole> = {}): Fresh<CustomRole> {
  return {
    id: randomUUID(), name: `Role ${hex()}`, description: 'what it is for', permissions: ['key/sign', 'key/get'], vaultId: null,
    createdMs: 1_700_000_000_014, ...over,
  };
}

export function tokenClient(over: Partial<TokenClient> = {}): Fresh<TokenClient> {
  return { id: randomUUID(), subject: 'a program', secretHash: randomBytes(32), createdMs: 1_700_000_000_013, revokedMs: null, ...over };
}

export function newKey(vaultId: string, over: Partial<NewKey> = {}): NewKey {
  return {
    vaultId,
    id: randomUUID(),
    name: `Key-${hex()}`,
    label: 'a label, "quoted" — ünïcode',
    context: 'context',
    kind: 'oct',
    bits: 256,
    curve: null,
    usages: ['encrypt', 'decrypt'],
    origin: 'generated',
    backupClass: 'never',
    state: 'active',
    createdMs: 1_700_000_000_005,
    activatedMs: 1_700_000_000_006,
    deactivatedMs: null,
    deactivationReason: null,
    compromisedMs: null,
    destroyedMs: null,
    namedHsm: true,
    deletion: null,
    ...over,
  };
}

export function object(family: KeyObject['family']): KeyObject {
  return { family, objectId: hex(), proof: randomBytes(48) };
}

export function newVersion(over: Partial<NewVersion> = {}): NewVersion {
  return {
    id: hex(),
    enabled: true,
    nbfMs: 1_700_000_000_007,
    expMs: null,
    createdMs: 1_700_000_000_008,
    updatedMs: 1_700_000_000_009,
    publicKey: null,
    usages: ['encrypt', 'decrypt'],
    madeFor: ['encrypt', 'decrypt'],
    tags: [['name', 'a value']],
    objects: [object('gcm'), object('dk')],
    ...over,
  };
}

export function announcement(key: { readonly vaultId: string; readonly id: string }, objectIds: readonly string[] = []): Announcement {
  return { id: randomUUID(), vaultId: key.vaultId, keyId: key.id, objectIds, bootId: 'boot', createdMs: 1_700_000_000_010 };
}

export function destruction(): Omit<Announcement, 'vaultId' | 'keyId' | 'objectIds'> {
  return { id: randomUUID(), bootId: 'boot', createdMs: 1_700_000_000_011 };
}

export const TOMBSTONE = { state: 'destroyed', destroyedMs: 1_700_000_000_012 } as const;

/** Writes an installation with one vault, unlocks the others as well, and gives the vault. */
export async function installed(store: KeyStore, ...others: readonly KeyStore[]): Promise<Fresh<Vault>> {
  const only = vault();
  await store.createInstallation({ installation: installation(), vaults: [only], credentials: [], assignments: [] }, MACS);
  for (const other of others) await other.unlock(MACS);
  return only;
}

/** Announces and commits a key. */
export async function created(store: KeyStore, vaultId: string, over: Partial<NewKey> = {}): Promise<Key> {
  const [key, version] = [newKey(vaultId, over), newVersion()];
  const intent = announcement(key, objectIds(version));
  await store.beginCreate(intent, REQUEST);
  return store.commitCreate(intent.id, key, version, REQUEST);
}

/** Announces and commits another version of a key. */
export async function rotated(store: KeyStore, key: Pick<Key, 'vaultId' | 'id'>): Promise<Key> {
  const version = newVersion();
  const intent = announcement(key, objectIds(version));
  await store.beginRotate(intent, REQUEST);
  return store.commitVersion(intent.id, key.vaultId, key.id, version, REQUEST);
}

export function objectIds(version: Pick<NewVersion, 'objects'>): string[] {
  return version.objects.map((of) => of.objectId);
}

/** Tombstone and intent in one step; the intent stays. */
export async function destroyed(store: KeyStore, key: Key): Promise<Announcement> {
  const intent = destruction();
  const { objectIds: found } = await store.beginDestroy(key.vaultId, key.id, key.revision, TOMBSTONE, intent, REQUEST);
  return { ...intent, vaultId: key.vaultId, keyId: key.id, objectIds: found };
}
