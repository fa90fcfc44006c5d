/** The database of an installation, past the store: for filling it in bulk and holding a duty. */

import { join } from 'node:path';
import Database from 'better-sqlite3';
import pg from 'pg';

/** @param url empty for SQLite in `home` */
export async function openDatabase(home, url) {
  return url === '' ? new Sqlite(join(home, 'kms.db')) : Postgres.connect(url);
}

class Sqlite {
  #database;

  constructor(path) {
    this.#database = new Database(path, { fileMustExist: true, timeout: 30_000 });
    // A machine that fails while a benchmark fills loses nothing.
    this.#database.pragma('synchronous = off');
  }

  async all(text) {
    return this.#database.prepare(text).all();
  }

  async run(text) {
    this.#database.exec(text);
  }

  /** @param rows values in the order of the columns */
  async insert(table, columns, rows) {
    const statement = this.#database.prepare(`insert into "${table}" (${names(columns)}) values (${columns.map(() => '?').join()})`);
    for (const row of rows) statement.run(row);
  }

  /** As a database at rest is: the log written back. */
  async settle() {
    this.#database.pragma('wal_checkpoint(truncate)');
  }

  async close() {
    this.#database.close();
  }
}

class Postgres {
  #client;

  static async connect(url) {
    pg.types.setTypeParser(pg.types.builtins.INT8, Number);
    const made = new Postgres();
    made.#client = new pg.Client({ connectionString: url });
    await made.#client.connect();
    return made;
  }

  async all(text) {
    return (await this.#client.query(text)).rows;
  }

  async run(text) {
    await this.#client.query(text);
  }

  /** A column at a time: one parameter each, however many rows. */
  async insert(table, columns, rows) {
    if (rows.length === 0) return;
    const casts = columns.map(({ type }, index) => `$${index + 1}::${type}[]`);
    const values = columns.map((_, index) => rows.map((row) => row[index]));
    await this.#client.query(`insert into "${table}" (${names(columns)}) select * from unnest(${casts.join()})`, values);
  }

  /** The test server has no autovacuum, which would do this. */
  async settle() {
    await this.#client.query('vacuum analyze');
    await this.#client.query('checkpoint');
  }

  async close() {
    await this.#client.end();
  }
}

function names(columns) {
  return columns.map(({ name }) => `"${name}"`).join();
}
