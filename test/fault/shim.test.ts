/** What the fault shim promises, one by one, with PKCS#11 calls of child processes on a temporary SoftHSM token. */

import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { loadProfile } from '../../src/pkcs11/profile.ts';
import { eventually } from '../support/wait.ts';
import { type Count, FAULT_MODULE, FaultShim, NSS_FIPS_MODULE } from './shim.ts';
import { Child, PIN, SOFTHSM, TestToken } from './token.ts';

/** CKS_RW_PUBLIC_SESSION; the binding has no name for it. */
const RW_PUBLIC_SESSION = 2;

const token = new TestToken();
let shim: FaultShim;
let children: Child[] = [];
let directories = 0;

function start(module: string, extra: Readonly<Record<string, string>> = {}): Child {
  const child = new Child(module, { SOFTHSM2_CONF: token.configuration, ...extra });
  children.push(child);
  return child;
}

/** A child that uses the shim, logged in. */
async function ready(extra: Readonly<Record<string, string>> = {}): Promise<Child> {
  const child = start(FAULT_MODULE, { ...shim.environment(), ...extra });
  await child.run('start', PIN);
  return child;
}

/** New rules, in force in every process. */
async function rules(...lines: readonly string[]): Promise<void> {
  shim.set(lines);
  await delay(3);
}

function count(name: string): Count {
  return shim.counts().get(name) ?? { calls: 0, faults: 0 };
}

async function keyOf(child: Child, id: string): Promise<Buffer> {
  const [found] = await child.run('find', id);
  return found;
}

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

beforeAll(async () => {
  const child = start(SOFTHSM);
  await child.run('start', PIN);
  await child.run('createAes', 'a');
  await child.run('createAes', 'b');
  await child.run('createPair', 'r');
  await child.kill();
});

beforeEach(() => {
  directories++;
  shim = new FaultShim(join(token.directory, `shim-${directories}`), SOFTHSM);
});

afterEach(async () => {
  await Promise.all(children.map((child) => child.kill()));
  children = [];
});

afterAll(() => { token.remove(); });

describe('without rules', () => {
  test('5,000 mixed calls give the same results and error codes as without the shim', async () => {
    const outcome = async (child: Child) => {
      const [publicKey] = await child.run('find', 'r', ck.CKO_PUBLIC_KEY);
      const [privateKey] = await child.run('find', 'r', ck.CKO_PRIVATE_KEY);
      return child.run('mixed', 5000, { aes: await keyOf(child, 'a'), other: await keyOf(child, 'b'), publicKey, privateKey });
    };
    const bare = start(SOFTHSM);
    await bare.run('start', PIN);
    // One after the other: while a process logs in, SoftHSM's C_GetTokenInfo can fail in another (CKR_GENERAL_ERROR).
    const without = await outcome(bare);
    expect(await outcome(await ready())).toEqual(without);
    // 19 kinds of call, of which 6 fail, and each always answers the same.
    const codes = Object.keys(without.codes).map((key) => Number(key.split(': ')[1]));
    expect(codes).toHaveLength(19);
    expect(codes.filter((code) => code !== 0)).toHaveLength(6);
    expect(count('C_Sign')).toEqual({ calls: expect.any(Number), faults: 0 });
    expect([...shim.counts().values()].reduce((sum, { calls }) => sum + calls, 0)).toBeGreaterThan(5000);
    expect([...shim.counts().values()].every(({ faults }) => faults === 0)).toBe(true);
  });

  test('threads with OS locking', async () => {
    const child = await ready();
    const key = await keyOf(child, 'a');
    const results = await child.run('threads', 4, 150, key, await child.run('encrypt', key, 'threads'));
    expect(results).toEqual(Array.from({ length: 4 }, () => ({ good: 150, wrong: 0, codes: {} })));
  });

  test('answers for a module that cannot be loaded', async () => {
    const child = start(FAULT_MODULE, { KMS_FAULT_MODULE: join(token.directory, 'none.so') });
    expect(await child.code('start')).toBe(ck.CKR_GENERAL_ERROR);
  });
});

