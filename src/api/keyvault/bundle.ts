/** Keys and versions as the Key Vault door shows them: bundles and list items (azure-keyvault-keys-api §0.2, §1.1, §5.1). Pure. */

import type { Key, KeyVersion, Vault } from '../../keys/key.ts';
import type { Versioned } from '../../keys/named-keys.ts';
import { publicHalf } from '../../keys/public-half.ts';
import { newestVersion } from '../../keys/state.ts';

/** What identifiers and attributes depend on besides the key. */
export interface Place {
  /** That the client used. */
  readonly origin: string;
  readonly vault: Vault;
  /** Of the HSM's profile. */
  readonly hsmPlatform: string;
}

export function baseId({ origin }: Pick<Place, 'origin'>, { name }: Pick<Key, 'name'>): string {
  return `${origin}/keys/${name}`;
}

export function versionId(place: Pick<Place, 'origin'>, key: Pick<Key, 'name'>, { id }: Pick<KeyVersion, 'id'>): string {
  return `${baseId(place, key)}/${id}`;
}

/** Secret keys have one name only. */
function ktyOf({ kind, namedHsm }: Key): string {
  return namedHsm || kind === 'oct' ? `${kind}-HSM` : kind;
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

function recoveryLevel({ softDeleteDays, purgeProtection }: Vault): string {
  return `${softDeleteDays === 90 ? '' : 'Customized'}Recoverable${purgeProtection ? '' : '+Purgeable'}`;
}

/** A key that is not active shows every version disabled (design §3). */
function attributes({ state }: Key, version: KeyVersion, { vault, hsmPlatform }: Place): Readonly<Record<string, unknown>> {
  const { enabled, nbfMs, expMs, createdMs, updatedMs } = version;
  return {
    enabled: enabled && state === 'active',
    ...(nbfMs !== null && { nbf: seconds(nbfMs) }),
    ...(expMs !== null && { exp: seconds(expMs) }),
    created: seconds(createdMs),
    updated: seconds(updatedMs),
    recoveryLevel: recoveryLevel(vault),
    recoverableDays: vault.softDeleteDays,
    exportable: false,
    hsmPlatform,
  };
}

function tagsOf({ tags }: KeyVersion): Readonly<Record<string, unknown>> {
  return tags.length === 0 ? {} : { tags: Object.fromEntries(tags) };
}

function deletionOf({ origin }: Place, { name, deletion }: Key): Readonly<Record<string, unknown>> {
  if (deletion === null) return {};
  const { atMs, scheduledPurgeMs } = deletion;
  return { recoveryId: `${origin}/deletedkeys/${name}`, deletedDate: seconds(atMs), scheduledPurgeDate: seconds(scheduledPurgeMs) };
}

/** KeyBundle, or DeletedKeyBundle of a key that is deleted softly. */
export function bundle({ key, version }: Versioned, place: Place): Readonly<Record<string, unknown>> {
  const { kty: _kind, ...material } = publicHalf(key, version);
  return {
    key: { kid: versionId(place, key, version), kty: ktyOf(key), key_ops: [...version.usages], ...material },
    attributes: attributes(key, version, place),
    ...tagsOf(version),
    ...deletionOf(place, key),
  };
}

/** KeyItem or DeletedKeyItem: the newest version under the id of the key. */
export function keyItem(key: Key, place: Place): Readonly<Record<string, unknown>> {
  const version = newestVersion(key);
  if (version === undefined) return { kid: baseId(place, key) };
  return { kid: baseId(place, key), attributes: attributes(key, version, place), ...tagsOf(version), ...deletionOf(place, key) };
}

export function versionItem(key: Key, version: KeyVersion, place: Place): Readonly<Record<string, unknown>> {
  return { kid: versionId(place, key, version), attributes: attributes(key, version, place), ...tagsOf(version) };
}
