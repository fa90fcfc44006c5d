/** The PostgreSQL store: the contract, then what is its own: opening, migrating, types, identity. */

import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openPostgresEngine } from '../../src/store/postgres-engine.ts';
import { migratePostgres, openPostgresStore } from '../../src/store/postgres.ts';
import type { Engine } from '../../src/store/engine.ts';
import { eventually } from '../support/wait.ts';
import { dropDatabase, PASSWORD, PASSWORD_USER, query, sharedPostgres } from '../support/postgres.ts';
import { storeContract } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';
import { openTwo } from './postgres-databases.ts';

const UNAVAILABLE = { code: 'store-unavailable', retryAfter: 1 };

const options = (url: string) => ({ url, bootId: randomUUID(), staleMaxMs: 1_000 });

storeContract('PostgreSQL', openTwo);

describe('the PostgreSQL engine', () => {
  let url: string;
  let engine: Engine;
  beforeAll(async () => {
    url = await sharedPostgres().createDatabase();
    engine = await openPostgresEngine({ ...options(url), readSeq: () => Promise.resolve(0), onWentBack: () => undefined });
    await query(url, 'create table item (id text primary key, number bigint, bytes bytea)');
  });
  afterAll(async () => {
    await engine.close();
    await dropDatabase(url);
  });

  it('reads bigint as a number, and refuses one that a number does not hold', async () => {
    const bigint = async (text: string) => (await sql<{ n: unknown }>`select ${sql.lit(text)}::bigint as n`.execute(engine.reader)).rows[0];
    expect(await bigint('9007199254740991')).toEqual({ n: Number.MAX_SAFE_INTEGER });
    expect(await bigint('-9007199254740991')).toEqual({ n: -Number.MAX_SAFE_INTEGER });
    await expect(bigint('9007199254740992')).rejects.toMatchObject({ code: 'integrity' });
    expect(engine.fault(await bigint('9007199254740993').catch((error: unknown) => error))).toBe('other');
    expect(await bigint('5')).toEqual({ n: 5 });
  });

  it('writes and reads bytes', async () => {
    const bytes = new Uint8Array(512).map((_, n) => n).subarray(1, 300);
    await sql`insert into item (id, bytes) values ('bytes', ${bytes})`.execute(engine.writer);
    const { rows } = await sql<{ bytes: unknown }>`select bytes from item where id = 'bytes'`.execute(engine.reader);
    expect(rows[0]?.bytes).toEqual(Buffer.from(bytes));
    expect(await query(url, "select encode(bytes, 'hex') as hex from item where id = 'bytes'")).toEqual([{ hex: Buffer.from(bytes).toString('hex') }]);
  });

  it('names the database, the same for every role, another for another database', async () => {
    const [control] = await query(url, 'select system_identifier::text as id from pg_control_system()');
    const [own] = await query(url, 'select oid::text from pg_database where datname = current_database()');
    const id = await engine.storeId();
    expect(id).toBe(`pg:${String(control?.['id'])}:${String(own?.['oid'])}`);
    await query(url, 'create role plain login');
    const as = new URL(url);
    as.username = 'plain';
    const plain = await openPostgresEngine({ ...options(as.href), readSeq: () => Promise.resolve(0), onWentBack: () => undefined });
    expect(await plain.storeId()).toBe(id);
    await plain.close();
    await query(url, 'drop role plain');
  });

  it('tells the database’s time in whole milliseconds', async () => {
    const before = Date.now();
    const now = await engine.nowMs(engine.reader);
    expect(Number.isInteger(now)).toBe(true);
    expect(now).toBeGreaterThanOrEqual(before);
    expect(now).toBeLessThanOrEqual(Date.now());
    const [first, second] = await engine.writer.transaction().execute(async (db) => {
      const start = await engine.nowMs(db);
      await sql`select pg_sleep(0.05)`.execute(db);
      return [start, await engine.nowMs(db)] as const;
    });
    expect(second).toBeGreaterThanOrEqual(first + 50);
  });

  it('gives one snapshot, which cannot write', async () => {
    const count = async (db: Engine['reader']) => (await sql<{ n: number }>`select count(*) as n from item where id like 'snap%'`.execute(db)).rows[0]?.n;
    const seen = await engine.snapshot(async (db) => {
      const first = await count(db);
      await query(url, "insert into item (id) values ('snap')");
      return [first, await count(db)];
    });
    expect(seen).toEqual([0, 0]);
    expect(await count(engine.reader)).toBe(1);
    const write = engine.snapshot((db) => sql`insert into item (id) values ('snap2')`.execute(db));
    await expect(write).rejects.toMatchObject({ code: '25006' });
    await expect(sql`insert into item (id) values ('snap3')`.execute(engine.reader)).rejects.toMatchObject({ code: '25006' });
    expect(await count(engine.reader)).toBe(1);
  });

  it('does not report a commit that the server turned into a rollback', async () => {
    const broken = engine.writer.transaction().execute(async (db) => {
      await sql`insert into item (id) values ('lost')`.execute(db);
      await sql`select 1/0`.execute(db).catch(() => undefined);
    });
    await expect(broken).rejects.toMatchObject({ code: 'internal' });
    expect(await query(url, "select id from item where id = 'lost'")).toEqual([]);
  });

  it('commits durably and shows its name, whatever the server’s default', async () => {
    await query(url, `alter database "${new URL(url).pathname.slice(1)}" set synchronous_commit = off`);
    const own = options(url);
    const other = await openPostgresEngine({ ...own, readSeq: () => Promise.resolve(0), onWentBack: () => undefined });
    const { rows } = await sql`select current_setting('synchronous_commit') as s, current_setting('application_name') as a`.execute(other.writer);
    expect(rows).toEqual([{ s: 'on', a: `kms ${own.bootId}` }]);
    await other.close();
  });
});

