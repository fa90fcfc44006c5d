/**
 * The embedded store: one file, any number of server processes on one host. Opens and migrates it; the statements are
 * common to all databases.
 *
 * Three connections per process. The writer runs the transactions. The reader is read-only, so that reads never queue
 * behind a writer that waits for its lock. The watch sees commits of the writer as those of another connection, and
 * is never inside a transaction: `PRAGMA data_version` does not change for a connection's own commits, and not at all
 * while it reads a snapshot (runtime-notes §7).
 */

import { randomUUID } from 'node:crypto';
import {
  closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync, statSync, writeFileSync,
} from 'node:fs';
import Database from 'better-sqlite3';
import { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { unavailable, type Engine } from './engine.ts';
import { checkSchema, migrate } from './migrations/index.ts';
import type { Schema } from './schema.ts';
import { damaged } from './seal.ts';
import { BUSY_MS, sqliteDialect } from './sqlite-driver.ts';
import { sqliteFault } from './sqlite-errors.ts';
import { StatementStore } from './statements.ts';
import type { KeyStore } from './store.ts';
import { assertEmpty, assertNoStrangers } from './transfer.ts';

/**
 * Opens an existing database of exactly this code's schema; creates and migrates nothing.
 *
 * @param bootId of this process
 * @throws KmsError `store-unavailable` when the file cannot be opened, or its schema is older or newer
 */
export async function openSqliteStore(path: string, bootId: string): Promise<KeyStore> {
  const engine = opened(path, () => openEngine(path));
  try {
    await checkSchema(engine.reader);
    return new StatementStore(engine, bootId);
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
    const isNew = !existsSync(path);
    closeSync(openSync(path, 'a', 0o600)); // SQLite gives its -wal and -shm files the same mode
    if (isNew) writeIdentity(path);
    return kysely(openWriter(path), 'write');
  });
  try {
    await migrate(db, 'blob');
  } catch (error) {
    throw openingFault(path, error);
  } finally {
    await db.destroy();
  }
}

/**
 * An empty database for a store from elsewhere, with an identity of its own: whatever stood here before, its anchor names
 * another store.
 *
 * @throws KmsError `conflict` when the file holds anything
 */
export async function prepareSqlite(path: string): Promise<void> {
  if (existsSync(path)) await inspected(path, assertNoStrangers);
  await migrateSqlite(path);
  await inspected(path, assertEmpty);
  rmSync(identityPath(path), { force: true });
  writeIdentity(path);
}

async function inspected(path: string, look: (db: Kysely<Schema>) => Promise<void>): Promise<void> {
  const db = opened(path, () => kysely(openWriter(path), 'write'));
  try {
    await look(db);
  } catch (error) {
    throw openingFault(path, error);
  } finally {
    await db.destroy();
  }
}

/** The engine of an existing database, whatever its schema. @throws what the driver throws */
export function openEngine(path: string): Engine {
  const database = openWriter(path);
  const opened = [database];
  try {
    const read = new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_MS });
    opened.push(read);
    return sqliteEngine(path, database, read, new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_MS }));
  } catch (error) {
    for (const each of opened) each.close();
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

function sqliteEngine(path: string, write: Database.Database, read: Database.Database, watch: Database.Database): Engine {
  const writer = kysely(write, 'write');
  const reader = kysely(read, 'read');
  const version = watch.prepare<[], number>('pragma data_version').pluck();
  const { ino } = statSync(path);
  write.pragma('busy_timeout = 0'); // the driver waits instead
  return {
    writer,
    reader,
    rowLocks: false,
    // Statements hold up the event loop too: about 0.1 ms a row.
    stretch: 25,
    fault: sqliteFault,
    storeId: () => Promise.resolve(storeIdOf(path, ino)),
    others: () => Promise.resolve(othersWithFile(path)),
    nowMs: () => Promise.resolve(Date.now()),
    snapshot: (work) => reader.transaction().execute(work),
    changeCounter: () => version.get() ?? 0,
    // Other processes ask for the version at each turn of their event loop: none serves what was true before.
    announce: () => Promise.resolve(),
    committed: () => undefined,
    seenEverywhere: () => Promise.resolve(),
    // One host: its processes take turns through their supervisor.
    exclusively: (run) => run(),
    ping: async () => {
      await reader.selectFrom('installation').select('id').execute();
    },
    close: async () => {
      // The writer last: whoever closes last writes the log back, and the others may not. All close, used or not.
      watch.close();
      await reader.destroy();
      read.close();
      await writer.destroy();
      write.close();
    },
  };
}

/** @throws KmsError `integrity` when another file, or none, stands where the open one was: commits would be lost */
function storeIdOf(path: string, ino: number): string {
  if (statSync(path, { throwIfNoEntry: false })?.ino !== ino) throw damaged(`${path} was replaced or removed while it was open`);
  return readFileSync(identityPath(path), 'utf8').trim();
}

/** Other processes of this host that have the file open, as far as this user may know. */
function othersWithFile(path: string): readonly string[] {
  const file = realpathSync(path);
  const pids = entriesOf('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return pids.filter((pid) => entriesOf(`/proc/${pid}/fd`).some((fd) => targetOf(`/proc/${pid}/fd/${fd}`) === file))
    .map((pid) => `process ${pid}`);
}

function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // it ended, or is another user's
  }
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link).replace(/ \(deleted\)$/, '');
  } catch {
    return undefined;
  }
}

/** Beside the database, so that a copy of the file alone is known for one (integrity §4). */
function identityPath(path: string): string {
  return `${path}.id`;
}

function writeIdentity(path: string): void {
  try {
    writeFileSync(identityPath(path), `sqlite:${randomUUID()}\n`, { mode: 0o600, flag: 'wx', flush: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

function kysely(database: Database.Database, use: 'write' | 'read'): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: sqliteDialect(database, use) });
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
