/**
 * The server's store, for several hosts: opens and migrates it; the statements are common to all databases. PostgreSQL
 * 14 or newer. The URL names one server; where it fails over, behind a name or address that follows.
 */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { unavailable, type Engine } from './engine.ts';
import { findHead } from './journal-statements.ts';
import { checkSchema, migrate } from './migrations/index.ts';
import { kysely, openPostgresEngine, type EngineOptions } from './postgres-engine.ts';
import { postgresFault } from './postgres-errors.ts';
import { Connections } from './postgres-pool.ts';
import type { Schema } from './schema.ts';
import { StatementStore } from './statements.ts';
import type { KeyStore } from './store.ts';
import { assertNoStrangers } from './transfer.ts';

export type PostgresOptions = Omit<EngineOptions, 'readSeq' | 'onWentBack'> & Partial<Pick<EngineOptions, 'onWentBack'>>;

/**
 * Opens an existing database of exactly this code's schema; migrates nothing.
 *
 * @throws KmsError `store-unavailable` when the server cannot be reached, or its schema is older or newer
 */
export async function openPostgresStore(options: PostgresOptions): Promise<KeyStore> {
  const { url, password, bootId } = options;
  await withDatabase({ url, password, bootId }, checkSchema);
  const engine = await openEngine({ onWentBack: () => undefined, ...options, readSeq });
  return new StatementStore(engine, bootId);
}

/**
 * Brings the database, which exists, to this code's schema.
 *
 * @throws KmsError `store-unavailable` when that fails, or the schema is newer
 */
export async function migratePostgres(url: string, password?: string): Promise<void> {
  await withDatabase({ url, password, bootId: 'migrate' }, (db) => migrate(db, 'bytea'));
}

/**
 * Brings a database that shall take a store from elsewhere to this code's schema.
 *
 * @throws KmsError `conflict` when it holds tables of somebody else
 */
export async function preparePostgres(url: string, password?: string): Promise<void> {
  await withDatabase({ url, password, bootId: 'prepare' }, async (db) => {
    await assertNoStrangers(db);
    await migrate(db, 'bytea');
  });
}

/** Of one statement that carries or compares many rows, in ms. */
const CARRYING_MS = 600_000;

/** The engine of a database of this code's schema, for commands that carry whole stores. */
export async function openPostgresCarrier({ url, password, bootId }: Pick<PostgresOptions, 'url' | 'password' | 'bootId'>): Promise<Engine> {
  return openEngine({ url, password, bootId, staleMaxMs: 30_000, timeoutMs: CARRYING_MS, onWentBack: () => undefined, readSeq });
}

async function readSeq(db: Kysely<Schema>): Promise<number> {
  return (await findHead(db))?.seq ?? 0;
}

async function openEngine(options: EngineOptions): Promise<Engine> {
  try {
    return await openPostgresEngine(options);
  } catch (error) {
    throw openingFault(error);
  }
}

/** With no limit for statements: another process may be migrating, and a large table takes its time. */
async function withDatabase(
  server: Pick<EngineOptions, 'url' | 'password' | 'bootId'>,
  work: (db: Kysely<Schema>) => Promise<void>,
): Promise<void> {
  let db: Kysely<Schema> | undefined;
  try {
    db = kysely(new Connections(server, { max: 2, timeoutMs: 0 }));
    await work(db);
  } catch (error) {
    throw openingFault(error);
  } finally {
    await db?.destroy();
  }
}

/** The URL is not named: it may hold a password. */
function openingFault(thrown: unknown): KmsError {
  if (thrown instanceof KmsError) return thrown;
  const what = postgresFault(thrown) === 'database' ? 'does not answer' : 'cannot be opened';
  return unavailable(`the PostgreSQL database ${what}`, thrown);
}