describe('opening PostgreSQL', () => {
  let url: string;
  beforeAll(async () => {
    url = await sharedPostgres().createDatabase();
  });
  afterAll(() => dropDatabase(url));

  it('refuses an older schema and creates nothing', async () => {
    await expect(openPostgresStore(options(url))).rejects.toMatchObject(UNAVAILABLE);
    expect(await query(url, "select tablename from pg_tables where schemaname = 'public'")).toEqual([]);
  });

  it('works again and again, two migrations at a time; rows stay', async () => {
    await Promise.all([migratePostgres(url), migratePostgres(url)]);
    const first = await openPostgresStore(options(url));
    const { id } = await make.installed(first);
    await first.close();
    await migratePostgres(url);
    const second = await openPostgresStore(options(url));
    await second.unlock(make.MACS);
    expect(await second.vaults()).toMatchObject([{ id }]);
    await second.close();
  });

  it('refuses a newer schema', async () => {
    await query(url, "insert into kysely_migration values ('9999-later', '2030-01-01')");
    await expect(openPostgresStore(options(url))).rejects.toMatchObject(UNAVAILABLE);
    await expect(migratePostgres(url)).rejects.toMatchObject(UNAVAILABLE);
    await query(url, "delete from kysely_migration where name = '9999-later'");
  });

  it.each([
    ['nobody listens', () => 'postgres://kms@127.0.0.1:1/kms', 'ECONNREFUSED'],
    ['the database is missing', () => sharedPostgres().url('missing'), '3D000'],
    ['the socket is missing', () => 'postgres:///kms?host=/nowhere/at/all', 'ENOENT'],
  ])('is store-unavailable when %s', async (_name, where, code) => {
    for (const attempt of [() => openPostgresStore(options(where())), () => migratePostgres(where())]) {
      const fault: unknown = await attempt().then(() => undefined, (error: unknown) => error);
      expect(fault).toMatchObject(UNAVAILABLE);
      expect(codes(fault)).toContain(code);
    }
  });

  it('never shows the URL’s password', async () => {
    for (const bad of ['postgres://kms:geheim1@127.0.0.1:1/kms', 'postgres://kms:geheim1@host:notaport/kms']) {
      const fault: unknown = await openPostgresStore(options(bad)).then(() => undefined, (error: unknown) => error);
      expect(fault).toMatchObject(UNAVAILABLE);
      expect(inspect(fault, { depth: 20 })).not.toContain('geheim1');
    }
  });

  it('takes the password beside the URL, and only the right one', async () => {
    await query(url, `create role ${PASSWORD_USER} login password '${PASSWORD}'`);
    await query(url, `grant select on all tables in schema public to ${PASSWORD_USER}`);
    const as = new URL(url);
    as.username = PASSWORD_USER;
    const store = await openPostgresStore({ ...options(as.href), password: PASSWORD });
    await store.unlock(make.MACS);
    expect(await store.vaults()).toHaveLength(1);
    await store.close();
    const connections = openSockets();
    for (const password of ['wrong', undefined]) {
      await expect(openPostgresStore({ ...options(as.href), password })).rejects.toMatchObject(UNAVAILABLE);
    }
    // The server would wait for whoever is left amid the login, and make and drop no database meanwhile.
    await eventually('no connection is left', () => openSockets() <= connections);
    as.password = 'wrong';
    const both = await openPostgresStore({ ...options(as.href), password: PASSWORD });
    await both.close();
    await query(url, `drop owned by ${PASSWORD_USER}`);
    await query(url, `drop role ${PASSWORD_USER}`);
  });
});

/** Of this process. */
function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap' || kind === 'TCPWRAP').length;
}

/** The codes of an error and of its causes. */
function codes(fault: unknown): unknown[] {
  if (typeof fault !== 'object' || fault === null) return [];
  const { code, cause } = fault as { code?: unknown; cause?: unknown }; // Node's own are of another realm than jest's
  return [code, ...codes(cause)];
}
