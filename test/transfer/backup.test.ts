/** `kms backup` under load, the file with other tools' eyes, tampering, and the drill. */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import ck from 'pkcs11js';
import { EC, makeKey, OCT, RSA } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { type Ended, runKms } from '../support/files.ts';
import { rows } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { Caller, type Step } from '../support/load.ts';
import { readStore } from '../support/store-rows.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { eventually } from '../support/wait.ts';

let kms: Installation;
const ids: string[] = [];

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
  await kms.start();
  const client = kms.client();
  for (const spec of [OCT, EC, { ...RSA, operations: ['sign', 'verify'] }]) ids.push(await makeKey(client, { ...spec, context: 'ctx-é-\u{1f511}' }));
  await client.close();
});

afterAll(() => kms.remove());

const file = (name: string): string => join(kms.home, name);
const backup = (name: string): Promise<Ended> => runKms(kms.environment, 'backup', '--out', file(name), '--output', 'json');
const drill = (name: string): Promise<Ended> => runKms(kms.environment, 'restore', '--drill', '--from', file(name), '--output', 'json');

interface DrillReport {
  readonly ok: boolean;
  readonly digest: string;
  readonly keys: number;
  readonly versions: number;
  readonly objects: number;
  readonly failures: readonly { readonly about: string; readonly family?: string; readonly objectId?: string; readonly reason: string }[];
}

function drills(): readonly (Readonly<Record<string, unknown>> & { readonly result: string })[] {
  return auditRecords(kms).filter(({ event }) => event === 'backup.drill').map(({ result, detail }) => ({ ...detail, result }));
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- lines and rows of every shape
type Line = Readonly<Record<string, any>>;

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8' });
}

/** By the documented recipe: the trailer's signature with openssl and the audit key alone. */
function verifiesWithOpenssl(path: string): string {
  const line = readFileSync(path, 'utf8').trimEnd().split('\n').at(-1)!;
  const [, signature = ''] = /,"signature":"([^"]*)"\}$/.exec(line)!;
  writeFileSync(`${path}.signed`, `kms-bkup\u0001${line.replace(/,"signature":"[^"]*"\}$/, '}')}`);
  writeFileSync(`${path}.sig`, Buffer.from(signature, 'base64'));
  return openssl('dgst', '-sha256', '-verify', join(kms.home, 'audit', 'audit-key.pem'), '-signature', `${path}.sig`, `${path}.signed`);
}