describe('which calls', () => {
  const random = async (child: Child, calls: number) => (await child.run('randoms', calls)) as number[];

  test('rv: every call, without forwarding', async () => {
    const child = await ready();
    const before = await child.run('find', 'unforwarded');
    await rules('C_GenerateKey rv=0x31');
    expect(await child.code('createAes', 'unforwarded')).toBe(0x31);
    await rules();
    expect(await child.run('find', 'unforwarded')).toEqual(before);
    expect(count('C_GenerateKey')).toEqual({ calls: 1, faults: 1 });
  });

  test('after=forward: the call has happened', async () => {
    const child = await ready();
    await rules('C_GenerateKey rv=0x31 after=forward');
    expect(await child.code('createAes', 'forwarded')).toBe(0x31);
    const key = await keyOf(child, 'forwarded');
    expect(await child.code('destroy', key)).toBe(0);
  });

  test.each([
    ['C_GenerateRandom nth=3 rv=0x30', [0, 0, 0x30, 0, 0, 0]],
    ['C_GenerateRandom from=5 rv=0x30', [0, 0, 0, 0, 0x30, 0x30]],
    ['C_GenerateRandom to=2 rv=0x30', [0x30, 0x30, 0, 0, 0, 0]],
    ['C_GenerateRandom from=2 to=3 rv=0x30', [0, 0x30, 0x30, 0, 0, 0]],
    ['C_GenerateRandom from=2 count=3 rv=0x30', [0, 0x30, 0x30, 0x30, 0, 0]],
    ['C_Gen* rv=0x30', [0x30, 0x30, 0x30, 0x30, 0x30, 0x30]],
    ['C_Sign* rv=0x30', [0, 0, 0, 0, 0, 0]],
    ['* p=0 rv=0x30', [0, 0, 0, 0, 0, 0]],
    ['* rv=48', [0x30, 0x30, 0x30, 0x30, 0x30, 0x30]],
  ])('%s', async (rule, expected) => {
    const child = await ready();
    await rules('# a comment', '', rule);
    expect(await random(child, 6)).toEqual(expected);
  });

  test('the first rule that matches and is due wins; all count every call', async () => {
    const child = await ready();
    await rules('C_GenerateRandom nth=2 rv=0x31', 'C_GenerateRandom nth=3 rv=0x32', 'C_Generate* from=3 rv=0x30');
    expect(await random(child, 5)).toEqual([0, 0x31, 0x32, 0x30, 0x30]);
    await rules('C_GenerateRandom to=2 pass=1', '* rv=0x30');
    expect(await random(child, 4)).toEqual([0, 0, 0x30, 0x30]);
  });

  test('counting begins anew with every change', async () => {
    const child = await ready();
    for (let round = 0; round < 3; round++) {
      await rules('C_GenerateRandom nth=1 rv=0x30');
      expect(await random(child, 2)).toEqual([0x30, 0]);
    }
  });

  test('p: about that part of the calls', async () => {
    const child = await ready();
    await rules('C_GenerateRandom p=0.25 rv=0x30');
    const failed = (await random(child, 4000)).filter((code) => code === 0x30).length;
    // Five standard deviations (27 each) around 1,000.
    expect(failed).toBeGreaterThan(863);
    expect(failed).toBeLessThan(1137);
    expect(count('C_GenerateRandom')).toEqual({ calls: 4000, faults: failed });
  });

  test('counted in each process by itself', async () => {
    const one = await ready();
    const two = await ready();
    await rules('C_GenerateRandom nth=2 rv=0x30');
    expect(await random(one, 3)).toEqual([0, 0x30, 0]);
    expect(await random(two, 3)).toEqual([0, 0x30, 0]);
    expect(count('C_GenerateRandom')).toEqual({ calls: 6, faults: 2 });
  });

  test('a change is seen by every call that begins 2 ms later', async () => {
    const child = await ready();
    for (let round = 0; round < 20; round++) {
      await rules();
      const last = child.run('untilFailure');
      await delay(5);
      shim.set(['C_GenerateRandom rv=0x30']);
      const changed = process.hrtime.bigint();
      expect(Number((await last) - changed) / 1e6).toBeLessThan(2.5);
    }
  });
});

