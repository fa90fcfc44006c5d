/** SIGTERM under load: what was asked is answered whole, then everything is gone (design §2, runtime-notes §5). */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { auditRecords, unrecorded } from '../support/audit-records.ts';
import { type Client, Installation } from '../support/installation.ts';
import { Caller, type Step } from '../support/load.ts';
import { readStore } from '../support/store-rows.ts';
import { eventually } from '../support/wait.ts';
import type { Exchange } from '../support/wire.ts';

const CALLERS = 12;

let kms: Installation;
let stranger: Client;
let callers: readonly Caller[];
let encrypt: Step;
let sign: Step;

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
  await kms.start();
  const caller = new Caller(kms);
  const create = async (body: object): Promise<string> => {
    const { status, json } = await caller.ask({ method: 'POST', path: '/servicekey', body });
    expect(status).toBe(201);
    return `/servicekey/${json.id}`;
  };
  const [cipher, signing] = [await create({ name: 'c', type: 'oct', size: 256 }), await create({ name: 's', type: 'RSA', size: 2048 })];
  encrypt = { method: 'POST', path: `${cipher}/encrypt`, body: { plaintext: 'aGVsbG8=' } };
  sign = { method: 'POST', path: `${signing}/sign`, body: { message: 'aGVsbG8=', alg: 'RS256' } };
  await caller.end();
});

afterAll(() => kms.remove());

beforeEach(async () => {
  // Most tests stop it.
  if (!isAlive(kms.pid)) await kms.start();
  stranger = kms.client(null);
  callers = Array.from({ length: CALLERS }, () => new Caller(kms));
});

afterEach(async () => {
  await stranger.close();
  await Promise.all(callers.map((caller) => caller.end()));
});

const exchanges = (): readonly Exchange[] => callers.flatMap((caller) => caller.exchanges);

async function auditIsSound(): Promise<void> {
  expect((await kms.command('audit', 'verify')).stdout).toContain('the audit is intact');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What `/readyz` says: its status, `process` check, or that nobody listens any more. */
async function readiness(): Promise<string> {
  try {
    const { status, json } = await stranger.get(`https://localhost:${kms.publicPort}/readyz`);
    return status === 200 ? 'ready' : `${status} ${json.checks.process}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'closed';
  }
}

test('under load everybody gets a whole answer or none, and the service ends with 0', async () => {
  for (const [index, caller] of callers.entries()) caller.start((n) => ((n + index) % 4 === 0 ? sign : encrypt));
  await eventually('500 answers', () => exchanges().length > 500);
  expect(await readiness()).toBe('ready');
  const pids = [kms.pid, ...kms.serverProcesses()];
  expect(pids.length).toBe(3);

  const said: string[] = [];
  const stopMs = performance.now();
  const ended = kms.stop();
  await eventually('readyz says that it drains, or nobody listens', async () => {
    said.push(await readiness());
    return said.at(-1) !== 'ready';
  });
  expect(said.at(-1)).toMatch(/^503 draining$|^ECONN|^UND_ERR|^closed$/);
  expect(await ended).toBe(0);
  await Promise.all(callers.map((caller) => caller.stop()));

  const before = exchanges().filter(({ sentMs }) => sentMs < stopMs);
  expect(before.length).toBeGreaterThan(500);
  // Nobody was refused before the signal, and what was on its way then was answered.
  expect(before.filter(({ failure }) => failure !== undefined)).toEqual([]);
  expect(before.filter(({ status }) => status !== 200).map(({ text }) => text)).toEqual([]);
  // Answers are whole or not there at all.
  expect(exchanges().filter(({ torn }) => torn > 0)).toEqual([]);
  expect(exchanges().filter(({ status }) => status !== 0 && status !== 200).map(({ text }) => text)).toEqual([]);
  // Clients were told to leave, and found nobody when they came back.
  const failures = new Set(exchanges().map(({ failure }) => failure).filter((failure) => failure !== undefined));
  expect([...failures]).toContain('connect: ECONNREFUSED');

  expect(pids.filter(isAlive)).toEqual([]);
  expect(unrecorded(auditRecords(kms), exchanges())).toEqual([]);
  await auditIsSound();
  const records = auditRecords(kms);
  const streams = records.filter(({ event, detail }) => event === 'process.start' && pids.includes(Number(detail?.['pid']))).map(({ boot }) => boot);
  const stops = records.filter(({ event, boot }) => event === 'process.stop' && streams.includes(boot));
  expect(stops.map(({ result }) => result)).toEqual(['success', 'success']);
});

test('a key generation that is running is finished and answered', async () => {
  const running = callers.slice(0, 4).map((caller) =>
    caller.ask({ method: 'POST', path: '/servicekey', body: { name: 'slow', type: 'RSA', size: 2048 } }));
  await eventually('the first is being made', () => readStore(kms.home).intents.length > 0);
  expect(await kms.stop()).toBe(0);
  const made = await Promise.all(running);
  const answers = made.map(({ status, failure, text }) => failure ?? (status === 201 ? 'made' : `${status} ${text}`));
  expect(answers).toEqual(['made', 'made', 'made', 'made']);
  expect(unrecorded(auditRecords(kms), made)).toEqual([]);
  await auditIsSound();

  await kms.start();
  for (const { json } of made) {
    const step = { ...sign, path: `/servicekey/${json.id}/sign` };
    expect(await callers[5]!.ask(step)).toMatchObject({ status: 200 });
  }
});

test('idle connections do not hold the end up for ever', async () => {
  for (const caller of callers) expect(await caller.ask(encrypt)).toMatchObject({ status: 200 });
  expect(await kms.stop()).toBe(0);
  await auditIsSound();
});

test('a connection that was just opened is answered, though the process drains before its first request', async () => {
  const socket = connect({ host: '127.0.0.1', port: kms.port, servername: 'localhost', ca: readFileSync(kms.admin.ca) });
  await once(socket, 'secureConnect');
  const ended = kms.stop();
  // Idle connections are closed after 200 ms here.
  await sleep(600);
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:.*\r\n)*Connection: close\r\n/i);
  expect(await ended).toBe(0);
});
