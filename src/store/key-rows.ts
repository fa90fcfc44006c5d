/** Key, version and object rows ↔ keys. Pure. */

import type { Key, KeyObject, KeyVersion, Usage } from '../keys/key.ts';
import type { Unsealed } from './changes.ts';
import { flag, readList } from './rows.ts';
import type { KeyObjectTable, KeyTable, KeyVersionTable } from './schema.ts';
import type { KeyChange, NewKey, NewVersion } from './store.ts';

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
    ...(change.state !== undefined && { state: change.state }),
    ...(change.activatedMs !== undefined && { activated_ms: change.activatedMs }),
    ...(change.deactivatedMs !== undefined && { deactivated_ms: change.deactivatedMs }),
    ...(change.deactivationReason !== undefined && { deactivation_reason: change.deactivationReason }),
    ...(change.compromisedMs !== undefined && { compromised_ms: change.compromisedMs }),
  };
}

export function toKey({ key: row, versions, objects }: KeyRows): Key {
  return {
    vaultId: row.vault_id,
    id: row.id,
    name: row.name,
    label: row.label,
    context: row.context,
    kind: row.kind,
    bits: row.bits,
    curve: row.curve,
    usages: readList(row.usages) as Usage[],
    origin: row.origin,
    backupClass: row.backup_class,
    state: row.state,
    createdMs: row.created_ms,
    activatedMs: row.activated_ms,
    deactivatedMs: row.deactivated_ms,
    deactivationReason: row.deactivation_reason,
    compromisedMs: row.compromised_ms,
    destroyedMs: row.destroyed_ms,
    ordinal: row.ordinal,
    revision: row.revision,
    versions: versions.map((version) => toVersion(version, objects)),
  };
}

function toVersion(row: KeyVersionTable, objects: readonly KeyObjectTable[]): KeyVersion {
  return {
    id: row.id,
    ordinal: row.ordinal,
    enabled: row.enabled === 1,
    nbfMs: row.nbf_ms,
    expMs: row.exp_ms,
    createdMs: row.created_ms,
    updatedMs: row.updated_ms,
    publicKey: row.public_key,
    objects: objects.filter(({ version_ordinal }) => version_ordinal === row.ordinal).map(toObject),
    revision: row.revision,
  };
}

function toObject(row: KeyObjectTable): KeyObject {
  return { family: row.family, objectId: row.object_id, proof: row.proof };
}
