/**
 * The full comparison (integrity §4): the whole journal chain, every sealed row against it, and the number of rows
 * against the head. Goes on in stretches, so that it can run beside everything else.
 */

import type { Kysely } from 'kysely';
import { hasKey } from './changes.ts';
import type { Engine } from './engine.ts';
import type { CompareCursor, Damage, Head } from './evidence.ts';
import { entriesAfter, findEntry, findHead, followChain, GENESIS, latestSeqs } from './journal-statements.ts';
import { stretchQuery } from './key-order.ts';
import type { JournalTable, Schema } from './schema.ts';
import type { StoreMacs } from './seal.ts';
import { type AnyRow, keyText, SEALED_TABLES, type SealedTable, TABLES } from './sealed-tables.ts';
import { damageIn, loadSteadily } from './verified.ts';

type Db = Kysely<Schema>;
type AnyDb = Kysely<Record<string, AnyRow>>;

interface Stretch {
  /** Undefined at the end of everything. */
  readonly next: CompareCursor | undefined;
  readonly damage: readonly Damage[];
}

const STAGES: readonly CompareCursor['stage'][] = ['journal', ...SEALED_TABLES, 'count'];

/** What is compared: a store, or a transaction that fills one. */
type Comparable = Pick<Engine, 'reader' | 'snapshot' | 'stretch'>;

export async function compareNext(
  engine: Comparable,
  macs: StoreMacs,
  heads: { known(): Pick<Head, 'seq'> },
  cursor?: CompareCursor,
): Promise<Stretch> {
  const { stage, after } = cursor ?? { stage: 'journal', after: [] };
  if (stage === 'journal') return journalStretch(engine, macs, heads.known().seq, Number(after[0] ?? 0));
  if (stage === 'count') return { next: undefined, damage: await countDamage(engine) };
  return tableStretch(engine, macs, stage, after);
}

function following(stage: CompareCursor['stage']): CompareCursor | undefined {
  const next = STAGES[STAGES.indexOf(stage) + 1];
  return next && { stage: next, after: [] };
}

async function journalStretch({ reader: db, stretch }: Comparable, macs: StoreMacs, headSeq: number, from: number): Promise<Stretch> {
  const before = from === 0 ? GENESIS : await findEntry(db, from);
  const { value: entries, damage } = await loadSteadily(async () => {
    const found = await entriesAfter(db, from, stretch);
    return { value: found, damage: await absentRows(db, found) };
  });
  const end = before && followChain(macs, before, entries);
  if (end === undefined || 'badSeq' in end) {
    const bad = end?.badSeq ?? from;
    // What comes after it may be sound again, and is still looked at.
    const next = entries.at(-1)?.seq ?? headSeq;
    return { next: next < headSeq ? { stage: 'journal', after: [next] } : following('journal'), damage: [chain(bad), ...damage] };
  }
  if (end.seq < headSeq && entries.length === 0) return { next: following('journal'), damage: [chain(end.seq + 1)] };
  return { next: end.seq < headSeq ? { stage: 'journal', after: [end.seq] } : following('journal'), damage };
}

function chain(seq: number): Damage {
  return { table: 'journal', row: String(seq), reason: 'chain' };
}

async function tableStretch(
  { reader: db, stretch }: Comparable,
  macs: StoreMacs,
  table: SealedTable,
  after: CompareCursor['after'],
): Promise<Stretch> {
  const { value: rows, damage } = await loadSteadily(async () => {
    const found = await stretchQuery(db, table, TABLES[table].key, after, stretch).execute();
    return { value: found, damage: await damageIn(db, macs, table, found) };
  });
  const last = rows.at(-1);
  const next = last === undefined || rows.length < stretch
    ? following(table)
    : { stage: table, after: TABLES[table].key.map((name) => last[name] as string | number) };
  return { next, damage };
}

/** Rows that are there, or not, without the head's knowledge. Those that can be named were told of before. */
async function countDamage(engine: Comparable): Promise<Damage[]> {
  const { expected, found } = await engine.snapshot(async (db) => {
    let rows = 0;
    for (const table of SEALED_TABLES) rows += await countRows(db, table);
    return { expected: (await findHead(db))?.live_rows ?? 0, found: rows };
  });
  return found === expected ? [] : [{ table: 'head', row: `${expected} rows`, reason: 'count' }];
}

async function countRows(db: Db, table: SealedTable): Promise<number> {
  const { rows } = await db.selectFrom(table).select((of) => of.fn.countAll<number>().as('rows')).executeTakeFirstOrThrow();
  return rows;
}

/** Rows whose newest entry is among these and says that they are there, and that are not. */
async function absentRows(db: Db, entries: readonly JournalTable[]): Promise<Damage[]> {
  const damage: Damage[] = [];
  for (const table of SEALED_TABLES) {
    const of = entries.filter(({ tbl, pk, canonical }) => tbl === table && canonical !== null && keyOf(table, pk) !== undefined);
    if (of.length === 0) continue;
    const latest = await latestSeqs(db, table, of.map(({ pk }) => pk));
    const expected = of.filter(({ seq, pk }) => latest.get(pk) === seq).map(({ pk }) => pk);
    const there = await present(db, table, expected);
    damage.push(...expected.filter((pk) => !there.has(pk)).map((pk): Damage => ({ table, row: pk, reason: 'removed' })));
  }
  return damage;
}

async function present(db: Db, table: SealedTable, keys: readonly string[]): Promise<ReadonlySet<string>> {
  if (keys.length === 0) return new Set();
  const rows = await (db as unknown as AnyDb)
    .selectFrom(table as string)
    .select([...TABLES[table].key])
    .where((of) => of.or(keys.map((pk) => hasKey(table, keyOf(table, pk) ?? {})(of))))
    .execute();
  return new Set(rows.map((row) => keyText(table, row)));
}

/** @returns undefined for what is no primary key of the table: then the entry is forged, and fails its mac */
function keyOf(table: SealedTable, pk: string): AnyRow | undefined {
  const [texts, columns]: [readonly string[], Readonly<Record<string, string>>] = [pk.split('/'), TABLES[table].columns];
  const values = texts.map((text, index) => (columns[TABLES[table].key[index] ?? ''] === 'int' ? Number(text) : text));
  const fits = values.length === TABLES[table].key.length && values.every((value) => typeof value === 'string' || Number.isSafeInteger(value));
  return fits ? Object.fromEntries(TABLES[table].key.map((name, index) => [name, values[index] ?? null])) : undefined;
}
