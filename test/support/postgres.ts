/**
 * A real PostgreSQL server for tests, in a temporary directory on a free port. One is started for the whole run
 * (`global-setup.mjs`); a file that stops or pauses its server starts its own.
 */

import type { PostgresServer } from './postgres-server.mjs';
import { startServer } from './postgres-server.mjs';
import pg from 'pg';

export const PASSWORD_USER = 'kms_password';
export const PASSWORD = 'a pass/word:@?';

export class TestPostgres {
  readonly #server: PostgresServer;

  private constructor(server: PostgresServer) {
    this.#server = server;
  }

  static async start(): Promise<TestPostgres> {
    return new TestPostgres(await startServer());
  }

  url(database = 'postgres'): string {
    return urlOf(this.#server.url, database);
  }

  /** @returns its URL */
  createDatabase(name?: string): Promise<string> {
    return createDatabase(this.url(), name);
  }

  /** `fast` breaks connections; `immediate` is a crash. */
  stop(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    return this.#server.stop(mode);
  }

  startAgain(): Promise<void> {
    return this.#server.start();
  }

  /** Stops postmaster and children as a hung host would: connections stay, nothing answers. */
  pause(): void {
    this.#server.signal('SIGSTOP');
  }

  resume(): void {
    this.#server.signal('SIGCONT');
  }

  async remove(): Promise<void> {
    await this.#server.remove();
  }
}

/** The run's shared server; each test file makes its own databases there. */
export function sharedPostgres(): { url(database?: string): string; createDatabase(name?: string): Promise<string> } {
  const base = process.env['KMS_TEST_POSTGRES'];
  if (base === undefined) throw new Error(process.env['KMS_TEST_POSTGRES_FAULT'] ?? 'jest’s globalSetup did not run');
  return { url: (database = 'postgres') => urlOf(base, database), createDatabase: (name) => createDatabase(base, name) };
}

export async function query(url: string, text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const result = await client.query(text, [...values]);
    return result.rows as Record<string, unknown>[];
  } finally {
    await client.end();
  }
}

export async function dropDatabase(url: string): Promise<void> {
  await query(urlOf(url, 'postgres'), `drop database if exists "${new URL(url).pathname.slice(1)}" with (force)`);
}

let made = 0;

async function createDatabase(base: string, name = `t${process.pid}_${Date.now().toString(36)}_${made++}`): Promise<string> {
  await query(base, `create database "${name}"`);
  return urlOf(base, name);
}

function urlOf(base: string, database: string): string {
  const url = new URL(base);
  url.pathname = `/${database}`;
  return url.href;
}
