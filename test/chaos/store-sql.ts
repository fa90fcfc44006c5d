/** The rows of an installation's store, read with SQL behind its back, on both databases alike. */

import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Installation } from '../support/installation.ts';
import { query } from '../support/postgres.ts';

export type Row = Readonly<Record<string, unknown>>;

/** @param text of one statement that reads; numbers come as both databases give them: use `Number` */
export function rowsOf({ home, environment }: Installation, text: string): Promise<readonly Row[]> {
  const url = environment['KMS_STORE_URL'];
  return url === undefined ? Promise.resolve(fromSqlite(join(home, 'kms.db'), text)) : query(url, text);
}

function fromSqlite(path: string, text: string): readonly Row[] {
  const database = new Database(path, { readonly: true, timeout: 5000 });
  try {
    return database.prepare(text).all() as Row[];
  } finally {
    database.close();
  }
}
