/**
 * SQLite for kysely, where it must differ from kysely's own dialect: transactions take the write lock when they begin
 * and wait for it without holding up the event loop, and statements are prepared once.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type Database from 'better-sqlite3';
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteDriver,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type SqliteDatabase,
} from 'kysely';
import { hasCode } from './sqlite-errors.ts';

/** How long a locked database is waited for, in ms. */
export const BUSY_MS = 5_000;
/** Between two attempts, in ms; a commit takes 0.2 to 0.5 ms. */
const RETRY_MS = 2;

/** Texts differ only in the length of their lists, so that this is never reached in practice. */
const MAX_STATEMENTS = 500;

const BEGIN: Readonly<Record<'write' | 'read', CompiledQuery>> = {
  write: CompiledQuery.raw('begin immediate'),
  read: CompiledQuery.raw('begin'),
};

/** @param use what the connection's transactions are for */
export function sqliteDialect(database: Database.Database, use: 'write' | 'read'): Dialect {
  return {
    createAdapter: () => new TransactionalAdapter(),
    createDriver: () => new ImmediateDriver(database, BEGIN[use]),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}

/** SQLite does roll back DDL; kysely's adapter denies it, and would leave a failed migration half done. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl() {
    return true;
  }
}

/**
 * A deferred transaction takes the write lock at its first write, and fails there with SQLITE_BUSY, without waiting,
 * when another process has written since its first read. Immediate ones wait their turn at the start.
 */
class ImmediateDriver extends SqliteDriver {
  readonly #database: Database.Database;
  readonly #begin: CompiledQuery;
  #busySince: number | undefined;

  constructor(database: Database.Database, begin: CompiledQuery) {
    super({ database: preparedOnce(database) });
    this.#database = database;
    this.#begin = begin;
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    while (!(await this.#tryBegin(connection))) await delay(RETRY_MS);
    this.#busySince = undefined;
  }

  /** SQLite itself has rolled back after a full disk or an I/O error; a second rollback would hide that error. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#database.inTransaction) await super.rollbackTransaction(connection);
  }

  /**
   * SQLite's own waiting would sleep in the event loop's thread. The clock runs from the first refusal, over all
   * callers in the queue: behind a lock that nobody releases they fail together, not each after its own five seconds.
   */
  async #tryBegin(connection: DatabaseConnection): Promise<boolean> {
    try {
      await connection.executeQuery(this.#begin);
      return true;
    } catch (error) {
      if (!hasCode(error, 'SQLITE_BUSY')) throw error;
      this.#busySince ??= performance.now();
      if (performance.now() - this.#busySince > BUSY_MS) throw error;
      return false;
    }
  }
}

/** Preparing costs twice as much as running (100 against 45 µs for the join of `findKey`). */
function preparedOnce(database: Database.Database): SqliteDatabase {
  const statements = new Map<string, Database.Statement>();
  const prepare = (sql: string) => {
    if (statements.size >= MAX_STATEMENTS) statements.clear();
    const statement = database.prepare(sql);
    statements.set(sql, statement);
    return statement;
  };
  return {
    prepare: (sql) => statements.get(sql) ?? prepare(sql),
    close: () => database.close(),
  };
}
