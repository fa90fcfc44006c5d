/**
 * The tables as kysely sees them: the wire type of every column. Booleans are 0 or 1, lists are JSON text, times are
 * integer milliseconds since the epoch, blobs are bytes. What the columns mean stands in `keys/key.ts` and `store.ts`;
 * the `…rows.ts` files translate.
 *
 * Rows that matter are sealed (integrity §3): they extend `SealColumns`, are written only by `changes.ts`, and stand with
 * the meaning of each column in `sealed-tables.ts`.
 */

import type { Credential, Family, Installation, HolderMethod, InternalKeyName, Key, Vault } from '../keys/key.ts';
import type { Intent } from './store.ts';

export type Flag = 0 | 1;
type JsonText = string;
type Ms = number;

export interface SealColumns {
  /** Of the journal entry that wrote the row. */
  seq: number;
  /** Of the store, when the row was written. */
  epoch: number;
  /** From 0, raised by each change. */
  revision: number;
  /** HMAC-SHA-256 over all other columns. */
  seal: Uint8Array;
}

export interface InstallationTable extends SealColumns {
  /** Always 1, and the primary key: there is at most one row. */
  singleton: 1;
  id: string;
  kind: Installation['kind'];
  token_label: string;
  token_serial: string;
  access_ca: string;
  server_ca: string;
  created_ms: Ms;
}

export interface InternalKeyTable extends SealColumns {
  name: InternalKeyName;
  object_id: string;
  proof: Uint8Array;
  public_key: Uint8Array | null;
}

export interface VaultTable extends SealColumns {
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
  /** Null for none. */
  key_quota: number | null;
  created_ms: Ms;
}

export interface KeyTable extends SealColumns {
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
  /** When it was deleted softly, and when it will be destroyed; both null for a living key and for a tombstone. */
  deleted_ms: Ms | null;
  scheduled_purge_ms: Ms | null;
  /** 0 for a key that was asked for without naming an HSM; null is 1. */
  named_hsm: Flag | null;
  ordinal: number;
  /** SHA-256 over the seals of its versions and objects: one row speaks for all; null for a tombstone. */
  parts: Uint8Array | null;
}

export interface KeyVersionTable extends SealColumns {
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
  /** Null: those of the key. */
  usages: JsonText | null;
  /** What it was made for, which `usages` may not exceed; null: the usages of the key. */
  made_for: JsonText | null;
  /** Names and values in turn; null for none. */
  tags: JsonText | null;
}

export interface KeyObjectTable extends SealColumns {
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

export interface IntentTable extends SealColumns {
  id: string;
  action: Intent['action'];
  state: Intent['state'];
  /** Unique: one creation and one destruction at a time of one key; null for new versions. */
  slot: string | null;
  vault_id: string;
  key_id: string;
  object_ids: JsonText;
  boot_id: string;
  created_ms: Ms;
}

export interface CredentialTable extends SealColumns {
  issuer_key_hash: string;
  serial: string;
  vault_id: string;
  subject: Credential['subject'];
  /** Null for none. */
  identities: JsonText | null;
  not_after_ms: Ms;
  created_ms: Ms;
  revoked_ms: Ms | null;
}

export interface AssignmentTable extends SealColumns {
  id: string;
  method: HolderMethod;
  issuer: string;
  subject: string;
  role: string;
  /** Null for those of the role. */
  permissions: JsonText | null;
  vault_id: string | null;
  key_id: string | null;
  created_ms: Ms;
}

export interface CustomRoleTable extends SealColumns {
  id: string;
  name: string;
  /** Vault, slash, name in lower case: unique, and nothing that another managed HSM could tell. */
  slug: string;
  description: string;
  permissions: JsonText;
  vault_id: string | null;
  created_ms: Ms;
}

/** A program that gets access tokens of the built-in issuer by a secret (RFC 6749 §4.4). */
export interface TokenClientTable extends SealColumns {
  id: string;
  subject: string;
  /** SHA-256 of the secret, which has 256 random bits. */
  secret_hash: Uint8Array;
  created_ms: Ms;
  revoked_ms: Ms | null;
}

/** Failed decryptions by which somebody could learn, of one key by one principal (security P-9, P-11). Unsealed. */
export interface FailureBudgetTable {
  key_id: string;
  /** SHA-256 (hex) of vault and principal. */
  principal: string;
  window_ms: Ms;
  last_ms: Ms;
  failures: number;
}

/** One row: the end of the journal (integrity §4). */
export interface HeadTable {
  singleton: 1;
  epoch: number;
  seq: number;
  /** Of the newest journal entry; 32 zero bytes before the first. */
  mac: Uint8Array;
  key_epoch: number;
  /** Rows of all sealed tables together. */
  live_rows: number;
  /** Keys that are destroyed. */
  tombstones: number;
  store_id: string;
  /** `moved`: another store went on from here; this one never serves again. */
  status: 'serving' | 'moved';
  seal: Uint8Array;
}

/** One entry for each change of a sealed row, chained by `mac`. */
export interface JournalTable {
  seq: number;
  epoch: number;
  /** By the database's clock. */
  at_ms: Ms;
  tbl: string;
  pk: string;
  revision: number;
  row_seal: Uint8Array;
  /** Boot id of the process, which is the name of its audit stream. */
  stream: string;
  request_id: string;
  /** The row as JSON, bytes as hex SHA-256; null when the row was removed. */
  canonical: JsonText | null;
  prev: Uint8Array;
  mac: Uint8Array;
  /** Outside the mac: whether the audit holds the outcome of the request. */
  recorded: Flag;
}

/** A server process and its audit stream; sealed, but outside the journal, as it changes each second. */
export interface ProcessTable {
  boot_id: string;
  host_id: string;
  pid: number;
  /** Start of the process in clock ticks since the host's: with the pid it names a process for good. */
  born: string;
  started_ms: Ms;
  /** When it last said that it lives, by the database's clock. */
  lease_ms: Ms;
  /** Of the newest audit record; -1 before the first. */
  stream_seq: number;
  head: string;
  checkpoint: string;
  state: 'open' | 'closed' | 'adopted' | 'abandoned';
  settled_ms: Ms | null;
  seal: Uint8Array;
}

/** Work that one process of the installation does for all. */
export interface DutyTable {
  name: string;
  boot_id: string;
  until_ms: Ms;
}

/** A PIN that failed stops every login of the installation (design §2). */
export interface PinLatchTable {
  host_id: string;
  /** Fingerprint of the host's PIN source, when it failed or when the host learned of a failure elsewhere. */
  source: string;
  at_ms: Ms;
}

export interface Schema {
  head: HeadTable;
  journal: JournalTable;
  process: ProcessTable;
  duty: DutyTable;
  pin_latch: PinLatchTable;
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
  custom_role: CustomRoleTable;
  token_client: TokenClientTable;
  failure_budget: FailureBudgetTable;
}
