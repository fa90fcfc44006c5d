/** Key, version and object rows ↔ keys. Pure. */

import type { Key, KeyObject, KeyVersion, Tags, Usage } from '../keys/key.ts';
import type { Unsealed } from './changes.ts';
import { flag, readList } from './rows.ts';
import type { KeyObjectTable, KeyTable, KeyVersionTable } from './schema.ts';
import type { KeyChange, NewKey, NewVersion, VersionChange } from './store.ts';

/** The rows of one key, as a load found them. */
export interface KeyRows {
  readonly key: KeyTable;
  /** Ascending ordinal; none for a tombstone. */
  readonly versions: readonly KeyVersionTable[];
  readonly objects: readonly KeyObjectTable[];
}

export function keyRow(key: NewKey, ordinal: number, parts: Uint8Array): Unsealed<'key'> {
  return {
    vault_id: key.vaultId,
    id: key.id,
    name: key.name,
    live_name: key.name.toLowerCase(),
    label: key.label,
    context: key.context,
    kind: key.kind,
    bits: key.bits,
    curve: key.curve,
    usages: JSON.stringify(key.usages),
    origin: key.origin,
    backup_class: key.backupClass,
    state: key.state,
    created_ms: key.createdMs,
    activated_ms: key.activatedMs,
    deactivated_ms: key.deactivatedMs,
    deactivation_reason: key.deactivationReason,
    compromised_ms: key.compromisedMs,
    destroyed_ms: key.destroyedMs,
    deleted_ms: key.deletion?.atMs ?? null,
    scheduled_purge_ms: key.deletion?.scheduledPurgeMs ?? null,
    named_hsm: flag(key.namedHsm),
    ordinal,
    parts,
  };
}

/** Which key a version belongs to. */
export interface KeyPlace {
  readonly vaultId: string;
  readonly keyId: string;
}

export function versionRow({ vaultId, keyId }: KeyPlace, ordinal: number, version: NewVersion): Unsealed<'key_version'> {
  return {
    vault_id: vaultId,
    key_id: keyId,
    ordinal,
    id: version.id,
    enabled: flag(version.enabled),
    nbf_ms: version.nbfMs,
    exp_ms: version.expMs,
    created_ms: version.createdMs,
    updated_ms: version.updatedMs,
    public_key: version.publicKey,
    usages: JSON.stringify(version.usages),
    made_for: JSON.stringify(version.madeFor),
    tags: tagsText(version.tags),
  };
}

export function objectRow({ vaultId, keyId }: KeyPlace, ordinal: number, object: KeyObject): Unsealed<'key_object'> {
  return {
    object_id: object.objectId,
    vault_id: vaultId,
    key_id: keyId,
    version_ordinal: ordinal,
    family: object.family,
    proof: object.proof,
  };
}

/** Members left out give no column, so that they stay as they are. */
export function changedColumns(change: KeyChange): Partial<Unsealed<'key'>> {
  return {
    ...(change.label !== undefined && { label: change.label }),
    ...(change.origin !== undefined && { origin: change.origin }),
    ...(change.state !== undefined && { state: change.state }),
    ...(change.activatedMs !== undefined && { activated_ms: change.activatedMs }),
    ...(change.deactivatedMs !== undefined && { deactivated_ms: change.deactivatedMs }),
    ...(change.deactivationReason !== undefined && { deactivation_reason: change.deactivationReason }),
    ...(change.compromisedMs !== undefined && { compromised_ms: change.compromisedMs }),
    ...(change.deletion !== undefined && {
      deleted_ms: change.deletion?.atMs ?? null,
      scheduled_purge_ms: change.deletion?.scheduledPurgeMs ?? null,
    }),
  };
}

export function changedVersionColumns(change: VersionChange): Partial<Unsealed<'key_version'>> {
  return {
    updated_ms: change.updatedMs,
    ...(change.enabled !== undefined && { enabled: flag(change.enabled) }),
    ...(change.nbfMs !== undefined && { nbf_ms: change.nbfMs }),
    ...(change.expMs !== undefined && { exp_ms: change.expMs }),
    ...(change.usages !== undefined && { usages: JSON.stringify(change.usages) }),
    ...(change.tags !== undefined && { tags: tagsText(change.tags) }),
  };
}

function tagsText(tags: Tags): string | null {
  return tags.length === 0 ? null : JSON.stringify(tags.flat());
}

function toTags(text: string | null): Tags {
  const texts = text === null ? [] : readList(text);
  return texts.flatMap((name, index) => (index % 2 === 0 ? [[name, texts[index + 1] ?? ''] as const] : []));
}

export function toKey({ key: row, versions: versionRows, objects }: KeyRows): Key {
  const usages = readList(row.usages) as Usage[];
  const versions = versionRows.map((version) => toVersion(version, objects, usages));
  return {
    vaultId: row.vault_id,
    id: row.id,
    name: row.name,
    label: row.label,
    context: row.context,
    kind: row.kind,
    bits: row.bits,
    curve: row.curve,
    usages: versions.at(-1)?.usages ?? usages,
    origin: row.origin,
    namedHsm: row.named_hsm !== 0,
    backupClass: row.backup_class,
    state: row.state,
    createdMs: row.created_ms,
    activatedMs: row.activated_ms,
    deactivatedMs: row.deactivated_ms,
    deactivationReason: row.deactivation_reason,
    compromisedMs: row.compromised_ms,
    destroyedMs: row.destroyed_ms,
    deletion: toDeletion(row),
    ordinal: row.ordinal,
    revision: row.revision,
    versions,
  };
}

function toDeletion({ deleted_ms: atMs, scheduled_purge_ms: scheduledPurgeMs }: KeyTable): Key['deletion'] {
  return atMs === null || scheduledPurgeMs === null ? null : { atMs, scheduledPurgeMs };
}

/** @param usages of the key, which hold for versions that say nothing of their own */
function toVersion(row: KeyVersionTable, objects: readonly KeyObjectTable[], usages: readonly Usage[]): KeyVersion {
  return {
    id: row.id,
    ordinal: row.ordinal,
    enabled: row.enabled === 1,
    nbfMs: row.nbf_ms,
    expMs: row.exp_ms,
    createdMs: row.created_ms,
    updatedMs: row.updated_ms,
    usages: row.usages === null ? usages : (readList(row.usages) as Usage[]),
    madeFor: row.made_for === null ? usages : (readList(row.made_for) as Usage[]),
    tags: toTags(row.tags),
    publicKey: row.public_key,
    objects: objects.filter(({ version_ordinal }) => version_ordinal === row.ordinal).map(toObject),
    revision: row.revision,
  };
}

function toObject(row: KeyObjectTable): KeyObject {
  return { family: row.family, objectId: row.object_id, proof: row.proof };
}
