/** `kms restore`: into an empty store of the installation, SQLite or PostgreSQL, which serves only when it is accepted. */

import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { base64, EC, makeKey, OCT } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { type Ended, runKms } from '../support/files.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { dropDatabase, query, sharedPostgres } from '../support/postgres.ts';

let kms: Installation;
let key: string;
let later: string;
let ciphertext: string;
let identity: string;
const path = (name: string): string => join(kms.home, name);
const restore = (from = 'backup', extra: NodeJS.ProcessEnv = {}): Promise<Ended> =>
  runKms({ ...kms.environment, ...extra }, 'restore', '--from', path(from));

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  const client = kms.client();
  key = await makeKey(client, { ...OCT, context: 'c\u{1f511}' });
  await makeKey(client, EC);
  ciphertext = (await client.post(`/servicekey/${key}/encrypt`, { plaintext: base64('before') })).json.ciphertext;
  await kms.command('backup', '--out', path('backup'));
  later = await makeKey(client, OCT);
  await client.close();
  await kms.stop();
  identity = readFileSync(path('kms.db.id'), 'utf8');
});

afterAll(() => kms.remove());

const tables = ['installation', 'internal_key', 'vault', 'credential', 'assignment', 'key', 'key_version', 'key_object', 'journal', 'process', 'invocation_counter'];

/** Rows of the file, bytes as Buffers. */
function rowsOf(table: string): readonly object[] {
  const lines = readFileSync(path('backup'), 'utf8').split('\n').filter((line) => line.startsWith(`{"table":"${table}"`));
  return lines.map((line) => {
    const { row } = JSON.parse(line) as { row: Readonly<Record<string, unknown>> };
    return Object.fromEntries(Object.entries(row).map(([name, value]) => {
      const { base64: bytes } = (value ?? {}) as { base64?: string };
      return [name, bytes === undefined ? value : Buffer.from(bytes, 'base64')];
    }));
  });
}

const restores = (): readonly object[] => auditRecords(kms).filter(({ event }) => event === 'backup.restore');

test('refuses a store that is not empty', async () => {
  const before = readFileSync(path('kms.db'));
  expect(await restore()).toMatchObject({ code: 1, stderr: expect.stringContaining('the target is not empty') });
  expect(readFileSync(path('kms.db'))).toEqual(before);
  expect(readFileSync(path('kms.db.id'), 'utf8')).toBe(identity);
  expect(restores()).toEqual([]);
});

test('refuses an altered file, and leaves the home as empty as it was', async () => {
  for (const suffix of ['', '-wal', '-shm']) rmSync(path(`kms.db${suffix}`), { force: true });
  writeFileSync(path('altered'), readFileSync(path('backup'), 'utf8').replace('"state":"active"', '"state":"compromised"'));
  expect(await restore('altered')).toMatchObject({ code: 6, stderr: expect.stringContaining('its table key was altered') });
  expect(() => statSync(path('kms.db'))).toThrow('ENOENT');
  expect(restores()).toEqual([]);
});

test('puts every row back, byte for byte, under an identity of its own', async () => {
  const { code, stdout } = await restore();
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^restored installation [\s\S]*serves nothing before `kms store accept-rollback --reason …`\n$/) });
  expect(statSync(path('kms.db')).mode & 0o777).toBe(0o600);
  expect(readFileSync(path('kms.db.id'), 'utf8')).not.toBe(identity);
  const database = new Database(path('kms.db'), { readonly: true });
  for (const table of tables) {
    const rows = database.prepare(`select * from ${table}`).all();
    expect(rows).toHaveLength(rowsOf(table).length);
    expect(rows).toEqual(expect.arrayContaining(rowsOf(table) as unknown[]));
  }
  database.close();
  expect(restores()).toMatchObject([{ result: 'success', detail: { from: identity.trim(), storeId: readFileSync(path('kms.db.id'), 'utf8').trim() } }]);
  expect(await restore()).toMatchObject({ code: 1, stderr: expect.stringContaining('the target is not empty') });
});

test('serves nothing before it is accepted, and what it held when it is', async () => {
  const starting = kms.start().then(() => 'ready', () => 'ended');
  const stranger = kms.client(null);
  const readyz = `https://localhost:${kms.publicPort}/readyz`;
  await eventually('says why it is not ready', async () => {
    const answer = await stranger.get(readyz).catch(() => undefined);
    return answer?.status === 503 && answer.text.includes('anchor names another store');
  });
  await stranger.close();
  await kms.stop();
  expect(await starting).toBe('ended');
  await kms.command('store', 'accept-rollback', '--reason', 'restored from a backup', '--yes');
  await kms.start();
  const client = kms.client();
  expect((await client.post(`/servicekey/${key}/decrypt`, { ciphertext })).json).toEqual({ plaintext: base64('before') });
  // Made after the backup: the audit and the token still know it.
  expect((await client.get(`/servicekey/${later}`)).json).toMatchObject({ attributes: { state: 'deactivated' } });
  await makeKey(client, OCT);
  await client.close();
  expect(await kms.stop()).toBe(0);
});

test('into an empty PostgreSQL database, and into no other', async () => {
  const url = await sharedPostgres().createDatabase();
  await query(url, 'create table theirs (id int)');
  expect(await restore('backup', { KMS_STORE_URL: url })).toMatchObject({ code: 1, stderr: expect.stringContaining('theirs') });
  await query(url, 'drop table theirs');
  expect(await restore('backup', { KMS_STORE_URL: url })).toMatchObject({ code: 0 });
  expect(await query(url, 'select id from key order by id')).toEqual(rowsOf('key').map((row) => ({ id: (row as { id: string }).id })));
  expect(await query(url, 'select store_id from head')).toMatchObject([{ store_id: expect.stringMatching(/^pg:/) }]);
  expect(await restore('backup', { KMS_STORE_URL: url })).toMatchObject({ code: 1, stderr: expect.stringContaining('the target is not empty') });
  await dropDatabase(url);
});
