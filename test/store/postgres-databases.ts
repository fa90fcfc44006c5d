/** A PostgreSQL database in the shared server with two stores open on it, as good as new for each test. */

import { randomUUID } from 'node:crypto';
import { migratePostgres, openPostgresStore } from '../../src/store/postgres.ts';
import type { OpenedStores } from '../contract/store-contract.ts';
import { query, sharedPostgres } from '../support/postgres.ts';

export interface PostgresStores extends OpenedStores {
  readonly url: string;
}

/** One for a test file, gone with the server: to make, migrate and drop one costs more than most tests do. */
let migrated: Promise<string> | undefined;

export async function openTwo(): Promise<PostgresStores> {
  const url = await (migrated ??= migratedDatabase());
  await empty(url);
  const boots = [randomUUID(), randomUUID()] as const;
  const open = (bootId: string) => openPostgresStore({ url, bootId, staleMaxMs: 1_000 });
  const [a, b] = await Promise.all([open(boots[0]), open(boots[1])]);
  const dispose = async () => {
    await Promise.all([a.close(), b.close()]);
  };
  return { a, b, boots, url, dispose };
}

async function migratedDatabase(): Promise<string> {
  const url = await sharedPostgres().createDatabase();
  await migratePostgres(url);
  return url;
}

/** Rows of all tables but those of the migrations; without foreign keys, for a table has no place in an order. */
async function empty(url: string): Promise<void> {
  await query(url, `do $$ declare name text; begin
    set local session_replication_role = replica;
    for name in select tablename from pg_tables where schemaname = 'public' and tablename not like 'kysely%'
    loop execute format('delete from %I', name); end loop; end $$`);
}
