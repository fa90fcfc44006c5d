/**
 * The full comparison (integrity §4): the whole journal chain, every sealed row against it, and the number of rows
 * against the head. Goes on in stretches, so that it can run beside everything else.
 */

import type { Kysely } from 'kysely';
import { hasKey } from './changes.ts';
import type { Engine } from './engine.ts';
import type { CompareCursor, Damage, Head } from './evidence.ts';
import { entriesAfter, findEntry, findHead, followChain, GENESIS } from './journal-statements.ts';
import type { Schema } from './schema.ts';
import type { StoreMacs } from './seal.ts';
import { type AnyRow, SEALED_TABLES, type SealedTable, TABLES } from './sealed-tables.ts';
import { damageIn, loadSteadily, wasRemoved } from './verified.ts';

type Db = Kysely<Schema>;
type AnyDb = Kysely<Record<string, AnyRow>>;

const STRETCH = 200;

interface Stretch {
  /** Undefined at the end of everything. */
  readonly next: CompareCursor | undefined;
  readonly damage: readonly Damage[];
}

const STAGES: readonly CompareCursor['stage'][] = ['journal', ...SEALED_TABLES, 'count'];

/** What is compared: a store, or a transaction that fills one. */
type Comparable = Pick<Engine, 'reader' | 'snapshot'>;

export async function compareNext(
  engine: Comparable,
  macs: StoreMacs,
  heads: { known(): Pick<Head, 'seq'> },
  cursor?: CompareCursor,
): Promise<Stretch> {
  const { stage, after } = cursor ?? { stage: 'journal', after: [] };
  if (stage === 'journal') return journalStretch(engine.reader, macs, heads.known().seq, Number(after[0] ?? 0));
  if (stage === 'count') return { next: undefined, damage: await countDamage(engine) };
  return tableStretch(engine.reader, macs, stage, after);
}

function following(stage: CompareCursor['stage']): CompareCursor | undefined {
  const next = STAGES[STAGES.indexOf(stage) + 1];
  return next && { stage: next, after: [] };
}

async function journalStretch(db: Db, macs: StoreMacs, headSeq: number, from: number): Promise<Stretch> {
  const before = from === 0 ? GENESIS : await findEntry(db, from);
  const entries = await entriesAfter(db, from, STRETCH);
  const end = before && followChain(macs, before, entries);
  if (end === undefined || 'badSeq' in end) {
    const bad = end?.badSeq ?? from;
    // What comes after it may be sound again, and is still looked at.
    const next = entries.at(-1)?.seq ?? headSeq;
    return { next: next < headSeq ? { stage: 'journal', after: [next] } : following('journal'), damage: [chain(bad)] };
  }
  if (end.seq < headSeq && entries.length === 0) return { next: following('journal'), damage: [chain(end.seq + 1)] };
  return { next: end.seq < headSeq ? { stage: 'journal', after: [end.seq] } : following('journal'), damage: [] };
}

function chain(seq: number): Damage {
  return { table: 'journal', row: String(seq), reason: 'chain' };
}

async function tableStretch(db: Db, macs: StoreMacs, table: SealedTable, after: CompareCursor['after']): Promise<Stretch> {
  const { value: rows, damage } = await loadSteadily(async () => {
    const found = await stretchOf(db, table, after);
    return { value: found, damage: await damageIn(db, macs, table, found) };
  });
  const last = rows.at(-1);
  const next = last === undefined || rows.length < STRETCH
    ? following(table)
    : { stage: table, after: TABLES[table].key.map((name) => last[name] as string | number) };
  return { next, damage };
}

/** Rows after a primary key, in its order. */
async function stretchOf(db: Db, table: SealedTable, after: CompareCursor['after']): Promise<AnyRow[]> {
  const { key } = TABLES[table];
  const all = (db as unknown as AnyDb).selectFrom(table as string).selectAll().limit(STRETCH);
  const ordered = key.reduce((query, name) => query.orderBy(name), all);
  if (after.length === 0) return ordered.execute();
  return ordered
    .where((of) => of.or(key.map((name, index) => of.and([
      ...key.slice(0, index).map((earlier, at) => of(earlier, '=', after[at] ?? null)),
      of(name, '>', after[index] ?? null),
    ]))))
    .execute();
}

/** Rows that were removed, or put in, behind the store's back: found by their number, and then by name. */
async function countDamage(engine: Comparable): Promise<Damage[]> {
  const { expected, found } = await engine.snapshot(async (db) => {
    let rows = 0;
    for (const table of SEALED_TABLES) rows += await countRows(db, table);
    return { expected: (await findHead(db))?.live_rows ?? 0, found: rows };
  });
  if (found === expected) return [];
  const removed = await removedRows(engine.reader);
  return [...removed, { table: 'head', row: `${expected} rows`, reason: 'count' }];
}

async function countRows(db: Db, table: SealedTable): Promise<number> {
  const { rows } = await db.selectFrom(table).select((of) => of.fn.countAll<number>().as('rows')).executeTakeFirstOrThrow();
  return rows;
}

/** Rows that the journal says are there, and are not. */
async function removedRows(db: Db): Promise<Damage[]> {
  const damage: Damage[] = [];
  for (let seq = 0; ;) {
    const entries = await entriesAfter(db, seq, STRETCH);
    for (const { tbl, pk } of entries) {
      const table = tbl as SealedTable;
      const gone = !(await exists(db, table, pk)) && (await wasRemoved(db, table, pk));
      const known = damage.some(({ table: of, row }) => of === table && row === pk);
      if (gone && !known) damage.push({ table, row: pk, reason: 'removed' });
    }
    const last = entries.at(-1);
    if (last === undefined) return damage;
    seq = last.seq;
  }
}

async function exists(db: Db, table: SealedTable, pk: string): Promise<boolean> {
  const values = pk.split('/');
  const columns: Readonly<Record<string, string>> = TABLES[table].columns;
  const key = Object.fromEntries(TABLES[table].key.map((name, index) => {
    const text = values[index] ?? '';
    return [name, columns[name] === 'int' ? Number(text) : text];
  }));
  const row = await (db as unknown as AnyDb).selectFrom(table as string).select('seal').where(hasKey(table, key)).executeTakeFirst();
  return row !== undefined;
}