describe('time', () => {
  test('delay', async () => {
    const child = await ready();
    // Long enough that a call of a busy machine is not taken for a delayed one.
    await rules('C_GenerateRandom nth=2 delay=1000000');
    expect((await child.outcome('random', 8)).milliseconds).toBeLessThan(1000);
    expect((await child.outcome('random', 8)).milliseconds).toBeGreaterThanOrEqual(1000);
    expect((await child.outcome('random', 8)).milliseconds).toBeLessThan(1000);
  });

  test('hang: until `release`, while other threads go on', async () => {
    const child = await ready();
    const key = await keyOf(child, 'a');
    const expected = await child.run('encrypt', key, 'threads');
    const before = count('C_Encrypt').calls;
    await rules('C_WrapKey nth=4 hang=1');
    let answered = false;
    const threads = child.run('threads', 2, 30, key, expected).finally(() => { answered = true; });
    // The other thread does all of its 30 rounds; the one that hangs has done fewer than 4.
    await eventually('one thread does its rounds', () => count('C_Encrypt').calls >= before + 30);
    await rules();
    // A call that hung no longer would have ended by now.
    await delay(200);
    expect(answered).toBe(false);
    expect(count('C_Encrypt').calls).toBeLessThan(before + 34);
    expect(count('C_WrapKey').faults).toBe(1);
    await rules('release');
    expect(await threads).toEqual([{ good: 30, wrong: 0, codes: {} }, { good: 30, wrong: 0, codes: {} }]);
  });

  test('hang ends in the return value of the rule', async () => {
    const child = await ready();
    await rules('C_GenerateRandom hang=1 rv=0x30');
    const code = child.code('random', 8);
    await eventually('the call hangs', () => count('C_GenerateRandom').faults === 1);
    await rules('release', 'C_GenerateRandom nth=1 rv=0x31');
    expect(await code).toBe(0x30);
    expect(await child.code('random', 8)).toBe(0x31);
  });

  test('latency, of what uses keys', async () => {
    const extra = { KMS_FAULT_LATENCY_US: '500000' };
    const one = async (child: Child) => (await child.outcome('encrypt', await keyOf(child, 'a'), 'text')).milliseconds;
    const plain = await ready(extra);
    expect(await one(plain)).toBeGreaterThanOrEqual(500);
    expect((await plain.outcome('random', 8)).milliseconds).toBeLessThan(500);
    expect(await one(await ready({ ...extra, KMS_FAULT_LATENCY_INIT: '1' }))).toBeGreaterThanOrEqual(1000);
    expect(count('C_Encrypt').faults).toBe(0);
  });
});

describe('crash', () => {
  test('the process dies by SIGSEGV', async () => {
    const child = await ready();
    await rules('C_GenerateRandom nth=2 crash=1');
    expect(await child.code('random', 8)).toBe(0);
    await expect(child.run('random', 8)).rejects.toThrow('SIGSEGV');
    expect(await child.ended).toBe('SIGSEGV');
    expect(count('C_GenerateRandom')).toEqual({ calls: 2, faults: 1 });
  });

  test('counts survive SIGKILL and are summed over processes', async () => {
    for (let round = 1; round <= 3; round++) {
      const child = await ready();
      await child.run('randoms', 10);
      expect(await child.kill()).toBe('SIGKILL');
      expect(count('C_GenerateRandom')).toEqual({ calls: 10 * round, faults: 0 });
    }
    expect(count('C_Login').calls).toBe(3);
    expect(shim.counts().has('C_Sign')).toBe(false);
  });
});

