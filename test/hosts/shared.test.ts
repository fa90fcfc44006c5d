/** What two hosts share: counts of GCM encryptions, work that one of them does for all, and the latch after a wrong PIN. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { FaultShim } from '../fault/shim.ts';
import { auditRecords } from '../support/audit-records.ts';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { hostId, Pair, readiness, ready } from './pair.ts';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';
const PROFILE = 'hsm-config/softhsm-2.6.1.yaml';
const TEXT = Buffer.from('counted').toString('base64');
/** More than the first block of each host. */
const PER_HOST = 300;
const AT_ONCE = 12;

let pair: Pair;

beforeAll(async () => {
  // Work that is due all the time.
  pair = await Pair.make({ KMS_STORE_COMPARE_SECONDS: '1', KMS_STORE_ANCHOR_SECONDS: '1' });
  await pair.start();
}, 300_000);

afterAll(() => pair.remove(), 120_000);

async function bootsOf(host: Installation): Promise<readonly unknown[]> {
  const rows = await pair.rows(`select boot_id from process where host_id = $1 and state = 'open'`, [hostId(host)]);
  return rows.map(({ boot_id }) => boot_id);
}

async function duty(name: string): Promise<unknown> {
  const [row] = await pair.rows('select boot_id from duty where name = $1', [name]);
  return row?.['boot_id'];
}

test('no two encryptions of two hosts share an invocation, or an IV', async () => {
  const clients = pair.hosts.map((host) => host.client());
  const { json: { id } } = await clients[0]!.post('/servicekey', { name: 'counted', type: 'oct', size: 256 });
  const encrypt = async (client: Client, left: { count: number }, to: Answer[]): Promise<void> => {
    for (; left.count > 0;) {
      left.count -= 1;
      const answer = await client.post(`/servicekey/${id}/encrypt`, { plaintext: TEXT });
      to.push(answer);
      // On a machine that is busy a poll of the head may come too late.
      if (answer.status === 503) left.count += 1;
    }
  };
  const all: Answer[] = [];
  await Promise.all(clients.flatMap((client) => {
    const left = { count: PER_HOST };
    return Array.from({ length: AT_ONCE }, () => encrypt(client, left, all));
  }));
  await Promise.all(clients.map((client) => client.close()));
  expect(all.filter(({ status }) => status !== 200 && status !== 503).map(({ text }) => text)).toEqual([]);
  const answers = all.filter(({ status }) => status === 200);
  const ivs = answers.map(({ json }) => String(json.ciphertext).split('.')[2]);
  expect(ivs.every((iv) => Buffer.from(iv ?? '', 'base64url').length === 12)).toBe(true);
  expect(new Set(ivs).size).toBe(2 * PER_HOST);
  const reserved = async (): Promise<number> => {
    const rows = await pair.rows(`
      select sum(c.reserved) as reserved from invocation_counter c join key_object o on o.object_id = c.object_id
      where o.key_id = $1 and o.family = 'gcm'`, [id]);
    return Number(rows[0]?.['reserved']);
  };
  expect(await reserved()).toBeGreaterThanOrEqual(2 * PER_HOST);
  // What was not used is given back; a request that was refused may have used what it took.
  for (const host of pair.hosts) expect(await host.stop()).toBe(0);
  expect(await reserved()).toBeGreaterThanOrEqual(2 * PER_HOST);
  expect(await reserved()).toBeLessThanOrEqual(all.length);
  await pair.start();
}, 180_000);

test('one host compares store and token for both, and the other one when it leaves', async () => {
  await eventually('somebody compares', async () => {
    const owner = await duty('compare');
    return [...(await bootsOf(pair.a)), ...(await bootsOf(pair.b))].includes(owner);
  });
  const first = await duty('compare');
  const [owner, other] = (await bootsOf(pair.a)).includes(first) ? [pair.a, pair.b] : [pair.b, pair.a];
  // For as long as several comparisons are due on both hosts.
  for (const end = performance.now() + 4000; performance.now() < end;) {
    expect(await duty('compare')).toBe(first);
    await sleep(100);
  }
  expect(await owner.stop()).toBe(0);
  await eventually('the other one compares', async () => (await bootsOf(other)).includes(await duty('compare')));
  await owner.start();
}, 180_000);

test('anchors are written by both, and never into each other’s work', async () => {
  const admin = pair.a.client();
  const writers = new Set<unknown>();
  const hosts = await Promise.all(pair.hosts.map(bootsOf));
  await eventually('both hosts have had the duty', async () => {
    // Something new to be anchored.
    await admin.post('/servicekey', { name: 'anchored', type: 'EC', curve: 'P-256' });
    writers.add(await duty('anchor'));
    return hosts.every((boots) => boots.some((boot) => writers.has(boot)));
  });
  await admin.close();
  for (const host of pair.hosts) {
    expect(host.output).not.toContain('anchor not written');
    expect(auditRecords(host).filter(({ event }) => event === 'integrity.failure' || event === 'reconcile.finding')).toEqual([]);
  }
}, 180_000);

describe('a wrong PIN on host B', () => {
  const directory = mkdtempSync(join(tmpdir(), 'kms-pin-'));
  const pinFile = join(directory, 'b.pin');
  const shims = ['a', 'b'].map((name) => new FaultShim(join(directory, name), MODULE));
  const logins = (): readonly number[] => shims.map((shim) => shim.counts().get('C_Login')?.calls ?? 0);

  afterAll(() => { rmSync(directory, { recursive: true, force: true }); });

  test('is tried once; meanwhile host A does not log in either, and both go on when B’s PIN is right', async () => {
    const right = readFileSync(join(pair.a.home, 'softhsm', 'user.pin'), 'utf8');
    const [profileA, profileB] = shims.map((shim) => shim.profile(PROFILE));
    for (const host of pair.hosts) expect(await host.stop()).toBe(0);
    await pair.a.start({ KMS_HSM_PROFILE: profileA });
    const [before] = logins();
    expect(before).toBeGreaterThan(0);

    writeFileSync(pinFile, 'x'.repeat(right.length), { mode: 0o600 });
    const started = pair.b.start({ KMS_HSM_PROFILE: profileB, KMS_HSM_PIN_FILE: pinFile });
    started.catch(() => undefined);
    await eventually('the PIN of B was refused', async () => (await pair.rows('select host_id from pin_latch')).length > 0);
    expect(await readiness(pair.a)).toBe(200);

    const [victim] = pair.a.serverProcesses();
    process.kill(victim!, 'SIGKILL');
    await eventually('A’s successor waits', async () => {
      const client = pair.a.client(null);
      const answer = await client.get(`https://localhost:${pair.a.publicPort}/readyz`).catch(() => undefined);
      await client.close();
      return String(answer?.json?.checks?.token).includes('pin-latched');
    });
    for (const end = performance.now() + 4000; performance.now() < end;) {
      expect(await readiness(pair.a)).toBe(503);
      expect(await readiness(pair.b)).toBe(503);
      await sleep(200);
    }
    expect(logins()).toEqual([before, 1]);

    writeFileSync(pinFile, right);
    await started;
    await ready(pair.a);
    expect(logins()[1]).toBe(2);
    expect(await pair.rows('select host_id from pin_latch')).toEqual([]);
    for (const { output } of pair.hosts) {
      expect(output).not.toContain(right);
      expect(output).not.toContain('x'.repeat(right.length));
    }
  }, 240_000);
});
