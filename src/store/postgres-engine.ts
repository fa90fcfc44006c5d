/** The engine over PostgreSQL: pools, clock, identity, notifications, lock. */

import { Kysely, PostgresDialect, sql } from 'kysely';
import type { Engine } from './engine.ts';
import { postgresFault } from './postgres-errors.ts';
import { InstallationLock } from './postgres-lock.ts';
import { Connections, type Server } from './postgres-pool.ts';
import { HEAD_CHANNEL, HeadWatch } from './postgres-watch.ts';
import type { Schema } from './schema.ts';

/** Per process: commits wait for the head's row anyway. With watch, listener and lock a process has up to 12. */
const WRITERS = 4;
const READERS = 4;
/** Default limit of a statement, in ms. */
const TIMEOUT_MS = 5_000;
/** Default limit of the wait for the installation's lock, in ms. */
const LOCK_WAIT_MS = 60_000;

export interface EngineOptions extends Server {
  /** How old the knowledge of other processes' commits may become, in ms. */
  readonly staleMaxMs: number;
  /** Limit of a statement, in ms. Default 5 s. */
  readonly timeoutMs?: number;
  /** Limit of the wait in `exclusively`, in ms. Default 60 s. */
  readonly lockWaitMs?: number;
  /** Reads the head's seq; 0 before the first change. */
  readSeq(db: Kysely<Schema>): Promise<number>;
  /** See WatchOptions. */
  onWentBack(from: number, to: number): void;
}

/**
 * Connects, reads the head once, and goes on watching it.
 * @throws what the driver throws when the server cannot be reached; what `readSeq` throws
 */
export async function openPostgresEngine(options: EngineOptions): Promise<Engine> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const writer = kysely(new Connections(options, { max: WRITERS, timeoutMs }));
  const reader = kysely(new Connections(options, { max: READERS, timeoutMs, readOnly: true }));
  const locks = new Connections(options, { max: 1, timeoutMs: 0 });
  // A poll that has taken staleMax is worth nothing, and the next one may find a server that answers.
  const watching = new Connections(options, { max: 2, timeoutMs: Math.min(timeoutMs, options.staleMaxMs) });
  const polls = kysely(watching);
  const watch = new HeadWatch({
    server: options,
    staleMaxMs: options.staleMaxMs,
    timeoutMs,
    readSeq: () => options.readSeq(polls),
    notify: (channel, payload) => watching.query('select pg_notify($1, $2)', [channel, payload]),
    onWentBack: (from, to) => options.onWentBack(from, to),
  });
  const lock = new InstallationLock(locks, 'exclusively', options.lockWaitMs ?? LOCK_WAIT_MS);
  const engine: Engine = {
    writer,
    reader,
    rowLocks: true,
    stretch: 200,
    fault: postgresFault,
    storeId: () => storeId(reader),
    others: () => others(reader, options.bootId),
    nowMs,
    snapshot: (work) => reader.transaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute(work),
    changeCounter: () => watch.counter(),
    announce: async (db, seq) => {
      await sql`select pg_notify(${HEAD_CHANNEL}, ${`${seq} ${options.bootId}`})`.execute(db);
    },
    committed: (seq) => watch.committed(seq),
    seenEverywhere: (seq, boots) => watch.seenEverywhere(seq, boots),
    exclusively: (run) => lock.hold(run),
    ping: async () => {
      await sql`select 1`.execute(reader);
    },
    close: async () => {
      await watch.close();
      await Promise.all([writer.destroy(), reader.destroy(), polls.destroy(), locks.end()]);
      await watching.end(); // kysely ends what it has used
    },
  };
  try {
    await watch.start();
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}

export function kysely(connections: Connections): Kysely<Schema> {
  return new Kysely<Schema>({ dialect: new PostgresDialect({ pool: connections.forKysely() }) });
}

/** A dump restored elsewhere has another system identifier; one restored beside its original, another oid. */
async function storeId(db: Kysely<Schema>): Promise<string> {
  const found = await sql<{ id: string }>`
    select 'pg:' || system_identifier || ':' || (select oid from pg_database where datname = current_database()) as id
    from pg_control_system()`.execute(db);
  const [row] = found.rows;
  if (!row) throw new Error('pg_control_system() has no row');
  return row.id;
}

/** Connections carry the boot id of their process; on other hosts too. */
async function others(db: Kysely<Schema>, bootId: string): Promise<readonly string[]> {
  const { rows } = await sql<{ name: string; address: string | null }>`
    select distinct application_name as name, client_addr::text as address from pg_stat_activity
    where datname = current_database() and application_name like 'kms %' and application_name <> ${`kms ${bootId}`}`.execute(db);
  return rows.map(({ name, address }) => `${name}${address === null ? '' : ` at ${address}`}`);
}

async function nowMs(db: Kysely<Schema>): Promise<number> {
  const { rows } = await sql<{ now: number }>`
    select floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now`.execute(db);
  const [row] = rows;
  if (!row) throw new Error('clock_timestamp() has no row');
  return row.now;
}
