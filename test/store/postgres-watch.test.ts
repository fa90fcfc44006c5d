/** Knowledge of the head on a real server: notifications, polls, read-through, staleness, and who has seen what. */

import { randomUUID } from 'node:crypto';
import { fork, type ChildProcess } from 'node:child_process';
import { on, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Engine } from '../../src/store/engine.ts';
import { openPostgresEngine } from '../../src/store/postgres-engine.ts';
import { migratePostgres, openPostgresStore } from '../../src/store/postgres.ts';
import { times } from '../support/form.ts';
import { TestPostgres, query } from '../support/postgres.ts';
import { eventually } from '../support/wait.ts';

const STALE_MS = 2_000;
const STALE = expect.objectContaining({ code: 'store-unavailable', retryAfter: 1 });
/** An engine whose listening connection was cut has it back by now, on any machine. */
const LONG_MS = 60_000;

let server: TestPostgres;
let url: string;
const opened: Opened[] = [];

interface Opened {
  readonly engine: Engine;
  readonly boot: string;
  readonly wentBack: [number, number][];
}

beforeAll(async () => {
  server = await TestPostgres.start();
  url = await server.createDatabase('watch');
  await query(url, 'create table head (seq bigint not null)');
  await query(url, 'create table item (id text primary key)');
});
afterAll(() => server.remove());

beforeEach(() => query(url, 'delete from head; insert into head values (1)'));
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ engine }) => engine.close()));
});

async function open(staleMaxMs = STALE_MS): Promise<Opened> {
  const boot = randomUUID();
  const wentBack: [number, number][] = [];
  const readSeq = async (db: Engine['reader']) => (await sql<{ seq: number }>`select seq from head`.execute(db)).rows[0]!.seq;
  const onWentBack = (from: number, to: number) => void wentBack.push([from, to]);
  const engine = await openPostgresEngine({ url, bootId: boot, staleMaxMs, readSeq, onWentBack });
  const of = { engine, boot, wentBack };
  opened.push(of);
  await rests(engine);
  return of;
}

/** As the statements will: moves the head and announces it in one transaction. */
async function commit({ engine }: Opened): Promise<number> {
  const seq = await engine.writer.transaction().execute(async (db) => {
    const { rows } = await sql<{ seq: number }>`update head set seq = seq + 1 returning seq`.execute(db);
    await engine.announce(db, rows[0]!.seq);
    return rows[0]!.seq;
  });
  engine.committed(seq);
  return seq;
}

function counterOf(engine: Engine): number | undefined {
  try {
    return engine.changeCounter();
  } catch {
    return undefined;
  }
}

/** Until the engine listens: two calls give the same number. */
async function rests(engine: Engine): Promise<void> {
  await eventually('the engine listens', () => counterOf(engine) !== undefined && counterOf(engine) === counterOf(engine));
}

/** The listening connections: of one process, or of all. */
async function listeners(boot = ''): Promise<number[]> {
  // Its last statement is LISTEN or the heartbeat, in which it differs from the others.
  const text = "select pid from pg_stat_activity where application_name like $1 and (query like '%; listen %' or query = 'select 1 as beat')";
  return (await query(url, text, [`kms ${boot}%`])).map((row) => Number(row['pid']));
}

/** Cuts it again and again, as it comes back; @returns what ends that */
function keepDeaf(boot: string): () => Promise<void> {
  const ending = new AbortController();
  const cutting = (async () => {
    while (!ending.signal.aborted) {
      for (const pid of await listeners(boot)) await query(url, 'select pg_terminate_backend($1)', [pid]);
      await delay(1);
    }
  })();
  return async () => {
    ending.abort();
    await cutting;
  };
}

