/** Installations on both databases, whose store can be saved and put back behind the service's back. */

import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { type Ended, runKms } from '../support/files.ts';
import { type Client, Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { dropDatabase, query, sharedPostgres } from '../support/postgres.ts';

export type Engine = 'SQLite' | 'PostgreSQL';

export interface TestStore {
  /** While no server runs. */
  save(): Promise<void>;
  /** While no server runs. */
  restore(): Promise<void>;
  rows(sql: string): Promise<readonly Record<string, unknown>[]>;
  drop(): Promise<void>;
}

export interface Made {
  readonly kms: Installation;
  readonly store: TestStore;
}

export async function makeOn(engine: Engine, extra: NodeJS.ProcessEnv = {}): Promise<Made> {
  if (engine === 'SQLite') {
    const kms = await Installation.make(extra);
    return { kms, store: sqliteStore(kms.home) };
  }
  const url = await sharedPostgres().createDatabase();
  return { kms: await Installation.make({ KMS_STORE_URL: url, ...extra }), store: postgresStore(url) };
}

function sqliteStore(home: string): TestStore {
  const saved = join(home, 'saved');
  const copy = (from: string, to: string): void => {
    for (const name of ['kms.db', 'kms.db-wal', 'kms.db-shm']) {
      rmSync(join(to, name), { force: true });
      if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));
    }
  };
  return {
    save: async () => {
      mkdirSync(saved, { recursive: true });
      copy(home, saved);
      await Promise.resolve();
    },
    restore: async () => {
      copy(saved, home);
      await Promise.resolve();
    },
    rows: (sql) => {
      const database = new Database(join(home, 'kms.db'), { readonly: true });
      try {
        return Promise.resolve(database.prepare(sql).all() as Record<string, unknown>[]);
      } finally {
        database.close();
      }
    },
    drop: () => Promise.resolve(),
  };
}

function postgresStore(url: string): TestStore {
  const tables = async (): Promise<readonly string[]> =>
    (await query(url, `select tablename from pg_tables where schemaname = 'public'`)).map(({ tablename }) => String(tablename));
  return {
    save: async () => {
      const copies = (await tables()).map((name) => `create table saved."${name}" as table public."${name}";`);
      await query(url, `drop schema if exists saved cascade; create schema saved; ${copies.join(' ')}`);
    },
    // As a restore into the same database: it stays the one that the head names.
    restore: async () => {
      const names = await tables();
      const fill = names.map((name) => `insert into public."${name}" select * from saved."${name}";`);
      const empty = `truncate ${names.map((name) => `public."${name}"`).join(', ')};`;
      await query(url, `begin; set local session_replication_role = replica; ${empty} ${fill.join(' ')} commit;`);
    },
    rows: (sql) => query(url, sql),
    drop: () => dropDatabase(url),
  };
}

export function kmsCommand(kms: Installation, ...args: readonly string[]): Promise<Ended> {
  return runKms(kms.environment, ...args);
}

/** Starts a server that will not become ready, and resolves when it says why. @returns what readiness says of the store */
export async function startRefused(kms: Installation): Promise<string> {
  kms.start().catch(() => undefined);
  const client = kms.client(null);
  let said = '';
  try {
    await eventually('a refusal of the store', async () => {
      try {
        const { json } = await client.get(`https://localhost:${kms.publicPort}/readyz`);
        said = String(json?.checks?.store);
      } catch {
        return false;
      }
      return said !== 'ok' && said !== 'undefined' && !said.includes('not verified yet');
    });
  } finally {
    await client.close();
  }
  return said;
}

export async function encrypt(client: Client, id: string, text: string): Promise<string> {
  const { status, json } = await client.post(`/servicekey/${id}/encrypt`, { plaintext: Buffer.from(text).toString('base64') });
  if (status !== 200) throw new Error(`encrypt: ${status}`);
  return json.ciphertext as string;
}

export async function decrypt(client: Client, id: string, ciphertext: string): Promise<string> {
  const { status, json } = await client.post(`/servicekey/${id}/decrypt`, { ciphertext });
  return status === 200 ? Buffer.from(json.plaintext as string, 'base64').toString() : String(status);
}
