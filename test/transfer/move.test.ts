/** `kms migrate` and `kms migrate --to`: everything goes on in PostgreSQL, at whatever point the command was killed before. */

import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { base64, EC, makeKey, OCT } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { type Ended, runKms } from '../support/files.ts';
import { rows } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { dropDatabase, query, sharedPostgres } from '../support/postgres.ts';

let kms: Installation;
let url: string;
let aes: string;
let signer: string;
let ciphertext: string;
let signature: string;
let ahead: string;
const path = (name: string): string => join(kms.home, name);
const migrate = (...args: readonly string[]): Promise<Ended> => runKms(kms.environment, 'migrate', ...args);

beforeAll(async () => {
  // On a machine under load a poll of PostgreSQL may take longer than the default allows.
  kms = await Installation.make({ KMS_STORE_STALE_MAX_MS: '10000' });
  url = await sharedPostgres().createDatabase();
  await kms.start();
  const client = kms.client();
  aes = await makeKey(client, { ...OCT, context: 'sent \u{1f511} along' });
  signer = await makeKey(client, EC);
  ahead = await makeKey(client, OCT);
  ciphertext = (await client.post(`/servicekey/${aes}/encrypt`, { plaintext: base64('before'), context: 'c' })).json.ciphertext;
  signature = (await client.post(`/servicekey/${signer}/sign`, { message: base64('before'), alg: 'ES256' })).json.signature;
  expect((await client.post(`/servicekey/${ahead}/deactivate`, { reason: 'superseded' })).status).toBeLessThan(300);
  await client.close();
});

afterAll(async () => {
  await kms.remove();
  await dropDatabase(url);
});

const rowsIn = async (table: string): Promise<Record<string, unknown>[]> => query(url, `select * from ${table}`);

function sourceStatus(): { status: string; seq: number } {
  const database = new Database(path('kms.db'), { readonly: true });
  try {
    return database.prepare('select status, seq from head').get() as { status: string; seq: number };
  } finally {
    database.close();
  }
}

describe('refused', () => {
  test.each([
    ['a password', 'postgres://kms:secret@127.0.0.1/kms'],
    ['a password as a parameter', 'postgres://kms@127.0.0.1/kms?password=secret'],
  ])('%s in the URL', async (_name, to) => {
    const { code, stdout, stderr } = await migrate('--to', to);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/store\.passwordFile.*PGPASSWORD/);
    expect(stderr).not.toContain('secret');
  });

  test.each(rows(['kms.db', 'mysql://x@127.0.0.1/kms', ''], 2))('%p, which is no PostgreSQL', async (to) => {
    expect(await migrate('--to', to)).toMatchObject({ code: 2, stderr: expect.stringContaining('postgres://user@host/database') });
  });

  test('while a server runs', async () => {
    expect(await migrate('--to', url)).toMatchObject({ code: 1, stderr: expect.stringContaining('stop every server') });
    expect(await rowsIn('head')).toEqual([]);
    await kms.stop();
    copyFileSync(path('kms.db'), path('kms.db.copy'));
  });

  test('a database that somebody else uses', async () => {
    const other = await sharedPostgres().createDatabase();
    await query(other, 'create table theirs (id int)');
    expect(await migrate('--to', other)).toMatchObject({ code: 1, stderr: expect.stringContaining('theirs') });
    expect(await query(other, `select tablename from pg_tables where schemaname = 'public'`)).toEqual([{ tablename: 'theirs' }]);
    await dropDatabase(other);
  });

  test('a store in which a row was altered; nothing is left in the target', async () => {
    const before = readFileSync(path('kms.db'));
    const database = new Database(path('kms.db'));
    database.prepare(`update key set label = 'other' where id = ?`).run(aes);
    database.close();
    expect(await migrate('--to', url)).toMatchObject({ code: 6, stderr: expect.stringMatching(new RegExp(`key ${kms.admin.okmsId}/${aes} is damaged`)) });
    expect(await rowsIn('head')).toEqual([]);
    expect(await rowsIn('journal')).toEqual([]);
    for (const suffix of ['-wal', '-shm']) rmSync(path(`kms.db${suffix}`), { force: true });
    writeFileSync(path('kms.db'), before);
  });
});

test('kms migrate alone changes nothing in a store of this schema', async () => {
  const { seq } = sourceStatus();
  expect(await migrate()).toMatchObject({ code: 0, stdout: 'the store has the schema of this program\n' });
  expect(sourceStatus()).toEqual({ status: 'serving', seq });
});

