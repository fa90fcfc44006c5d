/**
 * kill -9 under load: of one server process, whose work another takes over, and of everything at once. What was
 * acknowledged stays true (security I-1, I-2, I-5; design §2, §7, §8).
 */

import { readFileSync, rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { auditRecords, processOf, unrecorded } from '../support/audit-records.ts';
import { runKms } from '../support/files.ts';
import { times } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { Caller, servedBy, type Step } from '../support/load.ts';
import { readStore } from '../support/store-rows.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { eventually, within } from '../support/wait.ts';
import type { Exchange } from '../support/wire.ts';

const CALLERS = 8;
const LIST: Step = { method: 'GET', path: '/servicekey' };
const PLAINTEXT = Buffer.from('what was sealed before the kill').toString('base64');

let kms: Installation;
let callers: Caller[];

async function makeAndStart(): Promise<void> {
  // Segments are as long on disk when they are opened, and all of them are read again and again.
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2', KMS_AUDIT_SEGMENT_BYTES: String(1024 * 1024) });
  await kms.start();
}

async function remove(): Promise<void> {
  // `stop` would wait for the end of a server that has ended.
  if (isAlive(kms.pid)) await kms.remove();
  else rmSync(kms.home, { recursive: true, force: true });
}

function call(): void {
  callers = Array.from({ length: CALLERS }, () => new Caller(kms));
}

async function hangUp(): Promise<void> {
  await Promise.all(callers.map((caller) => caller.end()));
}

const everyExchange = (): readonly Exchange[] => callers.flatMap(({ exchanges }) => exchanges);

/** Waits for work done, not for time passed: machines differ. */
function answers(more: number, status: number, from: readonly Caller[] = callers): Promise<void> {
  const count = (): number => from.flatMap(({ exchanges }) => exchanges).filter((exchange) => exchange.status === status).length;
  const before = count();
  return eventually(`${more} more answers with ${status}`, () => count() >= before + more);
}

const KINDS = [{ type: 'oct', size: 256 }, { type: 'EC', curve: 'P-256' }] as const;

function create(n: number): Step {
  return { method: 'POST', path: '/servicekey', body: { name: `key ${n}`, ...KINDS[n % KINDS.length] } };
}

interface Made {
  readonly path: string;
  readonly type: string;
}

function acknowledged(exchanges: readonly Exchange[]): readonly Made[] {
  return exchanges
    .filter(({ status, path, method }) => status === 201 && path === '/servicekey' && method === 'POST')
    .map(({ json }) => ({ path: `/servicekey/${json.id}`, type: json.type }));
}

/** @returns what does not work, with the answer */
async function broken(caller: Caller, made: readonly Made[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const { path, type } of made) {
    const { status, text } = type === 'oct'
      ? await caller.wire.post(`${path}/encrypt`, { plaintext: PLAINTEXT })
      : await caller.wire.post(`${path}/sign`, { message: PLAINTEXT, alg: 'ES256' });
    if (status !== 200) found.push(`${type} ${path}: ${status} ${text}`);
  }
  return found;
}

async function auditIsSound(): Promise<void> {
  // The stream of a killed process is adopted within seconds.
  await eventually('the audit is intact', async () => (await runKms(kms.environment, 'audit', 'verify')).code === 0);
}

describe('one server process killed', () => {
  // One installation for all: each test leaves a server of two processes, or one that is being completed.
  beforeAll(makeAndStart);
  afterAll(remove);
  beforeEach(async () => {
    await bothServe();
    call();
  });
  afterEach(hangUp);

  test('is replaced; others notice nothing; nothing acknowledged is lost', async () => {
    const made = await callers[0]!.ask(create(0));
    const path = `/servicekey/${made.json.id}`;
    const encrypt: Step = { method: 'POST', path: `${path}/encrypt`, body: { plaintext: PLAINTEXT } };
    const pids = await servedBy(kms, callers, LIST);
    expect(new Set(pids)).toEqual(new Set(kms.serverProcesses()));
    const victim = pids[0]!;
    const survivors = callers.filter((_, index) => pids[index] !== victim);
    expect(survivors.length).toBeGreaterThan(1);

    // Mostly cipher operations, as that is what is in flight at any time; every tenth makes a key.
    for (const caller of callers) caller.start((n) => (n % 10 === 9 ? create(n) : encrypt));
    await answers(200, 200);
    process.kill(victim, 'SIGKILL');
    const killedMs = performance.now();
    await answers(200, 200, survivors);
    // Two go on until the replacement serves; more would only keep it from its start.
    const patient = survivors.slice(0, 2);
    await Promise.all(callers.filter((caller) => !patient.includes(caller)).map((caller) => caller.stop()));
    await eventually('a replacement', () => kms.serverProcesses().length === 2 && !kms.serverProcesses().includes(victim));
    await bothServe();
    await answers(20, 200, patient);
    await Promise.all(callers.map((caller) => caller.stop()));

    expect(survivors.flatMap(({ exchanges }) => exchanges).filter(({ sentMs }) => sentMs > killedMs).length).toBeGreaterThan(20);
    // Clients of the other process.
    const failed = survivors.flatMap(({ exchanges }) => exchanges.filter(({ failure }) => failure !== undefined));
    expect(failed).toEqual([]);
    expect(survivors.flatMap(({ exchanges }) => exchanges.filter(({ status }) => status >= 500).map(({ text }) => text))).toEqual([]);
    // Clients of the killed one lose at most what was on its way, and never see half an answer.
    const lost = callers.filter((caller) => !survivors.includes(caller))
      .map(({ exchanges }) => exchanges.filter(({ failure }) => failure !== undefined));
    const inFlight = lost.map((own) => own.filter(({ failure }) => failure?.startsWith('connect:') !== true));
    for (const own of inFlight) expect(own.length).toBeLessThanOrEqual(1);
    expect(lost.flat().length).toBeGreaterThan(0);
    expect(everyExchange().filter(({ torn }) => torn > 0)).toEqual([]);
    expect(unrecorded(auditRecords(kms), everyExchange())).toEqual([]);

    // The replacement serves, too.
    const fresh = kms.serverProcesses().filter((pid) => !pids.includes(pid));
    expect(fresh.length).toBe(1);
    await eventually('the replacement serves', async () => {
      const caller = new Caller(kms);
      const answer = await caller.ask(encrypt);
      await caller.end();
      return answer.status === 200 && processOf(auditRecords(kms)).get(answer.id) === fresh[0];
    });
    const restart = auditRecords(kms).find(({ event }) => event === 'process.restart');
    expect(restart).toMatchObject({ result: 'success', detail: { reason: 'signal SIGKILL', process: victim } });
    await auditIsSound();

    const keys = acknowledged(everyExchange());
    expect(keys.length).toBeGreaterThan(10);
    const sealed = everyExchange().filter(({ path: asked, status }) => asked === encrypt.path && status === 200);
    expect((await kms.stop())).toBe(0);
    await kms.start();
    const caller = new Caller(kms);
    expect(await broken(caller, keys)).toEqual([]);
    for (const { json } of sealed.slice(-50)) {
      const { json: opened } = await caller.wire.post(`${path}/decrypt`, { ciphertext: json.ciphertext });
      expect(opened).toEqual({ plaintext: PLAINTEXT });
    }
    await caller.end();
    await auditIsSound();
  });

  // design §2: nobody is refused while a process is replaced.
  test('connections that come while it dies are served by the other', async () => {
    const [victim] = kms.serverProcesses();
    const late = Array.from({ length: 16 }, () => new Caller(kms));
    // The supervisor learns of the death and of the connections in one moment, as on a machine that is busy.
    process.kill(kms.pid, 'SIGSTOP');
    process.kill(victim!, 'SIGKILL');
    const asked = late.map((caller) => caller.ask(LIST));
    await eventually('the connections wait to be accepted', () => waiting(kms.port) >= late.length);
    process.kill(kms.pid, 'SIGCONT');
    const answered = await within('every one of them is answered', Promise.all(asked)).finally(() => {
      for (const caller of late) caller.wire.close();
    });
    expect(answered.map(({ failure, status }) => failure ?? status)).toEqual(late.map(() => 200));
  });

  test('every acknowledged key can be used through the processes that are there then', async () => {
    const pids = await servedBy(kms, callers, LIST);
    for (const caller of callers) caller.start(create);
    await answers(20, 201);
    process.kill(pids[0]!, 'SIGKILL');
    await answers(20, 201);
    await Promise.all(callers.map((caller) => caller.stop()));
    await eventually('a replacement', () => kms.serverProcesses().length === 2 && !kms.serverProcesses().includes(pids[0]!));
    const keys = acknowledged(everyExchange());
    expect(keys.length).toBeGreaterThanOrEqual(40);
    const both = await callerOfEach();
    const wrong = await Promise.all(both.map((caller) => broken(caller, keys)));
    await Promise.all(both.map((caller) => caller.end()));
    expect(wrong.flat()).toEqual([]);
  });
});

/** By what the processes tell of themselves, which is cheaper than asking each until both have answered. */
function bothServe(): Promise<void> {
  return eventually('both processes serve', async () => (await kms.metric('kms_ready')) === 2);
}

/** A fresh connection to each process, once all of them take connections. */
async function callerOfEach(): Promise<readonly Caller[]> {
  await bothServe();
  const found = new Map<number, Caller>();
  await eventually('both processes have answered', async () => {
    const caller = new Caller(kms);
    const [pid = 0] = await servedBy(kms, [caller], LIST);
    if (found.has(pid)) await caller.end();
    else found.set(pid, caller);
    return kms.serverProcesses().every((process) => found.has(process));
  });
  return [...found.values()];
}

describe('everything killed amid creations', () => {
  beforeEach(async () => {
    await makeAndStart();
    call();
  });
  afterEach(async () => {
    await hangUp();
    await remove();
  });

  test.each(Array.from({ length: times(1, 3) }, (_, index) => index + 1))('all acknowledged keys work, and no half-made key is visible (round %i)', async (round) => {
    for (const caller of callers) caller.start(create);
    await answers(10 * round, 201);
    const processes = [kms.pid, ...kms.serverProcesses()];
    expect(new Set(processes).size).toBe(3);
    for (const pid of processes) process.kill(pid, 'SIGKILL');
    await Promise.all(callers.map((caller) => caller.stop()));
    // On disk before anything is started again.
    expect(unrecorded(auditRecords(kms), everyExchange())).toEqual([]);
    const keys = acknowledged(everyExchange());
    expect(keys.length).toBeGreaterThanOrEqual(10);
    // Nobody closed or adopted these streams yet, as the store would say; what is on disk is sound.
    expect((await runKms(kms.environment, 'audit', 'verify', '--offline')).code).toBe(0);

    await kms.start();
    const caller = new Caller(kms);
    expect(await broken(caller, keys)).toEqual([]);
    const listed = await list(caller);
    expect(await broken(caller, listed)).toEqual([]);
    const paths = new Set(listed.map(({ path }) => path));
    expect(keys.filter(({ path }) => !paths.has(path))).toEqual([]);
    await caller.end();
    expect(await kms.stop()).toBe(0);
    await auditIsSound();
    tokenHoldsNoMoreThanTheStoreKnows();
  });

  test('the supervisor alone killed: its processes end by themselves, and all acknowledged keys work', async () => {
    for (const caller of callers) caller.start(create);
    await answers(20, 201);
    const processes = kms.serverProcesses();
    process.kill(kms.pid, 'SIGKILL');
    await eventually('its processes are gone', () => processes.every((pid) => !isAlive(pid)));
    await Promise.all(callers.map((caller) => caller.stop()));
    const exchanges = everyExchange();
    expect(exchanges.filter(({ torn }) => torn > 0)).toEqual([]);
    expect(unrecorded(auditRecords(kms), exchanges)).toEqual([]);
    const keys = acknowledged(exchanges);
    expect(keys.length).toBeGreaterThanOrEqual(10);

    await kms.start();
    const caller = new Caller(kms);
    expect(await broken(caller, keys)).toEqual([]);
    expect(await broken(caller, await list(caller))).toEqual([]);
    await caller.end();
    expect(await kms.stop()).toBe(0);
    await auditIsSound();
    tokenHoldsNoMoreThanTheStoreKnows();
  });
});

async function list(caller: Caller): Promise<readonly Made[]> {
  const keys: Made[] = [];
  for (let token: string | undefined = ''; token !== undefined;) {
    const { status, json } = await caller.ask({ method: 'GET', path: `/servicekey?state=all&continuation-token=${encodeURIComponent(token)}` });
    expect(status).toBe(200);
    for (const { id, type } of json.objects_list) keys.push({ path: `/servicekey/${id}`, type });
    token = json.is_truncated === true ? (json.continuation_token as string) : undefined;
  }
  return keys;
}

/** Established connections in the kernel's queue of a listening port on IPv4: its receive queue. */
function waiting(port: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'latin1').split('\n').map((line) => line.trim().split(/\s+/));
  const LISTEN = '0A';
  const [, queues = '0:0'] = lines.filter((fields) => fields[1] === local && fields[3] === LISTEN).map((fields) => [fields[1], fields[4]])[0] ?? [];
  return Number.parseInt(queues.split(':')[1] ?? '0', 16);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Each object of ours belongs to a key, or to a creation that was announced and never acknowledged (S-20). */
function tokenHoldsNoMoreThanTheStoreKnows(): void {
  const store = readStore(kms.home);
  const announced = new Set(store.intents.flatMap(({ objectIds }) => objectIds));
  const known = new Set(store.objects.map(({ objectId }) => objectId));
  const onToken = TokenViewer.look(kms.home, (viewer) =>
    viewer.login(kms.home).objects().filter(({ label }) => !label.startsWith('kms-internal:')).map(({ id }) => id));
  expect(onToken.length).toBeGreaterThan(0);
  expect(onToken.filter((id) => !known.has(id) && !announced.has(id))).toEqual([]);
  expect([...known].filter((id) => !onToken.includes(id))).toEqual([]);
}
