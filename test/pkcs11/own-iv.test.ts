/**
 * An HSM that makes the IVs of AES-GCM itself and writes them over what it was given (profile `gcm.iv:
 * token-written-back`, as AWS CloudHSM documents): the fault shim before SoftHSM behaves so.
 */

import { createDecipheriv, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Sealed } from '../../src/crypto/engine.ts';
import type { KeyObject } from '../../src/keys/key.ts';
import { failureOf } from '../contract/token/expectations.ts';
import { FAULT_MODULE, FaultShim } from '../fault/shim.ts';
import { SOFTHSM } from '../fault/token.ts';
import { times } from '../support/form.ts';
import { oct, objectOf, TestToken } from '../support/token.ts';

const value = randomBytes(32);
const AAD = Buffer.from('aad');
let at: TestToken;
let shim: FaultShim;
let key: KeyObject;

beforeAll(async () => {
  at = await TestToken.make({
    profile: 'softhsm-2.6.1',
    tokenLabel: 'kms-own-iv',
    patch: (profile) => {
      shim = new FaultShim(join(profile.environment['SOFTHSM2_CONF']!, '..', 'shim'), SOFTHSM);
      shim.set(['C_EncryptInit own-iv=init']);
      const environment = { ...profile.environment, ...shim.environment() };
      return { ...profile, module: FAULT_MODULE, environment, gcm: { ...profile.gcm, iv: 'token-written-back' } };
    },
  });
  key = await at.importOct(value, 'gcm');
});

afterAll(() => at.remove());

/** The token makes its IVs so from now on. */
async function tokenDoes(how: 'init' | 'encrypt' | 'hidden' | 'constant'): Promise<void> {
  shim.set([`C_EncryptInit own-iv=${how}`]);
  await delay(3);
}

beforeEach(() => tokenDoes('init'));

function openWithNode({ iv, ciphertext, tag }: Sealed): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', value, iv);
  decipher.setAAD(AAD).setAuthTag(tag);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
}

const calls = (name: string): number => shim.counts().get(name)?.calls ?? 0;

describe.each(['init', 'encrypt'] as const)('written with C_%s', (how) => {
  test('the self-test passes, and AES-GCM is served', async () => {
    await tokenDoes(how);
    expect(await at.reopen()).toBe('ok');
    expect(at.engine.capabilities.supported).toEqual(expect.arrayContaining(['AES-GCM', 'AES-GCM-IV']));
    expect(at.engine.servable(oct(256), ['gcm', 'dk'])).toEqual(['gcm', 'dk']);
  });

  test('the IV of each message is the one the token used, and the generator is not asked', async () => {
    await tokenDoes(how);
    const before = calls('C_GenerateRandom');
    const messages = Array.from({ length: times(60, 200) }, (_, n) => randomBytes(n));
    const sealed = await Promise.all(messages.map((message) => at.engine.encryptGcm(key, AAD, message)));
    expect(calls('C_GenerateRandom')).toBe(before);
    expect(new Set(sealed.map(({ iv }) => Buffer.from(iv).toString('hex'))).size).toBe(messages.length);
    for (const [n, message] of messages.entries()) {
      expect(sealed[n]!.iv.length).toBe(12);
      expect(openWithNode(sealed[n]!)).toEqual(message);
      expect(Buffer.from(await at.engine.decryptGcm(key, AAD, sealed[n]!))).toEqual(message);
    }
  });

  test('a key made in the token proves itself, also at the next start', async () => {
    await tokenDoes(how);
    const made = objectOf(await at.generate(oct(256), ['gcm']), 'gcm');
    await at.reopen();
    const sealed = await at.engine.encryptGcm(made, AAD, Buffer.from('kept'));
    expect(Buffer.from(await at.engine.decryptGcm(made, AAD, sealed)).toString()).toBe('kept');
    await at.engine.destroy([made.objectId]);
  });
});

describe('refused', () => {
  const sealing = async (): Promise<string> => (await failureOf(at.engine.encryptGcm(key, AAD, Buffer.from('x')))).code;

  test('an IV that is not shown', async () => {
    await at.reopen();
    expect(openWithNode(await at.engine.encryptGcm(key, AAD, Buffer.from('x'))).toString()).toBe('x');
    await tokenDoes('hidden');
    expect(await sealing()).toBe('token-unavailable');
    expect(await at.reopen()).toBe('failed');
    expect(at.engine.fitness).toBe('self-test failed: AES-GCM-IV, AES-GCM');
    expect(await sealing()).toBe('token-unavailable');
  });

  test('an IV that comes again', async () => {
    await at.reopen();
    await tokenDoes('constant');
    await at.engine.encryptGcm(key, AAD, Buffer.from('x'));
    expect(await sealing()).toBe('token-unavailable');
    expect(at.engine.fitness).toBe('the random generator repeated itself');
    expect(await at.reopen()).toBe('failed');
    expect(at.engine.fitness).toBe('self-test failed: AES-GCM-IV, AES-GCM');
  });

  test('a token that takes no IV, where the profile says that the host makes it', async () => {
    expect(await at.reopen({ profile: { ...at.profile, gcm: { ...at.profile.gcm, iv: 'host' } } })).toBe('ok');
    expect(at.engine.capabilities.refused).toEqual(['AES-GCM']);
    expect(await sealing()).toBe('unsupported-by-token');
  });

  test.each(['token-appended', 'token-prepended'] as const)('an IV that the token puts elsewhere: %s', async (iv) => {
    await at.reopen({ profile: { ...at.profile, gcm: { ...at.profile.gcm, iv } } });
    expect(at.engine.capabilities.supported).not.toContain('AES-GCM');
    expect(await sealing()).toBe('unsupported-by-token');
  });
});
