/**
 * The first schema. What the columns hold stands in `../schema.ts`, which shows the newest schema; a migration is never
 * edited after its release.
 */

import { type CreateTableBuilder, type Kysely, type Migration, sql } from 'kysely';

/** The type of a bytes column: `blob` on SQLite, `bytea` on PostgreSQL. All other types are common. */
export type BytesType = 'blob' | 'bytea';

export function initial(bytes: BytesType): Migration {
  return {
    async up(db) {
      await installation(db, bytes);
      await vault(db, bytes);
      await key(db, bytes);
      await version(db, bytes);
      await object(db, bytes);
      await work(db, bytes);
      await access(db, bytes);
      await evidence(db, bytes);
      await fleet(db, bytes);
    },
  };
}

type Db = Kysely<unknown>;
type ColumnType = 'text' | 'bigint' | BytesType;

/** Adds columns of one type, given as a list. */
function columns<N extends string>(type: ColumnType, names: readonly N[], nulls: 'nullable' | 'not null') {
  return <T extends string, C extends string>(table: CreateTableBuilder<T, C>) =>
    names.reduce<CreateTableBuilder<T, C | N>>(
      (to, name) => to.addColumn(name, type, (it) => (nulls === 'nullable' ? it : it.notNull())),
      table,
    );
}

/** What every sealed row carries (integrity §3). */
export function sealed(bytes: BytesType) {
  return <T extends string, C extends string>(table: CreateTableBuilder<T, C>) =>
    table.$call(columns('bigint', ['seq', 'epoch', 'revision'], 'not null')).$call(columns(bytes, ['seal'], 'not null'));
}

async function installation(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('installation')
    .addColumn('singleton', 'bigint', (it) => it.primaryKey().notNull())
    .$call(columns('text', ['id', 'kind', 'token_label', 'token_serial', 'access_ca', 'server_ca'], 'not null'))
    .$call(columns('bigint', ['created_ms'], 'not null'))
    .$call(sealed(bytes))
    .execute();
  await db.schema
    .createTable('internal_key')
    .addColumn('name', 'text', (it) => it.primaryKey().notNull())
    .addColumn('object_id', 'text', (it) => it.notNull().unique())
    .$call(columns(bytes, ['proof'], 'not null'))
    .$call(columns(bytes, ['public_key'], 'nullable'))
    .$call(sealed(bytes))
    .execute();
}

async function vault(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('vault')
    .addColumn('id', 'text', (it) => it.primaryKey().notNull())
    .addColumn('name', 'text', (it) => it.notNull().unique())
    .addColumn('ordinal', 'bigint', (it) => it.notNull().unique())
    .$call(columns('text', ['flavour', 'backup', 'compromise_rule', 'profile'], 'not null'))
    .$call(columns('bigint', ['soft_delete_days', 'purge_protection', 'cbc', 'rsa15', 'rsnull'], 'not null'))
    .$call(columns('bigint', ['created_ms'], 'not null'))
    .$call(sealed(bytes))
    .execute();
}

async function key(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('key')
    .addColumn('vault_id', 'text', (it) => it.notNull().references('vault.id'))
    .$call(columns('text', ['id', 'name', 'label', 'kind', 'usages', 'origin', 'backup_class', 'state'], 'not null'))
    .$call(columns('text', ['live_name', 'context', 'curve', 'deactivation_reason'], 'nullable'))
    .$call(columns('bigint', ['created_ms', 'ordinal'], 'not null'))
    .$call(columns('bigint', ['bits', 'activated_ms', 'deactivated_ms', 'compromised_ms', 'destroyed_ms'], 'nullable'))
    .$call(columns(bytes, ['parts'], 'nullable'))
    .$call(sealed(bytes))
    .addPrimaryKeyConstraint('key_pk', ['vault_id', 'id'])
    .execute();
  await unique(db, 'key', 'key_live_name', ['vault_id', 'live_name']);
  await unique(db, 'key', 'key_ordinal', ['vault_id', 'ordinal']);
  // Tombstones stay for ever: pages of living keys, and their number, must not walk over them.
  await db.schema
    .createIndex('key_living').on('key').columns(['vault_id', 'ordinal']).where(sql.ref('live_name'), 'is not', null).execute();
  await db.schema.createIndex('key_state').on('key').columns(['vault_id', 'state', 'ordinal']).execute();
}

async function version(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('key_version')
    .$call(columns('text', ['vault_id', 'key_id', 'id'], 'not null'))
    .$call(columns('bigint', ['ordinal', 'enabled', 'created_ms', 'updated_ms'], 'not null'))
    .$call(sealed(bytes))
    .$call(columns('bigint', ['nbf_ms', 'exp_ms'], 'nullable'))
    .$call(columns(bytes, ['public_key'], 'nullable'))
    .addPrimaryKeyConstraint('key_version_pk', ['vault_id', 'key_id', 'ordinal'])
    .addForeignKeyConstraint('key_version_of_key', ['vault_id', 'key_id'], 'key', ['vault_id', 'id'])
    .execute();
  await unique(db, 'key_version', 'key_version_id', ['vault_id', 'key_id', 'id']);
}