describe('the change counter', () => {
  it('rests without commits, and moves with each one, of whichever process', async () => {
    const [a, b] = [await open(), await open()];
    for (let n = 0; n < 10; n++) {
      const [from, to] = n % 2 === 0 ? [a, b] : [b, a];
      const before = [from.engine.changeCounter(), to.engine.changeCounter()];
      expect([from.engine.changeCounter(), to.engine.changeCounter()]).toEqual(before);
      await commit(from);
      expect(from.engine.changeCounter()).not.toBe(before[0]);
      await eventually('the other counter moves', () => to.engine.changeCounter() !== before[1]);
    }
    await delay(1_100); // two polls
    const before = [a.engine.changeCounter(), b.engine.changeCounter()];
    await delay(1_100);
    expect([a.engine.changeCounter(), b.engine.changeCounter()]).toEqual(before);
  });

  it('moves at a notification, before any poll', async () => {
    const a = await open();
    const before = a.engine.changeCounter();
    // The head in the table stays: only the notification can tell.
    await query(url, "select pg_notify('kms_head', '2 somebody')");
    await eventually('the counter moves', () => a.engine.changeCounter() !== before);
    expect(a.wentBack).toEqual([]);
  });

  it('moves for an own commit of which this process never heard', async () => {
    const a = await open();
    const before = a.engine.changeCounter();
    await query(url, "select pg_notify('kms_head', $1)", [`2 ${a.boot}`]);
    await eventually('the counter moves', () => a.engine.changeCounter() !== before);
  });

  it('survives notifications that no commit stands behind, and nonsense', async () => {
    const a = await open();
    for (const payload of ['999999 somebody', '', 'x y', '-1', '1e999 z', '3']) await query(url, "select pg_notify('kms_head', $1)", [payload]);
    await query(url, "select pg_notify('kms_seen', 'nonsense')");
    await delay(1_100);
    const before = a.engine.changeCounter();
    await commit(a);
    expect(a.engine.changeCounter()).not.toBe(before);
    expect(a.wentBack).toEqual([]);
  });

  it('moves at the next poll when a commit was not announced', async () => {
    const a = await open();
    const before = a.engine.changeCounter();
    await query(url, 'update head set seq = 2');
    await eventually('the counter moves', () => a.engine.changeCounter() !== before);
    await delay(600);
    expect(a.engine.changeCounter()).toBe(a.engine.changeCounter());
  });

  it('never repeats while the listening connection is cut, and rests again afterwards', async () => {
    const a = await open();
    const restBefore = a.engine.changeCounter();
    const [pid] = await listeners(a.boot);
    const hear = keepDeaf(a.boot);
    await eventually('it is cut', () => a.engine.changeCounter() !== a.engine.changeCounter());
    const seen = new Set<number>([restBefore]);
    for (let n = 0; n < 50; n++) {
      const one = counterOf(a.engine);
      if (one === undefined || one === counterOf(a.engine)) continue; // it listened for a moment
      expect(seen).not.toContain(one);
      seen.add(one);
    }
    expect(seen.size).toBeGreaterThan(10);
    await hear();
    await rests(a.engine);
    expect(seen).not.toContain(a.engine.changeCounter());
    expect(await listeners(a.boot)).not.toContain(pid);
    const before = a.engine.changeCounter();
    await query(url, "select pg_notify('kms_head', '2 somebody')");
    await eventually('the counter moves', () => a.engine.changeCounter() !== before);
  });

  it('says once that the head went back, and is store-unavailable from then on', async () => {
    const a = await open();
    await commit(a);
    await commit(a);
    await query(url, 'update head set seq = 2');
    await eventually('the head is read', () => a.wentBack.length > 0);
    expect(() => a.engine.changeCounter()).toThrow(STALE);
    await delay(1_100); // two polls
    expect(a.wentBack).toEqual([[3, 2]]);
    expect(() => a.engine.changeCounter()).toThrow(STALE);
  });

  it('does not take own commits during a poll for a head that went back', async () => {
    const a = await open();
    // Polls come every half second.
    const end = performance.now() + times(1_100, 3_000);
    while (performance.now() < end) await commit(a);
    expect(a.wentBack).toEqual([]);
  });
});

