/**
 * Key rows ↔ keys. A key with its versions and objects is read by one statement, so that it is one snapshot on every
 * database; it arrives as one flat row per object and is folded here. Pure.
 */

import type { Key, KeyObject, KeyVersion, Usage } from '../keys/key.ts';
import { FIRST_REVISION, flag, readList } from './rows.ts';
import type { Flag, KeyObjectTable, KeyTable, KeyVersionTable } from './schema.ts';
import type { KeyChange, NewKey, NewVersion } from './store.ts';

interface VersionColumns {
  v_id: string;
  v_ordinal: number;
  v_enabled: Flag;
  v_nbf_ms: number | null;
  v_exp_ms: number | null;
  v_created_ms: number;
  v_updated_ms: number;
  v_public_key: Uint8Array | null;
  v_revision: number;
}

interface ObjectColumns {
  o_family: KeyObjectTable['family'];
  o_object_id: string;
  o_proof: Uint8Array;
}

/** Null where the outer join found nothing. */
type Joined<T> = { [Column in keyof T]: T[Column] | null };
export type JoinedRow = KeyTable & Joined<VersionColumns> & Joined<ObjectColumns>;

type Rows<T> = readonly [T, ...T[]];

export function keyRow(key: NewKey, ordinal: number): KeyTable {
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
    revision: FIRST_REVISION,
  };
}

export function versionRow(key: NewKey, version: NewVersion): KeyVersionTable {
  return {
    vault_id: key.vaultId,
    key_id: key.id,
    ordinal: version.ordinal,
    id: version.id,
    enabled: flag(version.enabled),
    nbf_ms: version.nbfMs,
    exp_ms: version.expMs,
    created_ms: version.createdMs,
    updated_ms: version.updatedMs,
    public_key: version.publicKey,
    revision: FIRST_REVISION,
  };
}

export function objectRow(key: NewKey, version: NewVersion, object: KeyObject): KeyObjectTable {
  return {
    object_id: object.objectId,
    vault_id: key.vaultId,
    key_id: key.id,
    version_ordinal: version.ordinal,
    family: object.family,
    proof: object.proof,
  };
}

/** Members left out give no column, so that they stay as they are. */
export function changedColumns(change: KeyChange): Partial<KeyTable> {
  return {
    ...(change.label !== undefined && { label: change.label }),
    ...(change.state !== undefined && { state: change.state }),
    ...(change.activatedMs !== undefined && { activated_ms: change.activatedMs }),
    ...(change.deactivatedMs !== undefined && { deactivated_ms: change.deactivatedMs }),
    ...(change.deactivationReason !== undefined && { deactivation_reason: change.deactivationReason }),
    ...(change.compromisedMs !== undefined && { compromised_ms: change.compromisedMs }),
  };
}

/** Folds rows sorted by key and, within it, by version. */
export function toKeys(rows: readonly JoinedRow[]): Key[] {
  return runs(rows, (row) => row.id).map(toKey);
}

function toKey(rows: Rows<JoinedRow>): Key {
  const [row] = rows;
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
    versions: runs(rows.filter(hasVersion), (of) => of.v_ordinal).map(toVersion),
  };
}

function toVersion(rows: Rows<JoinedRow & VersionColumns>): KeyVersion {
  const [row] = rows;
  return {
    id: row.v_id,
    ordinal: row.v_ordinal,
    enabled: row.v_enabled === 1,
    nbfMs: row.v_nbf_ms,
    expMs: row.v_exp_ms,
    createdMs: row.v_created_ms,
    updatedMs: row.v_updated_ms,
    publicKey: row.v_public_key,
    objects: rows.filter(hasObject).map(toObject),
    revision: row.v_revision,
  };
}

function toObject(row: ObjectColumns): KeyObject {
  return { family: row.o_family, objectId: row.o_object_id, proof: row.o_proof };
}

function hasVersion(row: JoinedRow): row is JoinedRow & VersionColumns {
  return row.v_id !== null;
}

function hasObject<T extends JoinedRow>(row: T): row is T & ObjectColumns {
  return row.o_object_id !== null;
}

/** Adjacent rows with an equal mark. */
function runs<T>(rows: readonly T[], mark: (row: T) => unknown): [T, ...T[]][] {
  const found: [T, ...T[]][] = [];
  for (const row of rows) {
    const last = found.at(-1);
    if (last !== undefined && mark(last[0]) === mark(row)) last.push(row);
    else found.push([row]);
  }
  return found;
}