async function object(db: Db, bytes: BytesType): Promise<void> {
  const place = ['vault_id', 'key_id', 'version_ordinal'] as const;
  await db.schema
    .createTable('key_object')
    .$call(columns('text', ['object_id', 'vault_id', 'key_id', 'family'], 'not null'))
    .$call(columns('bigint', ['version_ordinal'], 'not null'))
    .$call(columns(bytes, ['proof'], 'not null'))
    .$call(sealed(bytes))
    // The halves of a key pair share their CKA_ID.
    .addPrimaryKeyConstraint('key_object_pk', ['object_id', 'family'])
    .addForeignKeyConstraint('key_object_of_version', [...place], 'key_version', ['vault_id', 'key_id', 'ordinal'])
    .execute();
  await db.schema.createIndex('key_object_place').on('key_object').columns([...place]).execute();
}

/** Intents and counters. A counter has no foreign key: it may be asked for while the object is being destroyed. */
async function work(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('intent')
    .addColumn('id', 'text', (it) => it.primaryKey().notNull())
    .addColumn('vault_id', 'text', (it) => it.notNull().references('vault.id'))
    .$call(columns('text', ['key_id', 'action', 'state', 'object_ids', 'boot_id'], 'not null'))
    .$call(columns('text', ['slot'], 'nullable'))
    .$call(columns('bigint', ['created_ms'], 'not null'))
    .$call(sealed(bytes))
    .execute();
  await unique(db, 'intent', 'intent_slot', ['slot']);
  await db.schema
    .createTable('invocation_counter')
    .addColumn('object_id', 'text', (it) => it.primaryKey().notNull())
    .$call(columns('bigint', ['reserved'], 'not null'))
    .execute();
}

async function access(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('credential')
    .addColumn('vault_id', 'text', (it) => it.notNull().references('vault.id'))
    .$call(columns('text', ['issuer_key_hash', 'serial', 'subject'], 'not null'))
    .$call(columns('bigint', ['not_after_ms', 'created_ms'], 'not null'))
    .$call(sealed(bytes))
    .$call(columns('bigint', ['revoked_ms'], 'nullable'))
    .addPrimaryKeyConstraint('credential_pk', ['issuer_key_hash', 'serial'])
    .execute();
  await db.schema
    .createTable('assignment')
    .addColumn('id', 'text', (it) => it.primaryKey().notNull())
    .addColumn('vault_id', 'text', (it) => it.references('vault.id'))
    .$call(columns('text', ['method', 'issuer', 'subject', 'role'], 'not null'))
    .$call(columns('text', ['key_id'], 'nullable'))
    .$call(columns('bigint', ['created_ms'], 'not null'))
    .$call(sealed(bytes))
    .execute();
  const index = db.schema.createIndex('assignment_principal').on('assignment');
  await index.columns(['method', 'issuer', 'subject']).execute();
}

/** Head and journal (integrity §4). */
async function evidence(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('head')
    .addColumn('singleton', 'bigint', (it) => it.primaryKey().notNull())
    .$call(columns('bigint', ['epoch', 'seq', 'key_epoch', 'live_rows', 'tombstones'], 'not null'))
    .$call(columns('text', ['store_id', 'status'], 'not null'))
    .$call(columns(bytes, ['mac', 'seal'], 'not null'))
    .execute();
  await db.schema
    .createTable('journal')
    .addColumn('seq', 'bigint', (it) => it.primaryKey().notNull())
    .$call(columns('bigint', ['epoch', 'at_ms', 'revision', 'recorded'], 'not null'))
    .$call(columns('text', ['tbl', 'pk', 'stream', 'request_id'], 'not null'))
    .$call(columns('text', ['canonical'], 'nullable'))
    .$call(columns(bytes, ['row_seal', 'prev', 'mac'], 'not null'))
    .execute();
  await db.schema.createIndex('journal_of_row').on('journal').columns(['tbl', 'pk', 'seq']).execute();
  // Small: an entry leaves it as soon as the audit holds its outcome.
  await db.schema
    .createIndex('journal_unrecorded').on('journal').columns(['stream', 'request_id']).where(sql.ref('recorded'), '=', sql.lit(0)).execute();
}

/** Server processes, and what one of them does for all. */
async function fleet(db: Db, bytes: BytesType): Promise<void> {
  await db.schema
    .createTable('process')
    .addColumn('boot_id', 'text', (it) => it.primaryKey().notNull())
    .$call(columns('text', ['host_id', 'born', 'head', 'checkpoint', 'state'], 'not null'))
    .$call(columns('bigint', ['pid', 'started_ms', 'lease_ms', 'stream_seq'], 'not null'))
    .$call(columns('bigint', ['settled_ms'], 'nullable'))
    .$call(columns(bytes, ['seal'], 'not null'))
    .execute();
  await db.schema
    .createTable('duty')
    .addColumn('name', 'text', (it) => it.primaryKey().notNull())
    .$call(columns('text', ['boot_id'], 'not null'))
    .$call(columns('bigint', ['until_ms'], 'not null'))
    .execute();
  await db.schema
    .createTable('pin_latch')
    .addColumn('host_id', 'text', (it) => it.primaryKey().notNull())
    .$call(columns('text', ['source'], 'not null'))
    .$call(columns('bigint', ['at_ms'], 'not null'))
    .execute();
}

async function unique(db: Db, table: string, name: string, of: readonly string[]): Promise<void> {
  await db.schema.createIndex(name).unique().on(table).columns([...of]).execute();
}
