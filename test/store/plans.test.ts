/**
 * What the databases do for questions that must not grow with tombstones or with the journal: pages of living keys do
 * not walk over tombstones, and the newest journal entry of a row is found by its index.
 */

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Kysely } from 'kysely';
import { latestQuery, newestQuery } from '../../src/store/journal-statements.ts';
import { stretchQuery } from '../../src/store/key-order.ts';
import { pageQuery } from '../../src/store/key-statements.ts';
import type { Schema } from '../../src/store/schema.ts';
import { StatementStore } from '../../src/store/statements.ts';
import { type Behind, type Ground, postgresGround, type Row, sqliteGround } from './behind.ts';
import { created, installed } from './fixtures.ts';

type Db = Kysely<Schema>;

const TOMBSTONES = 4000;
const LIVING = 1500;
const ENTRIES = 4000;

/** Many tombstones before the living keys, and a long journal; unsealed, for nobody reads them. */
async function crowd({ engine, behind }: Ground): Promise<void> {
  const store = new StatementStore(engine, 'boot');
  await created(store, (await installed(store)).id);
  const [row, entry] = [(await behind.rows('key'))[0]!, (await behind.rows('journal'))[0]!];
  const key = (n: number): Row => ({
    ...row, vault_id: 'v', id: String(n), ordinal: n,
    ...(n < TOMBSTONES ? { live_name: null, state: 'destroyed' } : { live_name: `k${n}`, state: n % 2 === 0 ? 'active' : 'deactivated' }),
  });
  await inBlocks(behind, 'key', Array.from({ length: TOMBSTONES + LIVING }, (_, n) => key(n)));
  await inBlocks(behind, 'journal', Array.from({ length: ENTRIES }, (_, n) => ({ ...entry, seq: 1000 + n, tbl: 'key', pk: `v/${n % 500}` })));
}

async function inBlocks(behind: Behind, table: string, rows: readonly Row[]): Promise<void> {
  for (let at = 0; at < rows.length; at += 500) await behind.insert(table, ...rows.slice(at, at + 500));
}

const page = (db: Db, states: ('active' | 'deactivated' | 'compromised')[]) => pageQuery(db, { vaultId: 'v', states, afterOrdinal: 5, limit: 10 });

/** @returns the database's account of a query, line by line */
async function plan(db: Db, explain: string, query: { compile(): ReturnType<ReturnType<typeof pageQuery>['compile']> } | { compile(): unknown }): Promise<string> {
  const compiled = query.compile() as ReturnType<ReturnType<typeof pageQuery>['compile']>;
  const { rows } = await db.executeQuery<Record<string, unknown>>({ ...compiled, sql: `${explain} ${compiled.sql}` });
  return rows.map((row) => String(row['detail'] ?? row['QUERY PLAN'])).join('\n');
}

describe.each([
  ['SQLite', sqliteGround, 'explain query plan', (index: string) => new RegExp(`^SEARCH \\w+ USING (COVERING )?INDEX ${index} `, 'm')],
  ['PostgreSQL', postgresGround, 'explain (analyze, costs off, timing off)', (index: string) => new RegExp(`Index (Only )?Scan( Backward)? using ${index} `)],
] as const)('on %s', (name, open, explain, searches) => {
  let ground: Ground;
  let db: Db;
  beforeAll(async () => {
    ground = await open();
    db = ground.engine.reader;
    await crowd(ground);
    if (name === 'PostgreSQL') await ground.engine.writer.executeQuery({ ...page(db, ['active']).compile(), sql: 'analyze', parameters: [] });
  });
  afterAll(() => ground.dispose());

  const within = (text: string) => {
    // None of the rows that were looked at was thrown away, nor sorted, nor was a table read through.
    expect(text).not.toMatch(/Rows Removed|Seq Scan|^SCAN|Sort|TEMP B-TREE/m);
  };

  it('a page of keys that live is a range of the index of the living', async () => {
    const text = await plan(db, explain, page(db, ['active', 'deactivated', 'compromised']));
    expect(text).toMatch(searches('key_living'));
    within(text);
    const rows = await page(db, ['active', 'deactivated', 'compromised']).execute();
    expect(rows.map(({ ordinal }) => ordinal)).toEqual(Array.from({ length: 10 }, (_, n) => TOMBSTONES + n));
  });

  it('a page of keys of one state is a range of an index without tombstones', async () => {
    const text = await plan(db, explain, page(db, ['active']));
    expect(text).toMatch(searches('(key_living|key_state)'));
    expect(text).not.toMatch(/Seq Scan|^SCAN|Sort|TEMP B-TREE/m);
  });

  it('the newest journal entries of rows are found by their index', async () => {
    const text = await plan(db, explain, latestQuery(db, 'key', ['v/1', 'v/2']));
    expect(text).toMatch(searches('journal_of_row'));
    expect(text).not.toMatch(/Seq Scan|^SCAN|Rows Removed/m);
  });

  it.each([
    ['key', ['vault_id', 'id'], ['v', '4'], '(key_pk|sqlite_autoindex_key_1)'],
    ['journal', ['seq'], [3000], 'journal_pkey'],
  ] as const)('a stretch of %s in the order of its primary key begins where the last one ended', async (table, key, after, index) => {
    const query = stretchQuery(db, table, key, after, 10);
    const text = await plan(db, explain, query);
    if (name === 'PostgreSQL' || table === 'key') expect(text).toMatch(searches(index));
    within(text);
    const rows = await query.execute();
    // In the order of texts.
    if (table === 'key') expect(rows.map(({ id }) => id)).toEqual(['40', '400', ...Array.from({ length: 8 }, (_, n) => String(4000 + n))]);
    else expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 10 }, (_, n) => 3001 + n));
  });

  it('the newest journal entry of a row is one step of it', async () => {
    const text = await plan(db, explain, newestQuery(db, 'key', 'v/1'));
    expect(text).toMatch(searches('journal_of_row'));
    within(text);
    if (name === 'PostgreSQL') expect(text).toMatch(/using journal_of_row .*rows=1/);
  });
});