describe('corrupt', () => {
  test.each(['flip', 'constant'])('%s: ciphertexts, plaintexts, signatures, wrapped keys', async (kind) => {
    const child = await ready();
    const [key, [privateKey]] = [await keyOf(child, 'a'), await child.run('find', 'r', ck.CKO_PRIVATE_KEY)];
    const wrong = (good: Uint8Array) =>
      kind === 'constant' ? good.map(() => 0x42) : good.map((byte, at) => (at === 0 ? byte ^ 1 : byte));
    const ciphertext = await child.run('encrypt', key, 'text');
    const results = async () => [
      hex(await child.run('encrypt', key, 'text')),
      hex(Buffer.from(await child.run('decrypt', key, ciphertext))),
      hex(await child.run('sign', privateKey, 'text')),
      hex(await child.run('wrap', key, key)),
    ];
    const good = await results();
    await rules(`* corrupt=${kind}`);
    expect(await results()).toEqual(good.map((one) => hex(wrong(Buffer.from(one, 'hex')))));
    await rules(`C_Encrypt nth=2 corrupt=${kind}`);
    expect((await results())[0]).toBe(good[0]);
    expect((await results())[0]).not.toBe(good[0]);
    expect(count('C_Sign')).toEqual({ calls: 4, faults: 1 });
  });

  test('random bytes', async () => {
    const child = await ready();
    await rules('C_GenerateRandom corrupt=constant');
    expect(hex(await child.run('random', 16))).toBe('42'.repeat(16));
    await rules();
    expect(hex(await child.run('random', 16))).not.toBe('42'.repeat(16));
  });
});

describe('sessions and login', () => {
  test('session-loss: older sessions are gone for good, new ones work, the login lasts', async () => {
    const child = start(FAULT_MODULE, shim.environment());
    const slot = await child.run('start', PIN);
    const key = await keyOf(child, 'a');
    const expected = hex(await child.run('encrypt', key, 'text'));
    await rules('* session-loss=1');
    expect(await child.code('encrypt', key, 'text')).toBe(ck.CKR_SESSION_HANDLE_INVALID);
    expect(await child.code('sessionInfo')).toBe(ck.CKR_SESSION_HANDLE_INVALID);
    expect(await child.code('mechanisms')).toBe(0);
    await rules();
    expect(await child.code('sessionInfo')).toBe(ck.CKR_SESSION_HANDLE_INVALID);
    await rules('* session-loss=1');
    await child.run('open', slot);
    expect(hex(await child.run('encrypt', key, 'text'))).toBe(expected);
  });

  test('session-loss with count: so many calls, then the others live on', async () => {
    const child = await ready();
    const lost = 'C_GenerateRandom session-loss=1 count=1';
    await rules(lost);
    expect(await child.run('randoms', 2)).toEqual([ck.CKR_SESSION_HANDLE_INVALID, ck.CKR_SESSION_HANDLE_INVALID]);
    const other = await ready();
    expect(await other.run('randoms', 2)).toEqual([0, 0]);
  });

  test('logout: really, until C_Login', async () => {
    const child = await ready();
    const key = await keyOf(child, 'a');
    const expected = hex(await child.run('encrypt', key, 'text'));
    await rules('* logout=1');
    expect(await child.code('encrypt', key, 'text')).toBe(ck.CKR_USER_NOT_LOGGED_IN);
    expect(await child.code('encrypt', key, 'text')).toBe(ck.CKR_USER_NOT_LOGGED_IN);
    expect(await child.run('sessionInfo')).toBe(RW_PUBLIC_SESSION);
    expect(await child.run('find', 'a')).toEqual([]);
    expect(await child.code('random', 8)).toBe(0);
    await child.run('login', PIN);
    expect(hex(await child.run('encrypt', await keyOf(child, 'a'), 'text'))).toBe(expected);
    expect(count('C_EncryptInit').faults).toBe(2);
  });

  test('pin-fail: without asking the token', async () => {
    await rules('C_Login pin-fail=1');
    const child = start(FAULT_MODULE, shim.environment());
    expect(await child.code('start', PIN)).toBe(ck.CKR_PIN_INCORRECT);
    expect(await child.run('sessionInfo')).toBe(RW_PUBLIC_SESSION);
    await rules();
    expect(await child.code('login', PIN)).toBe(0);
  });
});