describe('a server that goes away', () => {
  it.each([
    ['stopped', () => server.stop('fast'), () => server.startAgain()],
    ['crashed', () => server.stop('immediate'), () => server.startAgain()],
    ['hung', async () => server.pause(), async () => server.resume()],
  ])('%s: store-unavailable after staleMax, and all well again by itself', async (_name, leave, comeBack) => {
    const a = await open(1_000);
    await leave();
    await eventually('it knows nothing any more', () => counterOf(a.engine) === undefined);
    expect(() => a.engine.changeCounter()).toThrow(STALE);
    const failed = await Promise.allSettled([commit(a), sql`select 1`.execute(a.engine.reader), a.engine.ping(), a.engine.exclusively(async () => 1)]
      .map((one) => Promise.race([one, delay(LONG_MS, 'hung')])));
    for (const outcome of failed.slice(0, 3)) {
      expect(outcome).toMatchObject({ status: 'rejected' });
      expect(a.engine.fault((outcome as PromiseRejectedResult).reason)).toBe('database');
    }
    await comeBack();
    await rests(a.engine);
    const again = a.engine.changeCounter();
    await commit(a);
    expect(a.engine.changeCounter()).not.toBe(again);
    expect(await a.engine.exclusively(async () => 2)).toBe(2);
  });

  it('a lock that cannot be had is store-unavailable for whoever asks the store', async () => {
    const locks = await server.createDatabase();
    await migratePostgres(locks);
    const store = await openPostgresStore({ url: locks, bootId: randomUUID(), staleMaxMs: STALE_MS });
    await server.stop('fast');
    try {
      await expect(store.exclusively(() => Promise.resolve(1))).rejects.toMatchObject({ code: 'store-unavailable', retryAfter: 1 });
    } finally {
      await server.startAgain();
      await store.close();
    }
  });

  it('with every backend terminated, again and again: the process lives, and the next statements succeed', async () => {
    const a = await open();
    for (let n = 0; n < times(2, 5); n++) {
      const running = a.engine.writer.transaction().execute(async (db) => {
        await sql`select 1`.execute(db);
        await query(server.url(), "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'watch'");
        await delay(20); // the client hears of it between two queries
        await sql`select 1`.execute(db);
      });
      const fault: unknown = await running.then(() => undefined, (error: unknown) => error);
      expect(a.engine.fault(fault)).toBe('database');
      await commit(a);
      await a.engine.ping();
    }
    await rests(a.engine);
  });
});

describe('seenEverywhere', () => {
  it('needs nobody when only this process is meant, or all have said so before', async () => {
    const [a, b] = [await open(LONG_MS), await open(LONG_MS)];
    await a.engine.seenEverywhere(await commit(a), []);
    const seq = await commit(a);
    await a.engine.seenEverywhere(seq, [a.boot, b.boot]);
    await a.engine.seenEverywhere(seq, [a.boot, b.boot]);
    await a.engine.seenEverywhere(seq - 1, [b.boot]);
  });

  it('resolves when the others have seen it: their counters have moved by then', async () => {
    const [a, b, c] = [await open(LONG_MS), await open(LONG_MS), await open(LONG_MS)];
    for (let n = 0; n < 10; n++) {
      const before = [b.engine.changeCounter(), c.engine.changeCounter()];
      await a.engine.seenEverywhere(await commit(a), [a.boot, b.boot, c.boot]);
      expect(b.engine.changeCounter()).not.toBe(before[0]);
      expect(c.engine.changeCounter()).not.toBe(before[1]);
    }
  });

  it('resolves at the other’s next poll when that one’s listening connection is cut', async () => {
    const [a, b] = [await open(LONG_MS), await open(LONG_MS)];
    const hear = keepDeaf(b.boot);
    await eventually('it is cut', () => b.engine.changeCounter() !== b.engine.changeCounter());
    await a.engine.seenEverywhere(await commit(a), [b.boot]);
    await hear();
  });

  it('resolves by time when the own listening connection is cut', async () => {
    const [a, b] = [await open(1_000), await open(LONG_MS)];
    const hear = keepDeaf(a.boot);
    await eventually('it is cut', () => counterOf(a.engine) !== counterOf(a.engine));
    await a.engine.seenEverywhere(await commit(a), [b.boot]);
    await hear();
  });

  it('resolves for many at once, all processes writing', async () => {
    const all = [await open(LONG_MS), await open(LONG_MS)];
    const boots = all.map((of) => of.boot);
    await Promise.all(Array.from({ length: 60 }, async (_, n) => all[n % 2]!.engine.seenEverywhere(await commit(all[n % 2]!), boots)));
  });

  it('resolves by time when another says nothing, and not before staleMax and a tenth', async () => {
    const a = await open(1_000);
    const seq = await commit(a);
    const start = performance.now();
    await a.engine.seenEverywhere(seq, ['nobody']);
    expect(performance.now() - start).toBeGreaterThanOrEqual(1_100);
  });

  it('resolves by time when the server is gone, and at once when the engine closes', async () => {
    const [a, b] = [await open(1_000), await open(LONG_MS)];
    await server.stop('fast');
    const start = performance.now();
    await a.engine.seenEverywhere(99, [b.boot]);
    expect(performance.now() - start).toBeGreaterThanOrEqual(1_100);
    const waiting = b.engine.seenEverywhere(99, [a.boot]);
    await b.engine.close();
    await waiting;
    await server.startAgain();
  });

  it('waits out the time of a process that stands still, which does not serve what it knew before', async () => {
    const [a, patient] = [await open(STALE_MS), await open(LONG_MS)];
    const child = await startChild('watch', STALE_MS);
    const first = performance.now();
    // Who would wait long by time is answered by the other.
    await patient.engine.seenEverywhere(await commit(patient), [child.boot]);
    expect(performance.now() - first).toBeLessThan(LONG_MS);
    child.process.kill('SIGSTOP');
    const seq = await commit(a);
    const start = performance.now();
    await a.engine.seenEverywhere(seq, [child.boot]);
    expect(performance.now() - start).toBeGreaterThanOrEqual(1.1 * STALE_MS);
    child.process.kill('SIGCONT');
    await child.end();
    // From before it stood still, it gave its number at every turn of its event loop.
    expect(child.violations()).toEqual([]);
  });
});

