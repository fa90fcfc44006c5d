/**
 * Many callers at once: every result belongs to its own key and its own data. Once more while garbage is collected all
 * the time, which shows buffers that are used after they were given back (performance §1.1).
 */

import { createPublicKey, type JsonWebKey, verify } from 'node:crypto';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { times } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { Caller } from '../support/load.ts';
import { eventually } from '../support/wait.ts';

const CALLERS = 32;

interface TestKey {
  readonly path: string;
  readonly alg: string;
  readonly jwk: JsonWebKey;
}

const SIGNING = [
  { spec: { type: 'EC', curve: 'P-256' }, alg: 'ES256', hash: 'sha256' },
  { spec: { type: 'EC', curve: 'P-256' }, alg: 'ES256', hash: 'sha256' },
  { spec: { type: 'EC', curve: 'P-521' }, alg: 'ES512', hash: 'sha512' },
  { spec: { type: 'RSA', size: 2048 }, alg: 'RS256', hash: 'sha256' },
  { spec: { type: 'RSA', size: 2048 }, alg: 'RS256', hash: 'sha256' },
] as const;
const CIPHERS = [128, 192, 256, 256] as const;
const OPERATIONS = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];

/** Questions of one caller in one test. */
let rounds = times(3, 6);
let kms: Installation;
let callers: readonly Caller[];
let signing: readonly TestKey[];
let ciphers: readonly string[];

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
  await kms.start();
  callers = Array.from({ length: CALLERS }, () => new Caller(kms));
  // All through one connection: what several processes see of each other's keys is another test.
  const create = async (body: object): Promise<{ path: string; jwk: JsonWebKey }> => {
    const made = await callers[0]!.ask({ method: 'POST', path: '/servicekey?format=jwk', body });
    expect(made.status).toBe(201);
    return { path: `/servicekey/${made.json.id}`, jwk: made.json.keys?.[0] };
  };
  const made: TestKey[] = [];
  for (const { spec, alg } of SIGNING) made.push({ alg, ...(await create({ name: alg, ...spec })) });
  signing = made;
  const paths: string[] = [];
  for (const size of CIPHERS) paths.push((await create({ name: 'oct', type: 'oct', size, operations: OPERATIONS })).path);
  ciphers = paths;
});

afterAll(async () => {
  await Promise.all(callers.map((caller) => caller.end()));
  await kms.remove();
});

/** Something else for every question, of many lengths. */
function text(caller: number, round: number, key: number): Buffer {
  const own = `caller ${caller} round ${round} key ${key} `;
  return Buffer.from(own.repeat(1 + ((caller * 7 + round * 13) % 40)), 'latin1');
}

async function ask(caller: Caller, path: string, body: object): Promise<Record<string, string>> {
  const answer = await caller.ask({ method: 'POST', path, body });
  if (answer.status >= 300 || answer.status === 0) throw new Error(`${path}: ${answer.status} ${answer.text} ${answer.failure ?? ''}`);
  return answer.json as Record<string, string>;
}

/** @returns ciphertexts with what they must open to */
async function seal(caller: Caller, own: number): Promise<readonly { path: string; ciphertext: string; plaintext: string }[]> {
  const sealed = [];
  for (let round = 0; round < rounds; round += 1) {
    const key = (own + round) % ciphers.length;
    const path = ciphers[key]!;
    const plaintext = text(own, round, key).toString('base64');
    sealed.push({ path, plaintext, ciphertext: (await ask(caller, `${path}/encrypt`, { plaintext }))['ciphertext']! });
  }
  return sealed;
}

