/**
 * The tables as kysely sees them: the wire type of every column. Booleans are 0 or 1, lists are JSON text, times are
 * integer milliseconds since the epoch, blobs are bytes. What the columns mean stands in `keys/key.ts` and `store.ts`;
 * the `…rows.ts` files translate.
 *
 * Every table whose rows change alone has its own `revision`. No column is derived from another one but
 * `key.live_name`, so that a later migration can add seal, epoch and journal number to each (integrity.md §3).
 */

import type { Assignment, Credential, Family, Installation, InternalKeyName, Key, Vault } from '../keys/key.ts';
import type { Intent } from './store.ts';

export type Flag = 0 | 1;
type JsonText = string;
type Ms = number;

export interface InstallationTable {
  /** Always 1, and the primary key: there is at most one row. */
  singleton: 1;
  id: string;
  kind: Installation['kind'];
  token_label: string;
  token_serial: string;
  access_ca: string;
  created_ms: Ms;
  revision: number;
}

export interface InternalKeyTable {
  name: InternalKeyName;
  object_id: string;
  proof: Uint8Array;
  public_key: Uint8Array | null;
}

export interface VaultTable {
  id: string;
  name: string;
  /** Order of creation, from 0; times may be equal. */
  ordinal: number;
  flavour: Vault['flavour'];
  soft_delete_days: number;
  purge_protection: Flag;
  backup: Vault['backup'];
  cbc: Flag;
  rsa15: Flag;
  rsnull: Flag;
  compromise_rule: Vault['compromiseRule'];
  profile: Vault['profile'];
  created_ms: Ms;
  revision: number;
}

export interface KeyTable {
  vault_id: string;
  id: string;
  name: string;
  /** The name in lower case while the key lives, null for a tombstone: unique in the vault, and frees the name. */
  live_name: string | null;
  label: string;
  context: string | null;
  kind: Key['kind'];
  bits: number | null;
  curve: Key['curve'];
  usages: JsonText;
  origin: Key['origin'];
  backup_class: Key['backupClass'];
  state: Key['state'];
  created_ms: Ms;
  activated_ms: Ms | null;
  deactivated_ms: Ms | null;
  deactivation_reason: Key['deactivationReason'];
  compromised_ms: Ms | null;
  destroyed_ms: Ms | null;
  ordinal: number;
  revision: number;
}

export interface KeyVersionTable {
  vault_id: string;
  key_id: string;
  ordinal: number;
  id: string;
  enabled: Flag;
  nbf_ms: Ms | null;
  exp_ms: Ms | null;
  created_ms: Ms;
  updated_ms: Ms;
  public_key: Uint8Array | null;
  revision: number;
}

export interface KeyObjectTable {
  object_id: string;
  vault_id: string;
  key_id: string;
  version_ordinal: number;
  family: Family;
  proof: Uint8Array;
}

/** Outside seals and journal (integrity.md §4): it changes far more often than anything else. */
export interface InvocationCounterTable {
  object_id: string;
  reserved: number;
}

export interface IntentTable {
  id: string;
  action: Intent['action'];
  vault_id: string;
  key_id: string;
  object_ids: JsonText;
  boot_id: string;
  created_ms: Ms;
  revision: number;
}

export interface CredentialTable {
  issuer_key_hash: string;
  serial: string;
  vault_id: string;
  subject: Credential['subject'];
  not_after_ms: Ms;
  created_ms: Ms;
  revoked_ms: Ms | null;
  revision: number;
}

export interface AssignmentTable {
  id: string;
  method: Assignment['method'];
  issuer: string;
  subject: string;
  role: string;
  vault_id: string | null;
  key_id: string | null;
  created_ms: Ms;
  revision: number;
}

export interface Schema {
  installation: InstallationTable;
  internal_key: InternalKeyTable;
  vault: VaultTable;
  key: KeyTable;
  key_version: KeyVersionTable;
  key_object: KeyObjectTable;
  invocation_counter: InvocationCounterTable;
  intent: IntentTable;
  credential: CredentialTable;
  assignment: AssignmentTable;
}
