/** SQLite databases in temporary directories, and a look at their rows past the store. */

import { randomUUID } from 'node:crypto';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import Database from 'better-sqlite3';
import { Kysely } from 'kysely';
import type { Schema } from '../../src/store/schema.ts';
import { sqliteDialect } from '../../src/store/sqlite-driver.ts';
import { migrateSqlite, openSqliteStore } from '../../src/store/sqlite.ts';
import type { OpenedStores } from '../contract/store-contract.ts';

export async function temporaryDirectory(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'kms-store-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

export interface SqliteStores extends OpenedStores {
  readonly path: string;
}

/** Copied for each test with its identity: to migrate one waits for the disk many times. */
let migrated: ReturnType<typeof temporaryDirectory> | undefined;

afterAll(async () => (await migrated)?.remove());

async function migratedDirectory(): ReturnType<typeof temporaryDirectory> {
  const directory = await temporaryDirectory();
  await migrateSqlite(join(directory.path, 'kms.db'));
  return directory;
}

export async function openTwo(): Promise<SqliteStores> {
  const [template, directory] = [await (migrated ??= migratedDirectory()), await temporaryDirectory()];
  const path = join(directory.path, 'kms.db');
  for (const name of ['kms.db', 'kms.db.id']) await copyFile(join(template.path, name), join(directory.path, name));
  const boots = [randomUUID(), randomUUID()] as const;
  const [a, b] = [await openSqliteStore(path, boots[0]), await openSqliteStore(path, boots[1])];
  const dispose = async () => {
    await a.close();
    await b.close();
    await directory.remove();
  };
  return { a, b, boots, path, dispose };
}

/** Runs `work` on a connection of its own, as an operator with a shell would. */
export async function behindTheStore<T>(
  path: string,
  work: (db: Kysely<Schema & { kysely_migration: { name: string; timestamp: string } }>) => Promise<T>,
): Promise<T> {
  const db = new Kysely<Schema & { kysely_migration: { name: string; timestamp: string } }>({
    dialect: sqliteDialect(new Database(path), 'write'),
  });
  try {
    return await work(db);
  } finally {
    await db.destroy();
  }
}
