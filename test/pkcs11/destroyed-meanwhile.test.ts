/**
 * Objects that somebody destroys in the middle of an operation with them. SoftHSM then answers with whatever it still
 * has of the object: a right signature does not verify, a key has the wrong type. None of this may be believed.
 */

import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { KmsError } from '../../src/errors.ts';
import type { KeyObject } from '../../src/keys/key.ts';
import { failureOf } from '../contract/token/expectations.ts';
import { FAULT_MODULE, FaultShim } from '../fault/shim.ts';
import { SOFTHSM } from '../fault/token.ts';
import { signatureAlgorithm } from '../support/built.ts';
import { rows, times } from '../support/form.ts';
import { eventually } from '../support/wait.ts';
import { ec, objectOf, oct, present, TestToken } from '../support/token.ts';

const ROUNDS = times(12, 40);
const ES256 = present(signatureAlgorithm('ES256'));
const P256 = ec('P-256');
const DIGEST = Buffer.alloc(32, 7);
const AAD = Buffer.from('aad');
let at: TestToken;
let shim: FaultShim;

beforeAll(async () => {
  at = await TestToken.make({
    profile: 'softhsm-2.6.1',
    tokenLabel: 'kms-destroyed',
    patch: (profile) => {
      shim = new FaultShim(join(profile.environment['SOFTHSM2_CONF']!, '..', 'shim'), SOFTHSM);
      return { ...profile, module: FAULT_MODULE, environment: { ...profile.environment, ...shim.environment() } };
    },
  });
});

beforeEach(() => { shim.clear(); });

afterAll(() => at.remove());

interface Pair {
  readonly signer: KeyObject;
  readonly verifier: KeyObject;
  readonly signature: Uint8Array;
}

async function pair(): Promise<Pair> {
  const made = await at.generate(P256, ['private', 'public']);
  const signer = objectOf(made, 'private');
  return { signer, verifier: objectOf(made, 'public'), signature: await at.engine.sign(signer, P256, ES256, DIGEST) };
}

const verify = ({ verifier, signature }: Pair): Promise<boolean> => at.engine.verify(verifier, P256, ES256, DIGEST, signature);

/** The call waits inside the module, the objects go, and then it answers as SoftHSM does. */
async function whileDestroyed(call: string, answer: string, { objectId }: KeyObject, run: () => Promise<unknown>): Promise<KmsError> {
  const calls = (): number => shim.counts().get(call)?.faults ?? 0;
  const before = calls();
  shim.set([`${call} hang=1 rv=${answer}`]);
  await new Promise((resolve) => { setTimeout(resolve, 5); });
  const failure = failureOf(run());
  await eventually(`${call} is under way`, () => calls() > before);
  for (const handle of at.raw.withId(objectId)) at.raw.destroy(handle);
  shim.set(['release']);
  return failure;
}

test.each([['CKR_SIGNATURE_INVALID', '0xc0'], ['CKR_SIGNATURE_LEN_RANGE', '0xc1']])('C_Verify says %s', async (_name, code) => {
  const made = await pair();
  expect(await verify(made)).toBe(true);
  expect(await whileDestroyed('C_Verify', code, made.verifier, () => verify(made))).toMatchObject({ code: 'key-missing' });
});

test('the object that should prove itself is missing, not damaged', async () => {
  const made = await pair();
  await at.reopen();
  const failure = await whileDestroyed('C_Verify', '0xc1', made.verifier, () => verify(made));
  expect(failure).toMatchObject({ code: 'key-missing', retryAfter: expect.any(Number) });
});

test.each([
  ['CKR_KEY_SIZE_RANGE', '0x62'],
  ['CKR_KEY_TYPE_INCONSISTENT', '0x63'],
  ['CKR_KEY_FUNCTION_NOT_PERMITTED', '0x68'],
  ['CKR_MECHANISM_INVALID', '0x70'],
  ['CKR_GENERAL_ERROR', '0x5'],
])('C_DecryptInit says %s', async (_name, code) => {
  const key = objectOf(await at.generate(oct(256), ['gcm']), 'gcm');
  const sealed = await at.engine.encryptGcm(key, AAD, Buffer.from('text'));
  const failure = await whileDestroyed('C_DecryptInit', code, key, () => at.engine.decryptGcm(key, AAD, sealed));
  expect(failure).toMatchObject({ code: 'key-missing' });
});

test('the same answers of an object that is still there are taken for what they are', async () => {
  const made = await pair();
  expect(await at.engine.verify(made.verifier, P256, ES256, Buffer.alloc(32, 8), made.signature)).toBe(false);
  const key = objectOf(await at.generate(oct(256), ['gcm']), 'gcm');
  const sealed = await at.engine.encryptGcm(key, AAD, Buffer.from('text'));
  expect(await failureOf(at.engine.decryptGcm(key, Buffer.alloc(3), sealed))).toMatchObject({ code: 'decryption-failed' });
});

test('keys destroyed under load answer rightly or are missing', async () => {
  const answers = new Map<string, number>();
  const note = (answer: string): void => { answers.set(answer, (answers.get(answer) ?? 0) + 1); };
  for (let round = 0; round < ROUNDS; round += 1) {
    const made = await pair();
    let going = true;
    const use = async (once: () => Promise<unknown>): Promise<void> => {
      while (going) note(await once().then((value) => `answer ${String(value)}`, (error: unknown) => (error as KmsError).code));
    };
    const sign = async (): Promise<string> => `of ${(await at.engine.sign(made.signer, P256, ES256, DIGEST)).length} bytes`;
    const users = [use(() => verify(made)), use(() => verify(made)), use(sign), use(sign)];
    // On a busy machine the key would be gone before anybody used it.
    if (round % 4 === 0) await Promise.all([verify(made), sign()]);
    await at.engine.destroy([made.verifier.objectId]);
    going = false;
    await Promise.all(users);
  }
  expect([...answers.keys()].filter((answer) => answer !== 'key-missing').sort()).toEqual(['answer of 64 bytes', 'answer true']);
});

test('a session that is lost while objects are listed hides none of them', async () => {
  const made = await Promise.all(Array.from({ length: 5 }, () => at.generate(oct(256), ['gcm'])));
  // Each attribute that the listing reads of the newest objects fails once, and a few calls before and after it.
  const places = rows(Array.from({ length: 30 }, (_, index) => index + 1), 4);
  for (const [before, nth] of places.entries()) {
    shim.set([`C_GetAttributeValue rv=0xb3 nth=${nth}`]);
    await at.reopen();
    for (const each of made) {
      const { objectId } = objectOf(each, 'gcm');
      expect((await at.token.encryptGcm({ objectId, part: 'secret' }, AAD, DIGEST)).iv).toHaveLength(12);
    }
    expect(shim.counts().get('C_GetAttributeValue')?.faults).toBe(before + 1);
  }
});
