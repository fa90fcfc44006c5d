/**
 * A whole store put into a database, in one transaction: rows, then the head, then the full comparison, then the
 * commit. Whoever is interrupted leaves an empty database, and nobody ever opens a half.
 */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import { Changes, type ChangeContext } from './changes.ts';
import { compareNext } from './compare.ts';
import type { Engine } from './engine.ts';
import type { CompareCursor, Damage } from './evidence.ts';
import type { JournalEnd } from './journal-statements.ts';
import type { HeadTable, Schema } from './schema.ts';
import { isSealed, sameBytes, type StoreMacs } from './seal.ts';
import { assertEmpty, type Batch, clear, writeBatch } from './transfer.ts';

type Db = Kysely<Schema>;

export interface Placement {
  readonly target: Engine;
  readonly macs: StoreMacs;
  /** Names the run in the journal. */
  readonly bootId: string;
  /** As it was where the rows come from. */
  readonly head: HeadTable;
  readonly batches: AsyncIterable<Batch>;
  /**
   * `copy`: the head stays where it was. `move`: a new epoch begins, with a journaled change of the installation's row
   * (its revision, nothing else), so that the first entry of the new epoch stands on the last of the old one.
   */
  readonly mode: 'copy' | 'move';
  /** What is there is known to be worthless, and removed first. */
  readonly replace?: boolean;
  /** Commits whatever the comparison finds. */
  readonly tolerant?: boolean;
  /** The last word before the commit; what it throws undoes everything. */
  readonly beforeCommit?: (head: JournalEnd) => Promise<void>;
}

export interface Placed {
  readonly head: JournalEnd;
  readonly damage: readonly Damage[];
}

/** @throws KmsError `conflict` when the target is not empty; `integrity` naming the first damage, unless `tolerant` */
export async function place(placement: Placement): Promise<Placed> {
  const { target, macs, batches, replace, tolerant } = placement;
  const storeId = await target.storeId();
  return target.writer.transaction().execute(async (db) => {
    if (replace === true) await clear(db);
    await assertEmpty(db);
    for await (const batch of batches) await writeBatch(db, batch);
    const head = await writeHead(db, placement, storeId);
    const damage = [...(await endDamage(db, head)), ...(await comparison(db, macs, head.seq)), ...(await processDamage(db, macs))];
    if (tolerant !== true) refuse(damage);
    await placement.beforeCommit?.(head);
    return { head, damage };
  });
}

async function writeHead(db: Db, { target, macs, bootId, head, mode }: Placement, storeId: string): Promise<JournalEnd> {
  const context = changeContext(target, macs, storeId, bootId);
  if (mode === 'copy') {
    const changes = await Changes.begin(db, context, 'restore', head);
    await changes.writeHead({ ...head, store_id: storeId });
    return changes.end;
  }
  const changes = await Changes.begin(db, context, MOVE, { ...head, store_id: storeId, epoch: head.epoch + 1, status: 'serving' });
  await changes.update('installation', { singleton: 1 }, null, {});
  return changes.finish();
}

/** Request id of the entry that begins the new epoch. */
export const MOVE = 'move';

export function changeContext(engine: Engine, macs: StoreMacs, storeId: string, bootId: string): ChangeContext {
  return { macs, storeId, rowLocks: engine.rowLocks, stream: bootId, nowMs: (db) => engine.nowMs(db) };
}

/** Rows compared at once: nobody else is served meanwhile. */
const STRETCH = 200;

/** All stretches of the full comparison, as this transaction sees them. */
async function comparison(db: Db, macs: StoreMacs, seq: number): Promise<Damage[]> {
  const within = { reader: db, snapshot: <T>(work: (db: Db) => Promise<T>) => work(db), stretch: STRETCH };
  const found: Damage[] = [];
  let cursor: CompareCursor | undefined;
  do {
    const { next, damage } = await compareNext(within, macs, { known: () => ({ seq }) }, cursor);
    found.push(...damage);
    cursor = next;
  } while (cursor !== undefined);
  return found;
}

/** The journal must end where the head says. */
async function endDamage(db: Db, { seq, mac }: JournalEnd): Promise<Damage[]> {
  const last = await db.selectFrom('journal').select(['seq', 'mac']).orderBy('seq', 'desc').limit(1).executeTakeFirst();
  if (last?.seq === seq && sameBytes(last.mac, mac)) return [];
  return [{ table: 'journal', row: String(last?.seq ?? 0), reason: 'chain' }];
}

/** Rows of processes stand outside the journal. */
async function processDamage(db: Db, macs: StoreMacs): Promise<Damage[]> {
  const rows = await db.selectFrom('process').selectAll().execute();
  return rows
    .filter((row) => !isSealed(macs, 'process', { ...row }))
    .map(({ boot_id }) => ({ table: 'process', row: boot_id, reason: 'seal' }));
}

function refuse(damage: readonly Damage[]): void {
  const [first] = damage;
  if (first === undefined) return;
  const more = damage.length === 1 ? '' : `, and ${damage.length - 1} more`;
  throw new KmsError('integrity', `${first.table} ${first.row} is damaged (${first.reason})${more}: nothing was written`);
}
