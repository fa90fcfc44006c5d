/**
 * What the Key Vault API needs: soft deletion, usages and tags of versions, clients of the token endpoint, failure budgets,
 * roles of the operator's own.
 * Rows that are there stay as they are sealed: the new columns are null in them.
 */

import { type Migration, sql } from 'kysely';
import { type BytesType, sealed } from './0001-sealed.ts';

export function keyVault(bytes: BytesType): Migration {
  return {
    async up(db) {
      for (const name of ['deleted_ms', 'scheduled_purge_ms', 'named_hsm']) {
        await db.schema.alterTable('key').addColumn(name, 'bigint').execute();
      }
      for (const name of ['usages', 'made_for', 'tags']) {
        await db.schema.alterTable('key_version').addColumn(name, 'text').execute();
      }
      await db.schema
        .createIndex('key_deleted').on('key').columns(['vault_id', 'ordinal']).where(sql.ref('deleted_ms'), 'is not', null).execute();
      await db.schema
        .createTable('token_client')
        .addColumn('id', 'text', (it) => it.primaryKey().notNull())
        .addColumn('subject', 'text', (it) => it.notNull())
        .addColumn('secret_hash', bytes, (it) => it.notNull())
        .addColumn('created_ms', 'bigint', (it) => it.notNull())
        .addColumn('revoked_ms', 'bigint')
        .$call(sealed(bytes))
        .execute();
      await db.schema.alterTable('vault').addColumn('key_quota', 'bigint').execute();
      await db.schema.alterTable('credential').addColumn('identities', 'text').execute();
      await db.schema.alterTable('assignment').addColumn('permissions', 'text').execute();
      await db.schema
        .createTable('custom_role')
        .addColumn('id', 'text', (it) => it.primaryKey().notNull())
        .addColumn('name', 'text', (it) => it.notNull())
        .addColumn('slug', 'text', (it) => it.notNull().unique())
        .addColumn('description', 'text', (it) => it.notNull())
        .addColumn('permissions', 'text', (it) => it.notNull())
        .addColumn('vault_id', 'text', (it) => it.references('vault.id'))
        .addColumn('created_ms', 'bigint', (it) => it.notNull())
        .$call(sealed(bytes))
        .execute();
      await db.schema
        .createTable('failure_budget')
        .addColumn('key_id', 'text', (it) => it.notNull())
        .addColumn('principal', 'text', (it) => it.notNull())
        .addColumn('window_ms', 'bigint', (it) => it.notNull())
        .addColumn('last_ms', 'bigint', (it) => it.notNull())
        .addColumn('failures', 'bigint', (it) => it.notNull())
        .addPrimaryKeyConstraint('failure_budget_pk', ['key_id', 'principal'])
        .execute();
    },
  };
}
