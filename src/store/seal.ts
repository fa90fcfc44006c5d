/**
 * Seals of rows and macs of journal entries: the exact bytes of integrity §3 and §4. Pure; the keyed functions are
 * handed in, as their key comes from the token.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { JournalTable } from './schema.ts';
import { type AnyRow, type ColumnType, SCHEMA_NUMBER, type TableDescription, TABLES, type Value } from './sealed-tables.ts';

/** HMAC-SHA-256 under keys of the installation; 32 bytes each. */
export interface StoreMacs {
  seal(bytes: Uint8Array): Uint8Array;
  journal(bytes: Uint8Array): Uint8Array;
}

const SEAL = Buffer.from('kms-seal\u0001', 'latin1');
const JOURNAL = Buffer.from('kms-jrnl\u0001', 'latin1');

/** F(x): 4-byte big-endian length, then the bytes. */
function field(value: string | Uint8Array): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function int64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(value));
  return bytes;
}

function items(text: string): readonly Buffer[] {
  const parsed: unknown = JSON.parse(text);
  if (!Array.isArray(parsed) || !parsed.every((item) => typeof item === 'string')) throw new TypeError('not a list');
  return parsed.map((item: string) => Buffer.from(item, 'utf8'));
}

function counted(list: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32(list.length), ...list.map(field)]);
}

const ENCODERS: Readonly<Record<ColumnType, { readonly tag: number; readonly bytes: (value: Value) => Uint8Array }>> = {
  text: { tag: 1, bytes: (value) => Buffer.from(value as string, 'utf8') },
  bytes: { tag: 2, bytes: (value) => value as Uint8Array },
  int: { tag: 3, bytes: (value) => int64(value as number) },
  flag: { tag: 4, bytes: (value) => Buffer.from([value as number]) },
  'json-list': { tag: 5, bytes: (value) => counted(items(value as string)) },
  'json-set': { tag: 6, bytes: (value) => counted([...items(value as string)].sort(inByteOrder)) },
  time: { tag: 7, bytes: (value) => int64(value as number) },
};

function inByteOrder(left: Uint8Array, right: Uint8Array): number {
  return Buffer.compare(left, right);
}

function column(name: string, type: ColumnType, value: Value): Buffer {
  const { tag, bytes } = ENCODERS[type];
  const encoded = value === null ? new Uint8Array() : bytes(value);
  return Buffer.concat([field(name), Buffer.from([value === null ? 0 : tag]), field(encoded)]);
}

/** Columns in byte order of their names, once per table. */
const ORDERED = Object.fromEntries(
  Object.entries(TABLES).map(([table, { columns }]) => [
    table,
    Object.entries(columns).sort(([left], [right]) => (left < right ? -1 : 1)),
  ]),
) as unknown as Readonly<Record<keyof typeof TABLES, readonly (readonly [string, ColumnType])[]>>;

/** Of the first schema, for its rows. */
const ORDERED_BEFORE = Object.fromEntries(
  Object.entries(TABLES as Readonly<Record<string, TableDescription>>).map(([table, { since2 = [] }]) => [
    table,
    ORDERED[table as keyof typeof TABLES].filter(([name]) => !since2.includes(name)),
  ]),
) as unknown as typeof ORDERED;

/** What the seal is taken over. @throws TypeError or RangeError for a value that is none of its type */
export function sealedBytes(table: keyof typeof TABLES, row: AnyRow, schema = SCHEMA_NUMBER): Buffer {
  const columns = (schema === SCHEMA_NUMBER ? ORDERED : ORDERED_BEFORE)[table];
  const number = (name: string): number => Number(row[name] ?? 0);
  return Buffer.concat([
    SEAL,
    uint32(schema),
    field(table),
    uint32(number('epoch')),
    int64(number('seq')),
    int64(number('revision')),
    uint32(columns.length),
    ...columns.map(([name, type]) => column(name, type, row[name] ?? null)),
  ]);
}

export function sealOf(macs: StoreMacs, table: keyof typeof TABLES, row: AnyRow): Uint8Array {
  return macs.seal(sealedBytes(table, row));
}

export function isSealed(macs: StoreMacs, table: keyof typeof TABLES, row: AnyRow): boolean {
  const { seal } = row;
  if (!(seal instanceof Uint8Array) || seal.length !== 32) return false;
  try {
    return timingSafeEqual(seal, sealOf(macs, table, row)) || isSealedBefore(macs, table, row, seal);
  } catch {
    // A column holds what its type cannot.
    return false;
  }
}

/** A row that nobody has written since the first schema holds nothing in the columns that it did not have. */
function isSealedBefore(macs: StoreMacs, table: keyof typeof TABLES, row: AnyRow, seal: Uint8Array): boolean {
  const { since2 = [] }: TableDescription = TABLES[table];
  if (since2.some((name) => (row[name] ?? null) !== null)) return false;
  return timingSafeEqual(seal, macs.seal(sealedBytes(table, row, 1)));
}

/** The row as the journal keeps it: bytes as hex SHA-256, and without its seal, which has a column. */
export function canonicalRow(table: keyof typeof TABLES, row: AnyRow): string {
  return JSON.stringify(Object.fromEntries(ORDERED[table].map(([name]) => {
    const value = row[name] ?? null;
    return [name, value instanceof Uint8Array ? createHash('sha256').update(value).digest('hex') : value];
  })));
}

export type JournalEntry = Omit<JournalTable, 'mac' | 'recorded'>;

export function journalMac(macs: StoreMacs, entry: JournalEntry): Uint8Array {
  const { seq, epoch, at_ms, tbl, pk, revision, row_seal, stream, request_id, canonical, prev } = entry;
  return macs.journal(Buffer.concat([
    JOURNAL, int64(seq), uint32(epoch), int64(at_ms), field(tbl), field(pk), int64(revision), field(row_seal),
    field(stream), field(request_id), Buffer.from([canonical === null ? 0 : 1]), field(canonical ?? ''), field(prev),
  ]));
}

/** SHA-256 over the seals of a key's versions and objects, in byte order, each with its length. */
export function partsOf(seals: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256');
  for (const seal of [...seals].sort(inByteOrder)) hash.update(field(seal));
  return hash.digest();
}

export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}

/** A row, a journal entry or the head does not fit the others: nobody may use it. */
export function damaged(message: string): KmsError {
  return new KmsError('integrity', message, { retryAfter: 30 });
}
