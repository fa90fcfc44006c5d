/** A look and a hand behind the store's back: what somebody with the database's password can do with SQL. */

import Database from 'better-sqlite3';
import { Kysely } from 'kysely';
import type { Engine } from '../../src/store/engine.ts';
import { kysely, openPostgresEngine } from '../../src/store/postgres-engine.ts';
import { Connections } from '../../src/store/postgres-pool.ts';
import { migratePostgres } from '../../src/store/postgres.ts';
import { TABLES } from '../../src/store/sealed-tables.ts';
import { sqliteDialect } from '../../src/store/sqlite-driver.ts';
import { migrateSqlite, openEngine } from '../../src/store/sqlite.ts';
import { dropDatabase, sharedPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from './sqlite-files.ts';

export type Row = Readonly<Record<string, string | number | Uint8Array | null>>;
type AnyDb = Kysely<Record<string, Row>>;
/** Rows of all tables. */
export type Contents = Readonly<Record<string, readonly Row[]>>;

const EVERY_TABLE = [...Object.keys(TABLES), 'journal', 'invocation_counter', 'duty', 'pin_latch'];

export class Behind {
  readonly #db: AnyDb;

  constructor(db: AnyDb) {
    this.#db = db;
  }

  static sqlite(path: string): Behind {
    const database = new Database(path);
    database.pragma('foreign_keys = off');
    return new Behind(new Kysely<Record<string, Row>>({ dialect: sqliteDialect(database, 'write') }));
  }

  static postgres(url: string): Behind {
    const server = new URL(url);
    server.searchParams.set('options', '-c session_replication_role=replica'); // no foreign keys, on whatever connection
    const connections = new Connections({ url: server.href, bootId: 'attacker' }, { max: 1, timeoutMs: 0 });
    return new Behind(kysely(connections) as unknown as AnyDb);
  }

  close(): Promise<void> {
    return this.#db.destroy();
  }

  async rows(table: string): Promise<Row[]> {
    return this.#db.selectFrom(table).selectAll().execute();
  }

  async contents(): Promise<Contents> {
    const all: [string, readonly Row[]][] = [];
    for (const table of EVERY_TABLE) all.push([table, await this.rows(table)]);
    return Object.fromEntries(all);
  }

  /** Puts the tables that differ back, in one transaction. */
  async restore(contents: Contents): Promise<void> {
    await this.#db.transaction().execute(async (db) => {
      for (const table of EVERY_TABLE) {
        const rows = contents[table] ?? [];
        if (sameRows(rows, await db.selectFrom(table).selectAll().execute())) continue;
        await db.deleteFrom(table).execute();
        for (let at = 0; at < rows.length; at += 100) await db.insertInto(table).values([...rows.slice(at, at + 100)]).execute();
      }
    });
  }

  async insert(table: string, ...rows: readonly Row[]): Promise<void> {
    await this.#db.insertInto(table).values([...rows]).execute();
  }

  async remove(table: string, ...rows: readonly Row[]): Promise<void> {
    for (const row of rows) {
      const { numDeletedRows } = await this.#db.deleteFrom(table).where((of) => of.and(keyIn(table, row))).executeTakeFirstOrThrow();
      if (numDeletedRows !== 1n) throw new Error(`no such row in ${table}`);
    }
  }

  async edit(table: string, row: Row, columns: Row): Promise<void> {
    const { numUpdatedRows } = await this.#db
      .updateTable(table).set(columns).where((of) => of.and(keyIn(table, row))).executeTakeFirstOrThrow();
    if (numUpdatedRows !== 1n) throw new Error(`no such row in ${table}`);
  }
}

export const keyColumns = (table: string): readonly string[] =>
  table === 'journal' ? ['seq'] : TABLES[table as keyof typeof TABLES].key;

function keyIn(table: string, row: Row): Row {
  return Object.fromEntries(keyColumns(table).map((name) => [name, row[name] ?? null]));
}

function sameRows(left: readonly Row[], right: readonly Row[]): boolean {
  return left.length === right.length && textOf(left) === textOf(right);
}

/** Of contents that are put back again and again. */
const texts = new WeakMap<readonly Row[], string>();

/** In whatever order; each value with its length in front, for they may hold anything. */
function textOf(rows: readonly Row[]): string {
  const known = texts.get(rows) ?? rows.map((row) => Object.values(row).map((value) => {
    const text = ArrayBuffer.isView(value) ? Buffer.from(value).toString('latin1') : String(value);
    return `${typeof value} ${text.length} ${text}`;
  }).join()).sort().join('\n');
  texts.set(rows, known);
  return known;
}

export interface Ground {
  /** Of the store under test; several stores may share it. */
  readonly engine: Engine;
  readonly behind: Behind;
  dispose(): Promise<void>;
}

export async function sqliteGround(): Promise<Ground> {
  const directory = await temporaryDirectory();
  const path = `${directory.path}/kms.db`;
  await migrateSqlite(path);
  const engine = openEngine(path);
  const behind = Behind.sqlite(path);
  const dispose = async () => {
    await engine.close();
    await behind.close();
    await directory.remove();
  };
  return { engine, behind, dispose };
}

export async function postgresGround(): Promise<Ground> {
  const url = await sharedPostgres().createDatabase();
  await migratePostgres(url);
  const readSeq = () => Promise.resolve(0);
  const engine = await openPostgresEngine({ url, bootId: 'boot', staleMaxMs: 1_000, readSeq, onWentBack: () => undefined });
  const behind = Behind.postgres(url);
  const dispose = async () => {
    await engine.close();
    await behind.close();
    await dropDatabase(url);
  };
  return { engine, behind, dispose };
}
