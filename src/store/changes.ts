/**
 * One transaction that changes sealed rows: the only writer of them. It locks the head, appends a journal entry for
 * each row and moves the head at its end (integrity §4). A row is verified before it is changed, so that nobody's
 * forgery is sealed by us.
 */

import type { ExpressionBuilder, Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { checkedHead, type JournalEnd, latestSeqs, lockHead } from './journal-statements.ts';
import type { HeadTable, JournalTable, Schema } from './schema.ts';
import { canonicalRow, damaged, isSealed, type JournalEntry, journalMac, sealOf, type StoreMacs } from './seal.ts';
import { type AnyRow, keyText, type SealedTable, TABLES } from './sealed-tables.ts';

type Db = Kysely<Schema>;
/** Tables chosen at run time; `TABLES` knows their columns. */
type AnyDb = Kysely<Record<string, AnyRow>>;

export type SealColumn = 'seq' | 'epoch' | 'revision' | 'seal';
/** A row as its maker hands it over. */
export type Unsealed<T extends SealedTable> = Omit<Schema[T], SealColumn>;

export interface ChangeContext {
  readonly macs: StoreMacs;
  readonly storeId: string;
  /** Whether a read row must be locked, because transactions run side by side. */
  readonly rowLocks: boolean;
  /** The audit stream of this process. */
  readonly stream: string;
  readonly nowMs: (db: Db) => Promise<number>;
}

/** The head after the transaction. */
export interface Finished extends JournalEnd {
  readonly epoch: number;
  readonly storeId: string;
}

/** Parameters of one statement. */
const PARAMETERS_MAX = 20_000;

export class Changes {
  readonly db: Db;
  readonly #context: ChangeContext;
  readonly #requestId: string;
  readonly #atMs: number;
  #head: HeadTable;
  readonly #entries: JournalTable[] = [];
  readonly #own = new Map<string, number>();
  #liveRows = 0;
  #tombstones = 0;

  private constructor(db: Db, context: ChangeContext, requestId: string, atMs: number, head: HeadTable) {
    this.db = db;
    this.#context = context;
    this.#requestId = requestId;
    this.#atMs = atMs;
    this.#head = head;
  }

  /** @param first the head of a store that has none yet @throws KmsError `integrity` */
  static async begin(db: Db, context: ChangeContext, requestId: string, first?: HeadTable): Promise<Changes> {
    const found = first ?? checkedHead(context.macs, await lockHead(db, context.rowLocks), context.storeId);
    return new Changes(db, context, requestId, await context.nowMs(db), found);
  }

  /** The head as the transaction found it. */
  get head(): Readonly<HeadTable> {
    return this.#head;
  }

  get macs(): StoreMacs {
    return this.#context.macs;
  }

  /** Time of the change, by the database's clock. */
  get atMs(): number {
    return this.#atMs;
  }

  /** Where the journal ends when this transaction has committed. */
  get end(): JournalEnd {
    return this.#entries.at(-1) ?? { seq: this.#head.seq, mac: this.#head.mac };
  }

  async insert<T extends SealedTable>(table: T, ...rows: readonly Unsealed<T>[]): Promise<void> {
    await this.put(table, this.prepare(table, ...rows));
  }

  /** Seals new rows, which are to be `put` before the end: a row that speaks for others needs their seals first. */
  prepare<T extends SealedTable>(table: T, ...rows: readonly Unsealed<T>[]): readonly AnyRow[] {
    return rows.map((row) => this.#write(table, row as unknown as AnyRow, 0));
  }

  async put(table: SealedTable, sealed: readonly AnyRow[]): Promise<void> {
    const width = Object.keys(TABLES[table].columns).length + 1;
    for (const part of chunks(sealed, Math.floor(PARAMETERS_MAX / width))) {
      await this.#any.insertInto(table).values([...part]).execute();
    }
    this.#liveRows += sealed.length;
  }

  /**
   * Writes columns of one row and raises its revision.
   * @param key values of the primary key
   * @param revision the row must still have; null for any
   * @returns false when there is no such row
   * @throws KmsError `conflict` for another revision, `integrity` for a row that is not what the journal says
   */
  async update<T extends SealedTable>(
    table: T,
    key: Partial<Unsealed<T>>,
    revision: number | null,
    columns: Partial<Unsealed<T>>,
  ): Promise<boolean> {
    const found = await this.#find(table, key as AnyRow);
    if (found === undefined) return false;
    if (revision !== null && found['revision'] !== revision) throw new KmsError('conflict', 'changed by another request');
    const next = this.#write(table, { ...found, ...(columns as AnyRow) }, Number(found['revision']) + 1);
    const names = [...Object.keys(columns), 'seq', 'epoch', 'revision', 'seal'];
    const values = Object.fromEntries(names.map((name) => [name, next[name] ?? null]));
    await this.#any.updateTable(table as string).set(values).where(hasKey(table, found)).execute();
    return true;
  }

  /** @returns the row that was removed */
  async remove<T extends SealedTable>(table: T, key: Partial<Unsealed<T>>): Promise<Schema[T] | undefined> {
    const found = await this.#find(table, key as AnyRow);
    if (found === undefined) return undefined;
    this.#note(table, { ...found, seq: this.#nextSeq() }, Number(found['revision']) + 1, null);
    await this.#any.deleteFrom(table as string).where(hasKey(table, found)).execute();
    this.#liveRows -= 1;
    return found as unknown as Schema[T];
  }

  /** The row, verified, as this transaction sees it. */
  async find<T extends SealedTable>(table: T, key: Partial<Unsealed<T>>): Promise<Schema[T] | undefined> {
    return (await this.#find(table, key as AnyRow)) as unknown as Schema[T] | undefined;
  }

  /** For the head's count of destroyed keys. */
  buried(): void {
    this.#tombstones += 1;
  }

  /** Everything written from here on belongs to this epoch, and the head to this database; see `beginEpoch`. */
  enterEpoch(epoch: number, storeId: string): void {
    this.#head = { ...this.#head, epoch, store_id: storeId };
  }

  /** Appends the entries and moves the head. @returns where the journal ends now */
  async finish(): Promise<Finished> {
    for (const part of chunks(this.#entries, PARAMETERS_MAX / 20)) await this.db.insertInto('journal').values([...part]).execute();
    const { seq, mac } = this.end;
    const counts = { live_rows: this.#head.live_rows + this.#liveRows, tombstones: this.#head.tombstones + this.#tombstones };
    await this.writeHead({ ...this.#head, seq, mac, ...counts });
    return { seq, mac, epoch: this.#head.epoch, storeId: this.#head.store_id };
  }

  /** Seals the head and puts it in the place of the one that was found. */
  async writeHead(head: HeadTable): Promise<void> {
    const sealed = { ...head, seal: sealOf(this.#context.macs, 'head', { ...head }) };
    const { numUpdatedRows } = await this.db.updateTable('head').set(sealed).executeTakeFirstOrThrow();
    if (numUpdatedRows === 0n) await this.db.insertInto('head').values(sealed).execute();
  }

  get #any(): AnyDb {
    return this.db as unknown as AnyDb;
  }

  #nextSeq(): number {
    return this.end.seq + 1;
  }

  /** @returns the row with its seal, whose journal entry is noted */
  #write(table: SealedTable, row: AnyRow, revision: number): AnyRow {
    const placed = { ...row, seq: this.#nextSeq(), epoch: this.#head.epoch, revision };
    const sealed = { ...placed, seal: sealOf(this.#context.macs, table, placed) };
    this.#note(table, sealed, revision, canonicalRow(table, sealed));
    return sealed;
  }

  #note(table: SealedTable, row: AnyRow, revision: number, canonical: string | null): void {
    const pk = keyText(table, row);
    const { stream } = this.#context;
    const entry: JournalEntry = {
      seq: this.#nextSeq(), epoch: this.#head.epoch, at_ms: this.#atMs, tbl: table, pk, revision,
      row_seal: row['seal'] as Uint8Array, stream, request_id: this.#requestId, canonical, prev: this.end.mac,
    };
    this.#own.set(`${table} ${pk}`, entry.seq);
    this.#entries.push({ ...entry, mac: journalMac(this.#context.macs, entry), recorded: 0 });
  }

  async #find(table: SealedTable, key: AnyRow): Promise<AnyRow | undefined> {
    const found = await this.#any.selectFrom(table as string).selectAll().where(hasKey(table, key)).executeTakeFirst();
    if (found === undefined) return undefined;
    const pk = keyText(table, found);
    const newest = this.#own.get(`${table} ${pk}`) ?? (await latestSeqs(this.db, table, [pk])).get(pk);
    if (isSealed(this.#context.macs, table, found) && newest === found['seq']) return found;
    throw damaged(`${table} ${pk}: the stored row is damaged`);
  }
}

/** The row with the primary key of this one. */
export function hasKey(table: SealedTable, row: AnyRow) {
  return (of: ExpressionBuilder<Record<string, AnyRow>, string>) =>
    of.and(TABLES[table].key.map((name) => of(name, '=', row[name] ?? null)));
}

function chunks<T>(list: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, index) => list.slice(index * size, (index + 1) * size));
}