describe('killed on its way', () => {
  const killed = (at: string, afterMs = 0): Promise<Ended> => runKms({
    ...kms.environment, NODE_OPTIONS: `--import=${resolve('test/support/die-at.mjs')}`,
    KMS_TEST_DIE_AT: at, KMS_TEST_DIE_AFTER: String(afterMs),
  }, 'migrate', '--to', url);

  test('amid the copy: nothing has happened', async () => {
    for (const afterMs of rows([0, 1, 5, 15], 3)) {
      await killed('copying and verifying', afterMs);
      if (sourceStatus().status === 'moved') throw new Error('the copy was faster than the kill');
    }
    expect(sourceStatus().status).toBe('serving');
  });

  test('after the copy: the old store still serves, and what it commits is not lost', async () => {
    expect((await killed('copied and verified')).code).toBe('SIGKILL');
    expect(sourceStatus().status).toBe('serving');
    expect(await rowsIn('head')).toMatchObject([{ epoch: '2', status: 'serving' }]);
    // The copy is there and complete, and does not serve: the token names the other.
    await notReady({ KMS_STORE_URL: url }, /anchor names another store/);
    await kms.start();
    const client = kms.client();
    expect((await client.post(`/servicekey/${ahead}/activate`)).status).toBeLessThan(300);
    await client.close();
    expect(await kms.stop()).toBe(0);
  });

  test('after the copy that was made anew: invocations counted since are not lost, though the journal stood still', async () => {
    expect((await killed('copied and verified')).code).toBe('SIGKILL');
    const { seq } = sourceStatus();
    await kms.start();
    const client = kms.client();
    for (let n = 0; n < 5; n += 1) expect((await client.post(`/servicekey/${aes}/encrypt`, { plaintext: 'AAAA' })).status).toBe(200);
    await client.close();
    expect(await kms.stop()).toBe(0);
    expect(sourceStatus()).toEqual({ status: 'serving', seq });
  });

  test('after the copy, and with the old store closed: nobody serves', async () => {
    expect((await killed('the old store is closed for good')).code).toBe('SIGKILL');
    expect(sourceStatus().status).toBe('moved');
    await notReady({}, /this store was moved/);
    await notReady({ KMS_STORE_URL: url }, /anchor names another store/);
  });

  test('with the token told, and the settings not', async () => {
    expect((await killed('the token knows the new store')).code).toBe('SIGKILL');
    expect(readFileSync(path('kms.yaml'), 'utf8')).not.toContain(url);
    await notReady({}, /this store was moved/);
  });

  /** Starts a server that must not become ready, and looks at what it says. */
  async function notReady(extra: NodeJS.ProcessEnv, reason: RegExp): Promise<void> {
    await expectNotReady(kms, extra, reason);
  }
});

async function expectNotReady(of: Installation, extra: NodeJS.ProcessEnv, reason: RegExp): Promise<void> {
  const starting = of.start(extra).then(() => 'ready', () => 'ended');
  const client = of.client(null);
  let said = '';
  await eventually(`not ready: ${String(reason)}`, async () => {
    said = await client.get(`https://localhost:${of.publicPort}/readyz`).then(({ status, text }) => `${status} ${text}`, () => '');
    return said.startsWith('503') && reason.test(said);
  }).catch((error: unknown) => { throw new Error(`${String(error)}; last answer: ${said}`); });
  await client.close();
  await of.stop();
  expect(await starting).toBe('ended');
}