describe('object handles', () => {
  test('renumber=1: a handle now denotes another key, in every call', async () => {
    const child = await ready();
    const [a, b] = [await keyOf(child, 'a'), await keyOf(child, 'b')];
    const [underA, underB] = [hex(await child.run('encrypt', a, 'text')), hex(await child.run('encrypt', b, 'text'))];
    const wrapped = await child.run('wrap', a, b);
    expect(underA).not.toBe(underB);

    await rules('* renumber=1');
    expect(hex(await child.run('encrypt', a, 'text'))).toBe(underB);
    expect(hex(await child.run('encrypt', b, 'text'))).toBe(underA);
    expect(Buffer.from(await child.run('attribute', a, ck.CKA_ID)).toString()).toBe('b');
    expect(hex(await child.run('wrap', b, a))).toBe(hex(wrapped));
    const unwrapped = await child.run('unwrap', b, wrapped);
    expect(hex(await child.run('encrypt', unwrapped, 'text'))).toBe(underB);

    await rules();
    expect(hex(await keyOf(child, 'a'))).toBe(hex(b));
    expect(hex(await child.run('encrypt', await keyOf(child, 'a'), 'text'))).toBe(underA);
  });

  test('renumber=1 stays within class and key type, and again with every change', async () => {
    const child = await ready();
    const [[privateKey], [publicKey]] = [await child.run('find', 'r', ck.CKO_PRIVATE_KEY), await child.run('find', 'r', ck.CKO_PUBLIC_KEY)];
    const [a, b] = [await keyOf(child, 'a'), await keyOf(child, 'b')];
    const signature = hex(await child.run('sign', privateKey, 'text'));
    const modulus = hex(await child.run('attribute', publicKey, ck.CKA_MODULUS));
    await rules('* renumber=1');
    expect(hex(await child.run('sign', privateKey, 'text'))).toBe(signature);
    expect(hex(await child.run('attribute', publicKey, ck.CKA_MODULUS))).toBe(modulus);
    expect(hex(await keyOf(child, 'a'))).toBe(hex(b));
    await rules('* renumber=1');
    expect(hex(await keyOf(child, 'a'))).toBe(hex(a));
  });

  test('objects made and destroyed after a renumbering', async () => {
    const child = await ready();
    const [a, b] = [await keyOf(child, 'a'), await keyOf(child, 'b')];
    await rules('* renumber=1');
    const made = [];
    for (let i = 0; i < 20; i++) made.push(await child.run('createAes', `made-${i}`, false));
    expect(new Set([...made, a, b].map(hex)).size).toBe(22);
    for (const [i, handle] of made.entries()) {
      expect(hex(await keyOf(child, `made-${i}`))).toBe(hex(handle));
      await child.run('destroy', handle);
      expect(await child.code('attribute', handle, ck.CKA_ID)).toBe(ck.CKR_OBJECT_HANDLE_INVALID);
    }
    expect(hex(await keyOf(child, 'a'))).toBe(hex(b));
  });

  test('renumber=invalid: old handles mean nothing, searches give new ones', async () => {
    const child = await ready();
    const [a, b] = [await keyOf(child, 'a'), await keyOf(child, 'b')];
    const underA = hex(await child.run('encrypt', a, 'text'));
    await rules('* renumber=invalid');
    expect(await child.code('encrypt', a, 'text')).toBe(ck.CKR_KEY_HANDLE_INVALID);
    expect(await child.code('attribute', a, ck.CKA_ID)).toBe(ck.CKR_OBJECT_HANDLE_INVALID);
    expect(await child.code('wrap', a, b)).toBe(ck.CKR_WRAPPING_KEY_HANDLE_INVALID);
    expect(await child.code('unwrap', a, Buffer.alloc(40))).toBe(ck.CKR_UNWRAPPING_KEY_HANDLE_INVALID);
    const found = await keyOf(child, 'a');
    expect([hex(a), hex(b)]).not.toContain(hex(found));
    expect(hex(await child.run('encrypt', found, 'text'))).toBe(underA);
    // It lasts after the rule, and a second one invalidates the new handles too.
    await rules();
    expect(await child.code('encrypt', a, 'text')).toBe(ck.CKR_KEY_HANDLE_INVALID);
    await rules('* renumber=invalid');
    expect(await child.code('encrypt', found, 'text')).toBe(ck.CKR_KEY_HANDLE_INVALID);
    expect(await child.code('encrypt', await keyOf(child, 'a'), 'text')).toBe(0);
  });

  test('C_Finalize ends a renumbering', async () => {
    const child = await ready();
    await keyOf(child, 'a');
    await rules('* renumber=invalid');
    await keyOf(child, 'a');
    await child.run('finalize');
    await child.run('start', PIN);
    expect(await child.code('encrypt', await keyOf(child, 'a'), 'text')).toBe(0);
  });
});

