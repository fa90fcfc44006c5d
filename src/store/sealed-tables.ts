/**
 * Which tables are sealed, what names a row, and what type each column is sealed as (integrity §3). A column added to
 * `schema.ts` fails to compile here until it is described. A change here is a new schema number.
 */

import type { Schema } from './schema.ts';

/** Of the seals that are written. Rows of an earlier one are taken as they are; of a later one, refused. */
export const SCHEMA_NUMBER = 2;

/** `json-list` and `json-set` are JSON texts that are taken apart; the order of a set does not count. */
export type ColumnType = 'text' | 'bytes' | 'int' | 'flag' | 'time' | 'json-list' | 'json-set';

export interface TableDescription {
  /** Columns of the primary key. None holds a slash. */
  readonly key: readonly string[];
  /** Every column but `seal`. */
  readonly columns: Readonly<Record<string, ColumnType>>;
  /** Columns that schema 1 did not have; null in its rows. */
  readonly since2?: readonly string[];
}

/** Tables in the journal, in an order in which they can be filled. */
export type SealedTable =
  | 'installation' | 'internal_key' | 'vault' | 'credential' | 'assignment' | 'custom_role' | 'token_client'
  | 'key' | 'key_version' | 'key_object' | 'intent';

type Described<T extends SealedTable | 'head' | 'process'> = {
  readonly key: readonly (keyof Schema[T] & string)[];
  readonly columns: Readonly<Record<Exclude<keyof Schema[T] & string, 'seal'>, ColumnType>>;
  readonly since2?: readonly (keyof Schema[T] & string)[];
};

const SEALED = { seq: 'int', epoch: 'int', revision: 'int' } as const;

export const TABLES: { readonly [T in SealedTable | 'head' | 'process']: Described<T> } = {
  installation: {
    key: ['singleton'],
    columns: {
      ...SEALED, singleton: 'int', id: 'text', kind: 'text', token_label: 'text', token_serial: 'text',
      access_ca: 'text', server_ca: 'text', created_ms: 'time',
    },
  },
  internal_key: {
    key: ['name'],
    columns: { ...SEALED, name: 'text', object_id: 'text', proof: 'bytes', public_key: 'bytes' },
  },
  vault: {
    key: ['id'],
    since2: ['key_quota'],
    columns: {
      ...SEALED, id: 'text', name: 'text', ordinal: 'int', flavour: 'text', soft_delete_days: 'int',
      purge_protection: 'flag', backup: 'text', cbc: 'flag', rsa15: 'flag', rsnull: 'flag', compromise_rule: 'text',
      profile: 'text', key_quota: 'int', created_ms: 'time',
    },
  },
  credential: {
    key: ['issuer_key_hash', 'serial'],
    since2: ['identities'],
    columns: {
      ...SEALED, issuer_key_hash: 'text', serial: 'text', vault_id: 'text', subject: 'text', identities: 'json-set', not_after_ms: 'time',
      created_ms: 'time', revoked_ms: 'time',
    },
  },
  assignment: {
    key: ['id'],
    since2: ['permissions'],
    columns: {
      ...SEALED, id: 'text', method: 'text', issuer: 'text', subject: 'text', role: 'text', permissions: 'json-set',
      vault_id: 'text', key_id: 'text', created_ms: 'time',
    },
  },
  custom_role: {
    key: ['id'],
    columns: {
      ...SEALED, id: 'text', name: 'text', slug: 'text', description: 'text', permissions: 'json-set', vault_id: 'text',
      created_ms: 'time',
    },
  },
  token_client: {
    key: ['id'],
    columns: { ...SEALED, id: 'text', subject: 'text', secret_hash: 'bytes', created_ms: 'time', revoked_ms: 'time' },
  },
  key: {
    key: ['vault_id', 'id'],
    since2: ['deleted_ms', 'scheduled_purge_ms', 'named_hsm'],
    columns: {
      ...SEALED, vault_id: 'text', id: 'text', name: 'text', live_name: 'text', label: 'text', context: 'text',
      kind: 'text', bits: 'int', curve: 'text', usages: 'json-set', origin: 'text', backup_class: 'text', state: 'text',
      created_ms: 'time', activated_ms: 'time', deactivated_ms: 'time', deactivation_reason: 'text',
      compromised_ms: 'time', destroyed_ms: 'time', deleted_ms: 'time', scheduled_purge_ms: 'time', named_hsm: 'flag',
      ordinal: 'int', parts: 'bytes',
    },
  },
  key_version: {
    key: ['vault_id', 'key_id', 'ordinal'],
    since2: ['usages', 'made_for', 'tags'],
    columns: {
      ...SEALED, vault_id: 'text', key_id: 'text', ordinal: 'int', id: 'text', enabled: 'flag', nbf_ms: 'time',
      exp_ms: 'time', created_ms: 'time', updated_ms: 'time', public_key: 'bytes',
      usages: 'json-set', made_for: 'json-set', tags: 'json-list',
    },
  },
  key_object: {
    key: ['object_id', 'family'],
    columns: {
      ...SEALED, object_id: 'text', vault_id: 'text', key_id: 'text', version_ordinal: 'int', family: 'text',
      proof: 'bytes',
    },
  },
  intent: {
    key: ['id'],
    columns: {
      ...SEALED, id: 'text', action: 'text', state: 'text', slot: 'text', vault_id: 'text', key_id: 'text',
      object_ids: 'json-list', boot_id: 'text', created_ms: 'time',
    },
  },
  head: {
    key: ['singleton'],
    columns: {
      singleton: 'int', epoch: 'int', seq: 'int', mac: 'bytes', key_epoch: 'int', live_rows: 'int', tombstones: 'int',
      store_id: 'text', status: 'text',
    },
  },
  process: {
    key: ['boot_id'],
    columns: {
      boot_id: 'text', host_id: 'text', pid: 'int', born: 'text', started_ms: 'time', lease_ms: 'time', stream_seq: 'int',
      head: 'text', checkpoint: 'text', state: 'text', settled_ms: 'time',
    },
  },
};

export const SEALED_TABLES = Object.keys(TABLES).filter((name) => name !== 'head' && name !== 'process') as SealedTable[];

/** Column values as both databases give them. */
export type Value = string | number | Uint8Array | null;
export type AnyRow = Readonly<Record<string, Value>>;

/** The primary key as one text, as the journal spells it. */
export function keyText(table: keyof typeof TABLES, row: AnyRow): string {
  return TABLES[table].key.map((column) => String(row[column])).join('/');
}
