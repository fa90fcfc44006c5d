/**
 * A key ends on host A while it is used on host B without a pause: nothing that is asked of B after A's
 * acknowledgement succeeds, whatever happens to the connection on which B hears of changes, or to B itself. All
 * times are of the one monotonic clock of this process.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Caller, type Step } from '../support/load.ts';
import { eventually } from '../support/wait.ts';
import { type Exchange, Wire } from '../support/wire.ts';
import { Pair } from './pair.ts';

const TEXT = Buffer.from('asked of the other host').toString('base64');
const STALE_MAX_MS = 1000;
/** Answers of each caller that must be seen before the key ends, and after. */
const SEEN = 4;
/** Two keys each. */
const ROUNDS = 5;
const SHORT_ROUNDS = 2;

let pair: Pair;
let admin: Wire;

beforeAll(async () => {
  pair = await Pair.make();
  await pair.start();
  admin = new Wire(pair.a);
}, 300_000);

afterAll(async () => {
  admin.close();
  await pair.remove();
}, 120_000);

interface Used {
  readonly path: string;
  readonly steps: readonly Step[];
}

async function made(type: 'oct' | 'EC'): Promise<Used> {
  const shape = type === 'oct' ? { size: 256 } : { curve: 'P-256' };
  const created = await admin.post('/servicekey', { name: 'ends', type, ...shape });
  expect([created.status, created.text]).toEqual([201, created.text]);
  const path = `/servicekey/${created.json.id}`;
  if (type === 'EC') return { path, steps: [{ method: 'POST', path: `${path}/sign`, body: { message: TEXT, alg: 'ES256' } }] };
  const { json: { ciphertext } } = await admin.post(`${path}/encrypt`, { plaintext: TEXT });
  return {
    path,
    steps: [
      { method: 'POST', path: `${path}/encrypt`, body: { plaintext: TEXT } },
      { method: 'POST', path: `${path}/decrypt`, body: { ciphertext } },
    ],
  };
}

const succeeded = ({ status }: Exchange): boolean => status >= 200 && status < 300;
const brief = ({ path, status, text, sentMs }: Exchange, endedMs: number): string =>
  `${path} sent ${(sentMs - endedMs).toFixed(1)} ms after the acknowledgement: ${status} ${succeeded({ status } as Exchange) ? '' : text}`;

/** @param end of a key, asked of A @returns when its acknowledgement was here */
type End = (key: Used) => Promise<number>;

const deactivated: End = async ({ path }) => {
  const { status, text } = await asked('POST', `${path}/deactivate`, { reason: 'superseded' });
  expect([status, text]).toEqual([204, text]);
  return performance.now();
};

/** An active key cannot be deleted; after this acknowledgement B may not even say any more that it is deactivated. */
const deleted: End = async (key) => {
  await deactivated(key);
  const { status, text } = await asked('DELETE', key.path);
  expect([status, text]).toEqual([204, text]);
  return performance.now();
};

async function asked(method: string, path: string, body?: object): Promise<Exchange> {
  const wire = new Wire(pair.a);
  try {
    return await wire.call(method, path, body);
  } finally {
    wire.close();
  }
}

/** Uses both keys on B, has A end them, and looks at what B said after each acknowledgement. */
async function round(end: End, refusal: number, rightBefore: () => Promise<unknown> = async () => undefined): Promise<void> {
  const keys = [await made('oct'), await made('EC')];
  const callers = keys.flatMap((key) => key.steps.map((step) => ({ key, step, caller: new Caller(pair.b) })));
  try {
    for (const { caller, step } of callers) caller.start(() => step);
    await eventually('the keys are used on B', () => callers.every(({ caller }) => caller.exchanges.filter(succeeded).length >= SEEN));
    await rightBefore();
    const ended = await Promise.all(keys.map(end));
    const endOf = (key: Used): number => ended[keys.indexOf(key)]!;
    const later = ({ caller, key }: (typeof callers)[number]): readonly Exchange[] => caller.exchanges.filter(({ sentMs }) => sentMs > endOf(key));
    await eventually('B says that the keys have ended', () => callers.every((one) =>
      later(one).filter(({ status }) => status === refusal).length >= SEEN));
    for (const one of callers) {
      const wrong = later(one).filter(({ status }) => status !== refusal && status !== 503);
      expect(wrong.map((exchange) => brief(exchange, endOf(one.key)))).toEqual([]);
    }
  } finally {
    await Promise.all(callers.map(({ caller }) => caller.end()));
  }
}

describe('a key that ends on A and is used on B', () => {
  const inLoop: { cutting: boolean; running: Promise<number> } = { cutting: false, running: Promise.resolve(0) };

  afterEach(async () => {
    inLoop.cutting = false;
    await inLoop.running;
  });

  test.each(Array.from({ length: ROUNDS }, (_, index) => index + 1))('deactivated, round %i', () => round(deactivated, 400));

  test.each(Array.from({ length: SHORT_ROUNDS }, (_, index) => index + 1))('deleted, round %i', () => round(deleted, 404));

  test('B loses the connection on which it listens right before', async () => {
    for (let n = 0; n < SHORT_ROUNDS; n += 1) {
      await round(deactivated, 400, async () => {
        await eventually('a connection that listens was cut', async () => (await pair.cutListeners(pair.b)) > 0);
      });
    }
  }, 240_000);

  test('B loses it again and again', async () => {
    inLoop.cutting = true;
    inLoop.running = cutForEver(() => inLoop.cutting);
    await round(deactivated, 400);
    await round(deleted, 404);
    inLoop.cutting = false;
    expect(await inLoop.running).toBeGreaterThan(1);
  }, 240_000);

  test('B’s process stands still meanwhile: A waits until B can know no more, and B serves nothing when it goes on', async () => {
    const [pid] = pair.b.serverProcesses();
    const key = await made('EC');
    const [step] = key.steps;
    const wires = Array.from({ length: 6 }, () => new Wire(pair.b));
    const ask = (wire: Wire): Promise<Exchange> => wire.call(step!.method, step!.path, step!.body);
    try {
      for (const wire of wires) expect((await ask(wire)).status).toBe(200);
      process.kill(pid!, 'SIGSTOP');
      const sentMs = performance.now();
      const endedMs = await deactivated(key);
      expect(endedMs - sentMs).toBeGreaterThanOrEqual(STALE_MAX_MS);
      const waiting = wires.map(ask);
      await sleep(200);
      process.kill(pid!, 'SIGCONT');
      for (const exchange of await Promise.all(waiting)) expect([400, 503]).toContain(exchange.status);
      await eventually('B says that the key has ended', async () => (await ask(wires[0]!)).status === 400);
    } finally {
      process.kill(pid!, 'SIGCONT');
      for (const wire of wires) wire.close();
    }
    expect(pair.b.serverProcesses()).toEqual([pid]);
  });
});

async function cutForEver(goOn: () => boolean): Promise<number> {
  let cut = 0;
  while (goOn()) {
    cut += await pair.cutListeners(pair.b);
    await sleep(50);
  }
  return cut;
}