describe('hidden mechanisms', () => {
  test.each(['mech', 'C_GetMechanismList'])('%s hide', async (name) => {
    const child = await ready();
    const key = await keyOf(child, 'a');
    const all: readonly number[] = await child.run('mechanisms');
    await rules(`${name} hide=0x1087,0x${ck.CKM_AES_CBC_PAD.toString(16)},0x1080,0x80001234`);
    const shown: readonly number[] = await child.run('mechanisms');
    expect(all.filter((one) => !shown.includes(one)).sort()).toEqual([0x1080, ck.CKM_AES_CBC_PAD, 0x1087].sort());
    expect(await child.code('encrypt', key, 'text')).toBe(ck.CKR_MECHANISM_INVALID);
    expect(await child.code('generateWith', 0x1080)).toBe(ck.CKR_MECHANISM_INVALID);
    expect(await child.code('mechanismInfo', 0x1087)).toBe(ck.CKR_MECHANISM_INVALID);
    expect(await child.code('mechanismInfo', ck.CKM_AES_CBC)).toBe(0);
    await rules();
    expect(await child.run('mechanisms')).toEqual(all);
    expect(await child.code('encrypt', key, 'text')).toBe(0);
  });
});

describe('driver', () => {
  test.each([
    'C_Sing rv=1', 'X* rv=1', '* rv=ox1', '* rv', '* nth=1', '* nth=0 rv=1', '* p=2 rv=1', '* after=forward', 'mech rv=1', '* nonsense=1',
    'release now', 'C_Sign hang=1\n* rv=1',
  ])('refuses %j', (rule) => {
    expect(() => { shim.set([rule]); }).toThrow(TypeError);
  });

  test('writes profiles that load', () => {
    const path = shim.profile('hsm-config/softhsm-2.6.1.yaml', { KMS_FAULT_LATENCY_US: '200' });
    const variables = { KMS_HOME: '/srv/kms' };
    const [profile, original] = [path, 'hsm-config/softhsm-2.6.1.yaml'].map((file) => loadProfile(file, variables));
    expect(profile).toEqual({
      ...original,
      module: FAULT_MODULE,
      environment: { ...original!.environment, ...shim.environment(), KMS_FAULT_LATENCY_US: '200' },
    });
  });

  test('writes neither PIN nor data', async () => {
    const child = await ready();
    await rules('C_Login rv=0 after=forward', 'C_Encrypt corrupt=flip');
    await child.run('encrypt', await keyOf(child, 'a'), 'plain-text-canary');
    const files = readdirSync(join(token.directory, `shim-${directories}`), { recursive: true, withFileTypes: true });
    const texts = files.filter((file) => file.isFile()).map((file) => readFileSync(join(file.parentPath, file.name), 'latin1'));
    expect(texts).toHaveLength(2);
    for (const text of texts) expect(text).not.toMatch(new RegExp(`${PIN}|plain-text-canary`));
  });
});

const softokn = readdirSync('/usr/lib').some((name) => existsSync(join('/usr/lib', name, 'libsoftokn3.so')));

(softokn ? describe : describe.skip)('NSS in FIPS mode (needs libnss3)', () => {
  test.each([['by itself', NSS_FIPS_MODULE], ['behind the shim', FAULT_MODULE]])('%s', async (_how, module) => {
    const database = join(token.directory, `nss-${directories}`);
    mkdirSync(database);
    const child = start(module, { ...shim.environment(), KMS_FAULT_MODULE: NSS_FIPS_MODULE });
    const parameters = `configdir='sql:${database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags=`;
    expect(await child.run('labels', parameters)).toEqual(['NSS FIPS 140-2 Certificate DB']);
  });
});
