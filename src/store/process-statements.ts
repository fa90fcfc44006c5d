/**
 * Statements on server processes, their audit streams, duties and PIN latches, common to every database. Process rows
 * are sealed and not journaled: they change each second, and the checkpoints of the audit vouch for their streams.
 */

import type { Kysely } from 'kysely';
import { KmsError } from '../errors.ts';
import type { Damage } from './evidence.ts';
import { processRow, toPinLatch, toProcess } from './rows.ts';
import type { ProcessTable, Schema } from './schema.ts';
import { isSealed, sealOf, type StoreMacs } from './seal.ts';
import type { PinLatch, ProcessRow, StreamPosition, Unrecorded } from './store.ts';
import type { Loaded } from './verified.ts';

type Db = Kysely<Schema>;

export async function enrol(db: Db, macs: StoreMacs, process: ProcessRow): Promise<void> {
  await db.insertInto('process').values(sealed(macs, processRow(process))).execute();
}

function sealed(macs: StoreMacs, row: Omit<ProcessTable, 'seal'>): ProcessTable {
  return { ...row, seal: sealOf(macs, 'process', row) };
}

/** A row that fails its seal is left out. */
export async function listProcesses(db: Db, macs: StoreMacs): Promise<Loaded<readonly ProcessRow[]>> {
  const rows = await db.selectFrom('process').selectAll().orderBy('started_ms').orderBy('boot_id').execute();
  const broken = rows.filter((row) => !isSealed(macs, 'process', { ...row }));
  const damage = broken.map(({ boot_id }): Damage => ({ table: 'process', row: boot_id, reason: 'seal' }));
  return { value: rows.filter((row) => !broken.includes(row)).map(toProcess), damage };
}

/** Whatever their seals. */
export async function listClaimed(db: Db): Promise<readonly ProcessRow[]> {
  return (await db.selectFrom('process').selectAll().orderBy('started_ms').orderBy('boot_id').execute()).map(toProcess);
}

/** @returns false when the process is not open any more, or unknown @throws KmsError `integrity` */
export async function changeProcess(
  db: Db,
  macs: StoreMacs,
  rowLocks: boolean,
  bootId: string,
  change: { readonly state?: ProcessRow['state']; readonly settledMs?: number; readonly leaseMs?: number; readonly stream?: StreamPosition },
): Promise<boolean> {
  const query = db.selectFrom('process').selectAll().where('boot_id', '=', bootId);
  const found = await query.$if(rowLocks, (it) => it.forUpdate()).executeTakeFirst();
  if (found === undefined) return false;
  if (!isSealed(macs, 'process', { ...found })) throw new KmsError('integrity', 'the row of a process is damaged');
  if (found.state !== 'open') return false;
  const { seal: _, ...row } = found;
  const next = sealed(macs, {
    ...row,
    ...(change.stream !== undefined && streamColumns(change.stream)),
    ...(change.state !== undefined && { state: change.state }),
    ...(change.settledMs !== undefined && { settled_ms: change.settledMs }),
    ...(change.leaseMs !== undefined && { lease_ms: change.leaseMs }),
  });
  await db.updateTable('process').set(next).where('boot_id', '=', bootId).execute();
  return true;
}

function streamColumns({ seq, head, checkpoint }: StreamPosition): Pick<ProcessTable, 'stream_seq' | 'head' | 'checkpoint'> {
  return { stream_seq: seq, head, checkpoint };
}

export async function listUnrecorded(db: Db, bootId: string): Promise<Unrecorded[]> {
  const rows = await db
    .selectFrom('journal')
    .select(['seq', 'request_id', 'tbl', 'pk'])
    .where('recorded', '=', 0)
    .where('stream', '=', bootId)
    .orderBy('seq')
    .execute();
  return rows.map(({ seq, request_id, tbl, pk }) => ({ seq, requestId: request_id, table: tbl, key: pk }));
}

export async function markRecorded(db: Db, bootId: string, requestIds: readonly string[]): Promise<void> {
  if (requestIds.length === 0) return;
  await db
    .updateTable('journal')
    .set({ recorded: 1 })
    .where('recorded', '=', 0)
    .where('stream', '=', bootId)
    .where('request_id', 'in', requestIds)
    .execute();
}

/** A duty of a process that left, or was adopted, is free. @returns whether `bootId` has it now */
export async function takeDuty(db: Db, rowLocks: boolean, name: string, bootId: string, nowMs: number, forMs: number): Promise<boolean> {
  await db
    .insertInto('duty').values({ name, boot_id: bootId, until_ms: 0 }).onConflict((on) => on.doNothing()).execute();
  const query = db.selectFrom('duty').selectAll().where('name', '=', name);
  const duty = await query.$if(rowLocks, (it) => it.forUpdate()).executeTakeFirstOrThrow();
  if (duty.boot_id !== bootId && duty.until_ms > nowMs && !(await hasLeft(db, duty.boot_id))) return false;
  await db.updateTable('duty').set({ boot_id: bootId, until_ms: nowMs + forMs }).where('name', '=', name).execute();
  return true;
}

/** A command has no row: its duty ends by the clock. */
async function hasLeft(db: Db, bootId: string): Promise<boolean> {
  const holder = await db.selectFrom('process').select('state').where('boot_id', '=', bootId).executeTakeFirst();
  return holder !== undefined && holder.state !== 'open';
}

export async function listPinLatches(db: Db): Promise<PinLatch[]> {
  return (await db.selectFrom('pin_latch').selectAll().orderBy('host_id').execute()).map(toPinLatch);
}

export async function setPinLatch(db: Db, { hostId, source, atMs }: PinLatch): Promise<void> {
  await db
    .insertInto('pin_latch')
    .values({ host_id: hostId, source, at_ms: atMs })
    .onConflict((on) => on.column('host_id').doUpdateSet({ source, at_ms: atMs }))
    .execute();
}

export async function clearPinLatches(db: Db): Promise<void> {
  await db.deleteFrom('pin_latch').execute();
}