describe('completed by running it again', () => {
  let moved: Ended;

  beforeAll(async () => {
    writeFileSync(path('kms.yaml'), `# a remark of the operator\n${readFileSync(path('kms.yaml'), 'utf8')}`);
    moved = await migrate('--to', url);
  });

  test('says so in settings and audit', () => {
    expect({ code: moved.code, stdout: moved.stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^the store sqlite:\S+ is pg:\S+ now, epoch 2\n$/) });
    const settings = readFileSync(path('kms.yaml'), 'utf8');
    expect(settings).toContain('# a remark of the operator\n');
    expect(settings).toContain('# Settings of this installation');
    expect(settings).toContain(`url: ${url}`);
    const [, from = '', to = ''] = /^the store (\S+) is (\S+) now/.exec(moved.stdout)!;
    expect(auditRecords(kms).filter(({ event }) => event === 'store.move')).toMatchObject([{ result: 'success', detail: { from, to, epoch: 2 } }]);
  });

  test('the chain goes on: one entry of the new epoch on the last of the old', async () => {
    const { seq } = sourceStatus();
    const entries = await query(url, 'select seq, epoch, tbl, revision, request_id from journal where seq >= $1 order by seq', [seq]);
    expect(entries).toMatchObject([{ seq: String(seq), epoch: '1' }, { seq: String(seq + 1), epoch: '2', tbl: 'installation', revision: '1', request_id: 'move' }]);
    const before = new Database(path('kms.db'), { readonly: true });
    const own = before.prepare('select seq, mac, canonical from journal order by seq').all() as { seq: number; mac: Buffer; canonical: string }[];
    before.close();
    const copied = await query(url, 'select seq, mac, canonical from journal where seq <= $1 order by seq', [seq]);
    expect(copied).toEqual(own.map((row) => ({ ...row, seq: String(row.seq) })));
  });

  test('counters are those of the end', async () => {
    const before = new Database(path('kms.db'), { readonly: true });
    const own = before.prepare('select object_id, reserved from invocation_counter order by object_id').all() as { object_id: string; reserved: number }[];
    before.close();
    expect(Math.max(...own.map(({ reserved }) => reserved))).toBeGreaterThanOrEqual(6);
    const copied = await query(url, 'select object_id, reserved from invocation_counter order by object_id');
    expect(copied).toEqual(own.map((row) => ({ ...row, reserved: String(row.reserved) })));
  });

  test('again and again is harmless', async () => {
    const head = await rowsIn('head');
    expect(await migrate('--to', url)).toMatchObject({ code: 0, stdout: expect.stringContaining('already') });
    expect(await rowsIn('head')).toEqual(head);
  });

  test('every key works on what was made before, and new ones are made', async () => {
    await kms.start();
    const client = kms.client();
    const opened = await client.post(`/servicekey/${aes}/decrypt`, { ciphertext, context: 'c' });
    expect(opened.json).toEqual({ plaintext: base64('before') });
    const verified = await client.post(`/servicekey/${signer}/verify`, { message: base64('before'), alg: 'ES256', signature });
    expect(verified.json).toEqual({ result: true });
    expect((await client.get(`/servicekey/${ahead}`)).json).toMatchObject({ attributes: { state: 'active' } });
    const id = await makeKey(client, OCT);
    await client.close();
    expect(await kms.stop()).toBe(0);
    expect((await query(url, 'select epoch from key where id = $1', [id]))).toEqual([{ epoch: '2' }]);
    expect(await runKms(kms.environment, 'audit', 'verify')).toMatchObject({ code: 0 });
  });

  test('the old file is refused, and so is the copy of it that was put back', async () => {
    const settings = readFileSync(path('kms.yaml'), 'utf8');
    writeFileSync(path('kms.yaml'), settings.replace(/url: .*/, "url: ''"));
    await expectNotReady(kms, {}, /this store was moved/);
    for (const suffix of ['', '-wal', '-shm']) rmSync(path(`kms.db${suffix}`), { force: true });
    copyFileSync(path('kms.db.copy'), path('kms.db'));
    await expectNotReady(kms, {}, /anchor names another store/);
    // Nor can it be moved once more: the installation has gone on.
    const other = await sharedPostgres().createDatabase();
    expect(await migrate('--to', other)).toMatchObject({ code: 6, stderr: expect.stringMatching(/anchor names another store/) });
    expect(await migrate('--to', url)).toMatchObject({ code: 1, stderr: expect.stringMatching(/holds no copy of this store/) });
    await dropDatabase(other);
    writeFileSync(path('kms.yaml'), settings);
  });

  test('on to another PostgreSQL database', async () => {
    const next = await sharedPostgres().createDatabase();
    const head = await rowsIn('head');
    expect(await migrate('--to', next)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^the store pg:\S+ is pg:\S+ now, epoch 3/) });
    expect(await query(next, 'select epoch, live_rows, tombstones from head')).toEqual([{ epoch: '3', live_rows: head[0]!['live_rows'], tombstones: head[0]!['tombstones'] }]);
    expect(await rowsIn('head')).toMatchObject([{ status: 'moved' }]);
    await kms.start();
    const client = kms.client();
    expect((await client.post(`/servicekey/${aes}/decrypt`, { ciphertext, context: 'c' })).json).toEqual({ plaintext: base64('before') });
    await client.close();
    expect(await kms.stop()).toBe(0);
    await dropDatabase(next);
  });
});
