/** `kms audit verify` against the heads of the store, and `kms audit abandon` (integrity §7). */

import { readdirSync, readFileSync, renameSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeKey } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { type Ended, runKms } from '../support/files.ts';
import type { Installation } from '../support/installation.ts';
import { kmsCommand, makeOn, type TestStore } from './support.ts';

let kms: Installation;
let store: TestStore;

const verify = (...args: readonly string[]) => kmsCommand(kms, 'audit', 'verify', ...args);

/** As if it were run when the lease of a process that is gone has ended: the clock of the command is ahead. */
function afterLease(...args: readonly string[]): Promise<Ended> {
  const clock = { NODE_OPTIONS: `--import=${resolve('test/store-commands/later.mjs')}`, KMS_TEST_LATER_MS: '31000' };
  return runKms({ ...kms.environment, ...clock }, ...args);
}

beforeAll(async () => {
  ({ kms, store } = await makeOn('SQLite', { KMS_SERVER_PROCESSES: '1' }));
  await kms.start();
  await kms.stop();
}, 600_000);

afterAll(() => kms.remove());

async function newest(): Promise<{ readonly host: string; readonly boot: string; readonly path: string }> {
  const [row] = await store.rows('select host_id, boot_id from process order by started_ms desc limit 1');
  const [host, boot] = [String(row?.['host_id']), String(row?.['boot_id'])];
  return { host, boot, path: join(kms.home, 'audit', host, boot) };
}

describe('the heads of the store', () => {
  test('are compared unless it is told not to, and it says so', async () => {
    expect(await verify()).toMatchObject({ code: 0, stdout: expect.stringMatching(/store: compared with its heads as the store says/) });
    expect(await verify('--offline')).toMatchObject({ code: 0, stdout: expect.stringMatching(/store: not compared \(--offline\)/) });
    expect(await verify('--token')).toMatchObject({ code: 0, stdout: expect.stringMatching(/verified with the token/) });
  });

  test('find a stream that was removed', async () => {
    const { host, boot, path } = await newest();
    renameSync(path, join(kms.home, 'away'));
    expect((await verify('--offline')).code).toBe(0);
    expect(await verify()).toMatchObject({ code: 6, stdout: expect.stringContaining(`${host}/${boot}: MISSING`) });
    expect((await verify('--token')).code).toBe(6);
    renameSync(join(kms.home, 'away'), path);
  });

  test('find a tail that was cut', async () => {
    const { path } = await newest();
    const segment = join(path, readdirSync(path).sort().at(-1) ?? '');
    const whole = readFileSync(segment);
    const lastLine = whole.lastIndexOf(0x0a, whole.length - 2) + 1;
    truncateSync(segment, lastLine);
    expect((await verify('--offline')).code).toBe(0);
    expect(await verify()).toMatchObject({ code: 6, stdout: expect.stringMatching(/BAD at .*the store knows/) });
    writeFileSync(segment, whole);
    expect(statSync(segment).size).toBe(whole.length);
    expect((await verify()).code).toBe(0);
  });
});

describe('the stream of a host that never returns', () => {
  let stream: string;

  beforeAll(async () => {
    const file = join(kms.home, 'kms.yaml');
    const settings = readFileSync(file, 'utf8');
    writeFileSync(file, settings.replace(/hostId:.*/, 'hostId: "00000000000000aa"'));
    await kms.start();
    const admin = kms.client();
    await makeKey(admin, { type: 'oct', size: 128 });
    await admin.close();
    for (const pid of [kms.pid, ...kms.serverProcesses()]) process.kill(pid, 'SIGKILL');
    await kms.stop();
    writeFileSync(file, settings);
    const { host, boot } = await newest();
    stream = `${host}/${boot}`;
    expect(host).toBe('00000000000000aa');
  }, 600_000);

  test.each([
    ['while its lease runs', () => stream, 1, /lives/],
    ['that nobody knows', () => 'a/b', 1, /knows no stream/],
  ])('is not abandoned %s', async (_when, name, code, why) => {
    expect(await kmsCommand(kms, 'audit', 'abandon', name(), '--reason', 'x')).toMatchObject({ code, stderr: expect.stringMatching(why) });
  });

  test('needs a reason', async () => {
    expect((await kmsCommand(kms, 'audit', 'abandon', stream)).code).toBe(2);
    expect((await kmsCommand(kms, 'audit', 'abandon', stream, '--reason', ' ')).code).toBe(2);
  });

  test('fails verification until it is abandoned; what it owed is recorded', async () => {
    expect(await afterLease('audit', 'verify')).toMatchObject({ code: 6, stdout: expect.stringMatching(/never closed/) });
    const { code, stdout } = await afterLease('audit', 'abandon', stream, '--reason', 'burnt down', '--output', 'json');
    expect(code).toBe(0);
    const records = auditRecords(kms);
    expect(records.filter(({ event }) => event === 'stream.abandon').map(({ detail }) => detail)).toEqual([
      expect.objectContaining({ stream, reason: 'burnt down' }),
    ]);
    const recovered = records.filter(({ event, detail }) => event === 'recovery' && detail?.['stream'] === stream);
    expect(recovered).toHaveLength(JSON.parse(stdout).recovered as number);
    for (const { detail } of recovered) expect(detail?.['note']).toMatch(/cannot be known/);
    expect(await verify()).toMatchObject({ code: 0, stdout: expect.stringContaining(`${stream}: abandoned`) });
    expect((await kmsCommand(kms, 'audit', 'abandon', stream, '--reason', 'again')).code).toBe(1);
  });

  test('of this host is left to the next server', async () => {
    await kms.start();
    for (const pid of [kms.pid, ...kms.serverProcesses()]) process.kill(pid, 'SIGKILL');
    await kms.stop();
    const { host, boot } = await newest();
    const refused = await kmsCommand(kms, 'audit', 'abandon', `${host}/${boot}`, '--reason', 'x');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/of this host/) });
  });
});
