/**
 * PostgreSQL stops under load on both hosts and comes back (security C-15's neighbour for several hosts): meanwhile
 * nobody is told anything wrong, and afterwards both hosts go on by themselves with what they had. Five seconds, or
 * what `seconds` of the chaos scenarios says.
 */

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  honestErrors, monotonicState, noAcknowledgedKeyLost, nothingUndecryptable, rightKey,
} from '../chaos/invariants.ts';
import { asking, Load } from '../chaos/load.ts';
import { type Entry, Recorder, succeeded } from '../chaos/recorder.ts';
import { seconds, short } from '../chaos/scenarios.ts';
import { auditRecords, unrecorded } from '../support/audit-records.ts';
import { runKms } from '../support/files.ts';
import { eventually } from '../support/wait.ts';
import { Pair, readiness, ready } from './pair.ts';

const CLIENTS = 4;
const WARM = 60;
/** The time of I-8: afterwards a host is ready by itself. */
const RECOVERY_MS = 10_000;

let pair: Pair;
/** The keys that last are known to both loads, so that each host uses what the other made. */
const recorder = new Recorder();
let loads: readonly Load[] = [];

beforeAll(async () => {
  pair = await Pair.make();
  await pair.start();
  loads = pair.hosts.map((host) => new Load(host, recorder, CLIENTS));
  await loads[0]!.prepare();
}, 300_000);

afterAll(async () => {
  await pair.postgres.startAgain().catch(() => undefined);
  await Promise.all(loads.map((load) => load.stop()));
  await pair.remove();
}, 120_000);

async function answered(more: number): Promise<void> {
  const before = recorder.entries.length;
  await eventually(`${more} successes`, () => recorder.entries.slice(before).filter(succeeded).length >= more, 120_000);
}

/** Everything that was not a success, but for connections that were not made. */
const told = ({ status, headers, json }: Entry): string =>
  `${status} ${String(json?.error_id)}${Number(headers['retry-after']) > 0 ? ' with a time to come back' : ''}`;

test('PostgreSQL stops under load on both hosts, and comes back', async () => {
  const processes = pair.hosts.map((host) => host.serverProcesses());
  for (const load of loads) load.start();
  await answered(WARM);

  const fromMs = performance.now();
  await pair.postgres.stop('fast');
  for (const host of pair.hosts) await eventually('not ready', async () => (await readiness(host)) === 503);
  const downMs = performance.now();
  await sleep(1000 * seconds());
  const toMs = performance.now();
  await pair.postgres.startAgain();
  const backMs = performance.now();
  await Promise.all(pair.hosts.map((host) => ready(host, RECOVERY_MS * host.slowness)));
  process.stderr.write(`both hosts ready ${((performance.now() - backMs) / 1000).toFixed(1)} s after PostgreSQL came back\n`);
  await answered(WARM);
  await Promise.all(loads.map((load) => load.stop()));

  const down = recorder.between(downMs, toMs);
  expect(down.length).toBeGreaterThan(0);
  expect([...new Set(down.filter((entry) => !succeeded(entry)).map(told))].sort()).toEqual(['503 store-unavailable with a time to come back']);
  // What only the store can say is not said.
  expect(down.filter((entry) => succeeded(entry)).map((entry) => recorder.describe(entry))).toEqual([]);
  const during = recorder.between(fromMs, backMs);
  expect(during.filter(({ status }) => status === 404 || status === 500).map((entry) => recorder.describe(entry))).toEqual([]);
  expect(pair.hosts.map((host) => host.serverProcesses())).toEqual(processes);
}, 300_000 + 2000 * seconds());

test('nothing was lost, mixed up or made a lie of, on either host', async () => {
  const state = monotonicState(recorder);
  expect(short([...honestErrors(recorder), ...rightKey(recorder), ...state])).toEqual([]);
  for (const host of pair.hosts) {
    expect(short(await asking(host, recorder, async (ask) => [
      ...(await noAcknowledgedKeyLost(recorder, ask)),
      ...(await nothingUndecryptable(recorder, ask)),
    ]))).toEqual([]);
  }
}, 300_000);

test('a host that starts while PostgreSQL is away is ready once it is back', async () => {
  expect(await pair.b.stop()).toBe(0);
  await pair.postgres.stop('fast');
  let isReady = false;
  const started = pair.b.start().then(() => { isReady = true; });
  started.catch(() => undefined);
  await sleep(1000 * seconds());
  expect(isReady).toBe(false);
  await pair.postgres.startAgain();
  await started;
  await Promise.all(pair.hosts.map((host) => ready(host)));
}, 240_000 + 2000 * seconds());

test('the audit of both hosts is whole, and no alarm was raised', async () => {
  for (const host of pair.hosts) {
    expect(await host.stop()).toBe(0);
    const { code, stdout, stderr } = await runKms(host.environment, 'audit', 'verify');
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: expect.stringContaining('the audit is intact'), stderr });
    expect(stdout).toContain('of a host that has no stream here');
  }
  const records = pair.hosts.flatMap(auditRecords);
  expect(records.filter(({ event }) => ['integrity.failure', 'reconcile.finding', 'audit.damaged'].includes(event))).toEqual([]);
  expect(unrecorded(records, recorder.entries).map((entry) => recorder.describe(entry as Entry))).toEqual([]);
}, 180_000);