describe('a backup while servers work', () => {
  let made: Ended;
  let acknowledged = 0;

  beforeAll(async () => {
    const callers = [new Caller(kms), new Caller(kms)];
    // Some keys and many looks: each key is in every drill below.
    const create = (n: number): Step => ({ method: 'POST', path: '/servicekey', body: { name: `load-${n}`, ...OCT } });
    callers[0]!.start((n) => (n < 5 || n % 20 === 0 ? create(n) : { method: 'GET', path: `/servicekey/${ids[0]!}` }));
    callers[1]!.start(() => ({ method: 'POST', path: `/servicekey/${ids[0]!}/encrypt`, body: { plaintext: 'AAAA', context: 'ctx-é-\u{1f511}' } }));
    await eventually('keys are made', () => callers[0]!.exchanges.length >= 5);
    acknowledged = callers[0]!.exchanges.filter(({ status }) => status === 201).length;
    made = await backup('under-load');
    for (const caller of callers) await caller.end();
    expect(callers.flatMap(({ exchanges }) => exchanges).filter(({ status }) => status !== 201 && status !== 200)).toEqual([]);
  });

  test('is one file for its owner alone, named in the audit', () => {
    expect({ code: made.code, stderr: made.stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(made.stdout) as { digest: string; seq: number; rows: number; damaged: unknown[] };
    expect(report).toMatchObject({ damaged: [], epoch: 1 });
    expect(statSync(file('under-load')).mode & 0o777).toBe(0o600);
    expect(report.digest).toBe(createHash('sha256').update(readFileSync(file('under-load'))).digest('hex'));
    const recorded = auditRecords(kms).filter(({ event }) => event === 'backup.create');
    expect(recorded).toMatchObject([{ result: 'success', detail: { digest: report.digest, seq: report.seq, rows: report.rows } }]);
  });

  test('holds the keys acknowledged before it, proofs and journal of one moment', () => {
    const lines = readFileSync(file('under-load'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as Line);
    const [header] = lines;
    const rowsOf = (table: string): Line[] => lines.filter((line) => line['table'] === table).map(({ row }) => row as Line);
    expect(rowsOf('key').length).toBeGreaterThanOrEqual(ids.length + acknowledged);
    expect(rowsOf('journal').map(({ seq }) => seq)).toEqual(Array.from({ length: header!['seq'] }, (_, index) => index + 1));
    expect(Buffer.from(rowsOf('journal').at(-1)!['mac'].base64, 'base64').toString('hex')).toBe(header!['mac']);
    expect(rowsOf('duty')).toEqual([]);
    expect(rowsOf('invocation_counter').length).toBeGreaterThan(0);
    const running = rowsOf('process').filter(({ state }) => state === 'open').map(({ boot_id, host_id }) => `${host_id}/${boot_id}`);
    expect(running).toHaveLength(2);
    expect(lines.filter(({ stream }) => stream !== undefined).map(({ stream }) => stream)).toEqual(expect.arrayContaining(running));
  });

  test('verifies with openssl and the public audit key', () => {
    expect(verifiesWithOpenssl(file('under-load'))).toBe('Verified OK\n');
    const lines = readFileSync(file('under-load'), 'utf8').trimEnd().split('\n');
    const content = `${lines.slice(0, -1).join('\n')}\n`;
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ lines: lines.length - 1, sha256: createHash('sha256').update(content).digest('hex') });
  });

  test('is not written over another', async () => {
    const before = readFileSync(file('under-load'));
    expect(await backup('under-load')).toMatchObject({ code: 1, stderr: expect.stringContaining('is there already') });
    expect(readFileSync(file('under-load'))).toEqual(before);
  });

  test('passes the drill beside the servers', async () => {
    const { code, stdout } = await drill('under-load');
    const report = JSON.parse(stdout) as DrillReport;
    expect({ code, failures: report.failures, ok: report.ok }).toEqual({ code: 0, failures: [], ok: true });
    const count = (table: string): number =>
      readFileSync(file('under-load'), 'utf8').split('\n').filter((line) => line.startsWith(`{"table":"${table}"`)).length;
    expect(report).toMatchObject({ keys: count('key'), versions: count('key_version'), objects: count('key_object') });
    expect(drills()).toMatchObject([{ result: 'success', digest: report.digest, keys: report.keys, failures: 0 }]);
  });
});

describe('a file that was altered is refused by name', () => {
  const changed = (find: RegExp, by: string) => (text: string): string => {
    if (!find.test(text)) throw new Error(`nothing matches ${String(find)}`);
    return text.replace(find, by);
  };
  test.each(rows<[string, (text: string) => string, RegExp]>([
    ['the header', changed(/"epoch":1/, '"epoch":2'), /its header was altered/],
    ['a row of a key', changed(/"state":"active"/, '"state":"deactivated"'), /its table key was altered/],
    ['a proof', changed(/("table":"key_object".*?"base64":"[A-Za-z0-9+/]{4})[A-Za-z0-9+/]/, '$1-'), /its table key_object was altered/],
    ['the audit key in it', changed(/("name":"audit".*?"base64":"MFk)w/, '$1x'), /its table internal_key was altered/],
    ['a journal entry', changed(/"request_id":"init"/, '"request_id":"unit"'), /its table journal was altered/],
    ['a row left out', changed(/\{"table":"credential".*\n/, ''), /its table credential: 0 lines/],
    ['a stream', changed(/("stream":"[0-9a-f]{16}\/[0-9a-f]{16}","seq":)/, '$11'), /its streams was altered/],
    ['the trailer', changed(/("trailer":1,"lines":)/, '$11'), /signature of its trailer does not hold/],
    ['the signature', (text) => text.replace(/("signature":".{20})(.)/, (_, before, one) => `${before}${one === 'A' ? 'B' : 'A'}`), /its signature does not hold/],
    ['no trailer', changed(/\{"trailer".*\n/, ''), /truncated: it has no trailer/],
    ['half a line', (text) => text.slice(0, text.length >> 1), /truncated: its last line has no end/],
    ['something behind it', (text) => `${text}{"table":"key","row":{}}\n`, /goes on after its trailer/],
    ['no backup at all', () => '{"format":"other"}\n', /line 1 is no line of a backup/],
  ], 3))('%s', async (_name, alter, reason) => {
    writeFileSync(file('altered'), alter(readFileSync(file('under-load'), 'utf8')));
    const { code, stdout, stderr } = await drill('altered');
    expect({ code, stdout, stderr }).toEqual({ code: 6, stdout: '', stderr: expect.stringMatching(reason) });
  });
});

describe('the drill names what is lost', () => {
  let objectId: string;

  beforeAll(async () => {
    await kms.stop();
    expect(await backup('later')).toMatchObject({ code: 0 });
    objectId = readStore(kms.home).objects.find(({ keyId, family }) => keyId === ids[0] && family === 'gcm')!.objectId;
  });

  const failures = async (name: string): Promise<DrillReport['failures']> => {
    const { code, stdout } = await drill(name);
    expect(code).toBe(6);
    const report = JSON.parse(stdout) as DrillReport;
    expect(report.ok).toBe(false);
    expect(drills()).toContainEqual(expect.objectContaining({
      result: 'failed', digest: report.digest, failures: report.failures.length,
      first: report.failures.map(({ about, family = '' }) => `${about} ${family}`.trim()).join(', '),
    }));
    return report.failures;
  };

  test('an object that was replaced by another of the same name', async () => {
    TokenViewer.look(kms.home, (viewer) => {
      const { module, session } = viewer.login(kms.home);
      const { handle, label } = viewer.objects().find(({ id }) => id === objectId)!;
      module.C_DestroyObject(session, handle);
      module.C_GenerateKey(session, { mechanism: ck.CKM_AES_KEY_GEN }, [
        { type: ck.CKA_ID, value: Buffer.from(objectId, 'hex') }, { type: ck.CKA_LABEL, value: Buffer.from(label) },
        { type: ck.CKA_VALUE_LEN, value: 32 },
        ...[ck.CKA_TOKEN, ck.CKA_PRIVATE, ck.CKA_SENSITIVE, ck.CKA_ENCRYPT, ck.CKA_DECRYPT].map((type) => ({ type, value: true })),
      ]);
    });
    expect(await failures('later')).toEqual([
      { about: `key ${kms.admin.okmsId}/${ids[0]!}`, version: 0, family: 'gcm', objectId, reason: expect.stringMatching(/^integrity: /) },
    ]);
  });

  test('an object that was destroyed', async () => {
    TokenViewer.look(kms.home, (viewer) => {
      const { module, session } = viewer.login(kms.home);
      module.C_DestroyObject(session, viewer.objects().find(({ id }) => id === objectId)!.handle);
    });
    expect(await failures('later')).toEqual([
      { about: `key ${kms.admin.okmsId}/${ids[0]!}`, version: 0, family: 'gcm', objectId, reason: expect.stringMatching(/^key-missing: /) },
    ]);
  });

  test('a proof that was changed in the store: told by the backup, and by the drill', async () => {
    const database = new Database(join(kms.home, 'kms.db'));
    const { object_id } = database.prepare(`select object_id from key_object where key_id = ? and family = 'public'`).get(ids[1]!) as { object_id: string };
    database.prepare(`update key_object set proof = zeroblob(length(proof)) where object_id = ? and family = 'public'`).run(object_id);
    database.close();
    const { code, stderr } = await backup('damaged');
    expect({ code, stderr }).toEqual({ code: 6, stderr: expect.stringContaining(`key_object ${object_id}/public`) });
    const told = auditRecords(kms).filter(({ event, result }) => event === 'backup.create' && result === 'failed');
    expect(told).toMatchObject([{ detail: { damaged: 1 } }]);
    expect(await failures('damaged')).toEqual(expect.arrayContaining([
      { about: `key_object ${object_id}/public`, reason: 'seal' },
      { about: `key ${kms.admin.okmsId}/${ids[1]!}`, reason: 'parts' },
      expect.objectContaining({ about: `key ${kms.admin.okmsId}/${ids[0]!}`, family: 'gcm' }),
    ]));
  });

  test('for people, too', async () => {
    const { code, stdout } = await runKms(kms.environment, 'restore', '--drill', '--from', file('damaged'));
    expect(code).toBe(6);
    expect(stdout).toContain(`FAILED key ${kms.admin.okmsId}/${ids[0]!} version 0 gcm: key-missing`);
    expect(stdout).toMatch(/^3 failures$/m);
  });
});