async function everyCiphertextOpens(): Promise<void> {
  const sealed = (await Promise.all(callers.map((caller, own) => seal(caller, own)))).flat();
  expect(sealed.length).toBe(CALLERS * rounds);
  expect(new Set(sealed.map(({ ciphertext }) => ciphertext)).size).toBe(sealed.length);
  // Another caller opens each: the two need not be served by the same process.
  const wrong = await Promise.all(callers.map(async (caller, own) => {
    const mine = sealed.filter((_, index) => index % CALLERS === own);
    const found: string[] = [];
    for (const { path, ciphertext, plaintext } of mine) {
      const opened = await ask(caller, `${path}/decrypt`, { ciphertext });
      if (opened['plaintext'] !== plaintext) found.push(`${path} ${plaintext}`);
    }
    return found;
  }));
  expect(wrong.flat()).toEqual([]);
}

async function everyDataKeyOpens(): Promise<void> {
  const wrong = await Promise.all(callers.map(async (caller, own) => {
    const path = ciphers[own % ciphers.length]!;
    const found: string[] = [];
    const seen = new Set<string>();
    for (let round = 0; round < rounds; round += 1) {
      const made = await ask(caller, `${path}/datakey`, { size: 256 });
      const opened = await ask(caller, `${path}/datakey/decrypt`, { key: made['key']! });
      if (opened['plaintext'] !== made['plaintext'] || seen.has(made['plaintext']!)) found.push(`${path} round ${round}`);
      seen.add(made['plaintext']!);
    }
    return found;
  }));
  expect(wrong.flat()).toEqual([]);
}

function verifies(index: number, message: Buffer, signature: string): boolean {
  const { jwk, alg } = signing[index]!;
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  const options = alg.startsWith('ES') ? { key, dsaEncoding: 'ieee-p1363' as const } : { key };
  return verify(SIGNING[index]!.hash, message, options, Buffer.from(signature, 'base64'));
}

async function everySignatureVerifies(): Promise<void> {
  const signed = await Promise.all(callers.map(async (caller, own) => {
    const mine = [];
    for (let round = 0; round < rounds; round += 1) {
      const index = (own + round) % signing.length;
      const message = text(own, round, index);
      const { path, alg } = signing[index]!;
      const { signature } = await ask(caller, `${path}/sign`, { message: message.toString('base64'), alg });
      mine.push({ index, message, signature: signature! });
    }
    return mine;
  }));
  const all = signed.flat();
  expect(all.length).toBe(CALLERS * rounds);
  const wrong = all.filter(({ index, message, signature }) => !verifies(index, message, signature));
  expect(wrong).toEqual([]);
  // The twins 0 and 1 have one algorithm and different keys: a signature of one is none of the other.
  const [twin] = all.filter(({ index }) => index === 0);
  expect(verifies(1, twin!.message, twin!.signature)).toBe(false);
}

describe('32 callers', () => {
  test('every ciphertext opens under its own key to its own plaintext', everyCiphertextOpens);
  test('every data key opens to itself', everyDataKeyOpens);
  test('every signature verifies under its own key', everySignatureVerifies);
});

describe('32 callers while garbage is collected', () => {
  beforeAll(async () => {
    expect(await kms.stop()).toBe(0);
    for (const caller of callers) caller.wire.close();
    // Everything takes many times as long.
    rounds = times(1, 3);
    const pauseMs = String(times(100, 20));
    await kms.start({ GC_EVERY_MS: pauseMs, NODE_OPTIONS: `--expose-gc --require ${resolve('test/support/gc-often.cjs')}` });
  });

  test('it is collected in the event loop and the token threads of every server process', async () => {
    const threads = (pid: number): number =>
      new Set([...kms.output.matchAll(new RegExp(`collecting in process ${pid} thread (\\d+)`, 'g'))].map(([, id]) => id)).size;
    expect(kms.serverProcesses().length).toBe(2);
    await eventually('three threads of each collect', () => kms.serverProcesses().every((pid) => threads(pid) === 3));
  });

  test('every ciphertext opens under its own key to its own plaintext', everyCiphertextOpens);
  test('every data key opens to itself', everyDataKeyOpens);
  test('every signature verifies under its own key', everySignatureVerifies);
});