describe('exclusively', () => {
  it('runs one at a time, in order, over processes', async () => {
    const [a, b] = [await open(), await open()];
    const events: string[] = [];
    let inside = 0;
    const run = async (name: string) => {
      expect(++inside).toBe(1);
      events.push(name);
      await delay(20);
      inside--;
      return name;
    };
    const names = ['a1', 'a2', 'a3', 'b1', 'b2', 'b3'];
    const results = await Promise.all(names.map((name) => (name.startsWith('a') ? a : b).engine.exclusively(() => run(name))));
    expect(results).toEqual(names);
    for (const own of ['a', 'b']) expect(events.filter((name) => name.startsWith(own))).toEqual([1, 2, 3].map((n) => `${own}${n}`));
    expect(await locks()).toBe(0);
  });

  it('lets go when run fails, also when its connection was lost, and keeps that error', async () => {
    const [a, b] = [await open(), await open()];
    await expect(a.engine.exclusively(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
    const losing = a.engine.exclusively(async () => {
      await query(url, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'");
      expect(await b.engine.exclusively(async () => 'next')).toBe('next');
      throw new Error('mine, too');
    });
    await expect(losing).rejects.toThrow('mine, too');
    expect(await a.engine.exclusively(async () => 'again')).toBe('again');
    expect(await locks()).toBe(0);
  });

  it('is overloaded when the turn does not come in time, in the own process and in another', async () => {
    const holder = await open();
    const boot = randomUUID();
    const engine = await openPostgresEngine({ url, bootId: boot, staleMaxMs: STALE_MS, lockWaitMs: 300, readSeq: async () => 1, onWentBack: () => undefined });
    opened.push({ engine, boot, wentBack: [] });
    const refused = { code: 'overloaded', retryAfter: 1 };
    await holder.engine.exclusively(async () => {
      const outcomes = await Promise.allSettled([1, 2, 3].map(() => engine.exclusively(async () => 1)));
      for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: refused });
    });
    await engine.exclusively(async () => {
      await expect(engine.exclusively(async () => 1)).rejects.toMatchObject(refused);
    });
    expect(await engine.exclusively(async () => 'free')).toBe('free');
    expect(await locks()).toBe(0);
  });

  it('goes to the next one when the holder is killed', async () => {
    const a = await open();
    const child = await startChild('lock', STALE_MS);
    const waiting = a.engine.exclusively(async () => 'mine');
    expect(await Promise.race([waiting, delay(500, 'waiting')])).toBe('waiting');
    child.process.kill('SIGKILL');
    expect(await waiting).toBe('mine');
  });
});

describe('what goes wrong, by what really went wrong', () => {
  const statement = (db: Engine['reader'], text: string) => sql.raw(text).execute(db);
  const cases: [string, string, (of: Engine) => Promise<unknown>, string][] = [
    ['a duplicate', 'unique', (of) => statement(of.writer, "insert into item values ('a'), ('a')"), '23505'],
    ['a null', 'other', (of) => statement(of.writer, 'insert into item values (null)'), '23502'],
    ['a mistake in the text', 'other', (of) => statement(of.writer, 'selekt 1'), '42601'],
    ['a missing table', 'other', (of) => statement(of.writer, 'select * from missing'), '42P01'],
    ['a statement that takes too long', 'database', (of) => statement(of.writer, 'select pg_sleep(60)'), '57014'],
    ['a write on a standby', 'database', (of) => statement(of.reader, "insert into item values ('b')"), '25006'],
    ['a deadlock', 'database', deadlock, '40P01'],
    ['a serialization failure', 'database', unserializable, '40001'],
  ];

  it.each(cases)('%s is %s', async (_name, fault, cause, code) => {
    const boot = randomUUID();
    const engine = await openPostgresEngine({ url, bootId: boot, staleMaxMs: STALE_MS, timeoutMs: 3_000, readSeq: async () => 1, onWentBack: () => undefined });
    opened.push({ engine, boot, wentBack: [] });
    const thrown: unknown = await cause(engine).then(() => undefined, (error: unknown) => error);
    expect(thrown).toMatchObject({ code });
    expect(engine.fault(thrown)).toBe(fault);
    await engine.ping();
  });

  it('an error of ours is other', async () => {
    const { engine } = await open();
    expect([new Error('x'), undefined, null, 'EPIPE', { code: 'EPIPE' }, { code: '23505' }, new TypeError('x')].map((thrown) => engine.fault(thrown))).toEqual(Array(7).fill('other'));
    const own = new Error('mine');
    await expect(engine.writer.transaction().execute(() => Promise.reject(own))).rejects.toBe(own);
  });

  it('a commit that is not answered is database, and may have happened', async () => {
    const { engine } = await open();
    // A deferred trigger cuts the connection inside the commit.
    await query(url, `create function cut() returns trigger language plpgsql as
      $$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(10); return null; end $$`);
    await query(url, 'create constraint trigger cutting after insert on item deferrable initially deferred for each row execute function cut()');
    const thrown: unknown = await engine.writer.transaction().execute((db) => statement(db, "insert into item values ('cut')")).then(() => undefined, (error: unknown) => error);
    expect(engine.fault(thrown)).toBe('database');
    await query(url, 'drop trigger cutting on item');
    await engine.ping();
  });
});

async function deadlock({ writer }: Engine): Promise<unknown> {
  await sql.raw("insert into item values ('x'), ('y') on conflict do nothing").execute(writer);
  const lock = async (first: string, second: string) =>
    writer.transaction().execute(async (db) => {
      await sql`select 1 from item where id = ${first} for update`.execute(db);
      await delay(300);
      await sql`select 1 from item where id = ${second} for update`.execute(db);
    });
  const outcomes = await Promise.allSettled([lock('x', 'y'), lock('y', 'x')]);
  const loser = outcomes.find((of) => of.status === 'rejected');
  if (loser) throw loser.reason;
  return undefined;
}

function unserializable({ writer }: Engine): Promise<unknown> {
  return writer.transaction().setIsolationLevel('repeatable read').execute(async (db) => {
    await sql`select seq from head`.execute(db);
    await query(url, 'update head set seq = seq + 1');
    await sql`update head set seq = seq + 1`.execute(db);
  });
}

async function locks(): Promise<number> {
  const [row] = await query(url, "select count(*)::int as n from pg_locks where locktype = 'advisory'");
  return Number(row?.['n']);
}

interface Child {
  readonly boot: string;
  readonly process: ChildProcess;
  violations(): readonly string[];
  end(): Promise<void>;
}

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** A process of its own, on the built package: `postgres-child.mjs`. */
async function startChild(what: 'watch' | 'lock', staleMaxMs: number): Promise<Child> {
  const boot = randomUUID();
  const child = fork(fileURLToPath(new URL('postgres-child.mjs', import.meta.url)), [url, boot, String(staleMaxMs), what], { execArgv: [] });
  children.push(child);
  const found: string[] = [];
  for await (const [message] of on(child, 'message') as AsyncIterable<[unknown]>) if (message === 'ready') break;
  child.on('message', (message) => found.push(JSON.stringify(message)));
  const end = async () => {
    const closed = once(child, 'close');
    child.send('end');
    await closed;
  };
  return { boot, process: child, violations: () => found, end };
}
