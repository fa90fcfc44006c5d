/**
 * The embedded store: one file, any number of server processes on one host. Opens and migrates it; the statements are
 * common to all databases.
 *
 * Two connections per process. The writer runs the transactions. The reader is read-only, so that reads never queue
 * behind a writer that waits for its lock, and so that it sees commits of the writer as those of another connection:
 * `PRAGMA data_version` does not change for a connection's own (runtime-notes §7).
 */

import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import Database from 'better-sqlite3';
import { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { unavailable, type Engine } from './engine.ts';
import { checkSchema, migrate } from './migrations/index.ts';
import type { Schema } from './schema.ts';
import { BUSY_MS, immediateDialect } from './sqlite-driver.ts';
import { sqliteFault } from './sqlite-errors.ts';
import { StatementStore } from './statements.ts';
import type { KeyStore } from './store.ts';

/**
 * Opens an existing database of exactly this code's schema; creates and migrates nothing.
 *
 * @throws KmsError `store-unavailable` when the file cannot be opened, or its schema is older or newer
 */
export async function openSqliteStore(path: string): Promise<KeyStore> {
  const engine = opened(path, () => openEngine(path));
  try {
    await checkSchema(engine.reader);
    return new StatementStore(engine);
  } catch (error) {
    await engine.close();
    throw openingFault(path, error);
  }
}

/**
 * Creates the file, readable by its owner alone, if it is missing, and brings it to this code's schema.
 *
 * @throws KmsError `store-unavailable` when that fails, or the schema is newer
 */
export async function migrateSqlite(path: string): Promise<void> {
  const db = opened(path, () => {
    closeSync(openSync(path, 'a', 0o600)); // SQLite gives its -wal and -shm files the same mode
    return kysely(openWriter(path));
  });
  try {
    await migrate(db, 'blob');
  } catch (error) {
    throw openingFault(path, error);
  } finally {
    await db.destroy();
  }
}

function openEngine(path: string): Engine {
  const database = openWriter(path);
  try {
    return sqliteEngine(path, database, new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_MS }));
  } catch (error) {
    database.close();
    throw error;
  }
}

function openWriter(path: string): Database.Database {
  const database = new Database(path, { fileMustExist: true, timeout: BUSY_MS });
  try {
    const mode = database.pragma('journal_mode = wal', { simple: true });
    if (mode !== 'wal') throw unavailable(`${path}: the file system does not allow a write-ahead log`);
    database.pragma('synchronous = full');
    database.pragma('foreign_keys = on');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function sqliteEngine(path: string, write: Database.Database, read: Database.Database): Engine {
  const writer = kysely(write);
  const reader = kysely(read);
  const version = read.prepare<[], number>('pragma data_version').pluck();
  write.pragma('busy_timeout = 0'); // the driver waits instead
  return {
    writer,
    reader,
    rowLocks: false,
    fault: sqliteFault,
    storeId: () => storeId(`${path}.id`),
    nowMs: () => Promise.resolve(Date.now()),
    snapshot: (work) => reader.transaction().execute(work),
    changeCounter: () => version.get() ?? 0,
    announce: () => Promise.resolve(),
    committed: () => undefined,
    seenEverywhere: () => Promise.resolve(),
    exclusively: (run) => run(),
    ping: async () => {
      await reader.selectFrom('installation').select('id').execute();
    },
    close: async () => {
      // The writer last: whoever closes last writes the log back, and the reader may not. Both close, used or not.
      await reader.destroy();
      read.close();
      await writer.destroy();
      write.close();
    },
  };
}

async function storeId(path: string): Promise<string> {
  await writeFile(path, randomUUID(), { flag: 'wx', mode: 0o600 }).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  });
  return readFile(path, 'utf8');
}

function kysely(database: Database.Database): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: immediateDialect(database) });
}

function opened<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw openingFault(path, error);
  }
}

function openingFault(path: string, thrown: unknown): KmsError {
  return thrown instanceof KmsError ? thrown : unavailable(`${path}: the database cannot be opened`, thrown);
}
