/**
 * What import asks of the module, written down by pkcs11-spy: keys come in by unwrapping and by nothing else, and no
 * secret of a permanent object is asked for (design §4, security P-8).
 */

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { GeneratedMaterial } from '../../src/crypto/engine.ts';
import { ecPairs, rsaPair } from '../contract/token/node-keys.ts';
import { ANCHOR, findSpy, type SpiedCall } from '../support/spy.ts';
import { ec, oct, objectOf, rsa, TestToken } from '../support/token.ts';

const SECRETS = /^\s+CKA_(?:VALUE|PRIVATE_EXPONENT|PRIME_\d|EXPONENT_\d|COEFFICIENT)\s/m;

const spy = findSpy();
if (spy === undefined) console.warn('SKIPPED: import seen by pkcs11-spy: it is not installed (Debian package opensc-pkcs11)');

function spied(library: string): Promise<TestToken> {
  return TestToken.make({
    profile: 'softhsm-2.6.1',
    tokenLabel: 'kms-spied',
    patch: (profile) => {
      const log = join(dirname(profile.environment['SOFTHSM2_CONF']!), 'spy.log');
      return { ...profile, module: library, environment: { ...profile.environment, PKCS11SPY: profile.module, PKCS11SPY_OUTPUT: log } };
    },
  });
}

if (spy === undefined) console.warn('SKIPPED: import seen by pkcs11-spy: it is not installed (Debian package opensc-pkcs11)');

(spy === undefined ? describe.skip : describe)('import, seen by pkcs11-spy', () => {
  const value = randomBytes(32);
  let at: TestToken;
  let text: string;
  let calls: readonly SpiedCall[];
  let made: readonly GeneratedMaterial[];

  beforeAll(async () => {
    at = await spied(spy!);
    const [r, [e]] = [rsaPair(), ecPairs('P-256')];
    made = [
      await at.import(oct(256), ['gcm', 'cbc', 'kw', 'mac'], Buffer.from(value)),
      await at.import(rsa(2048, 'sign', 'decrypt'), ['private', 'public'], r.pkcs8, r.spki),
      await at.import(ec('P-256'), ['private', 'public'], e!.pkcs8, e!.spki),
    ];
    // A caller's bytes do pass through session objects.
    const kw = { objectId: objectOf(made[0]!, 'kw').objectId, part: 'secret' } as const;
    const blob = await at.token.wrapBytes(kw, { name: 'aes-kw' }, randomBytes(32));
    await at.token.unwrapBytes(kw, { name: 'aes-kw' }, blob);
    // And the service's own bytes through data objects.
    await at.token.replaceData('kms:spied', 'kms:spied:anchor', Buffer.from('KMSA\u0001'), []);
    await at.token.readData('kms:spied');
    await at.stop();
    text = readFileSync(at.profile.environment['PKCS11SPY_OUTPUT']!, 'latin1');
    calls = text.split(/^(?=\d+: C_)/m).map((part) => ({ name: /^\d+: (C_\w+)/.exec(part)?.[1] ?? '', text: part }));
  });

  afterAll(async () => {
    await at.remove();
  });

  const of = (name: string, ...patterns: readonly RegExp[]): readonly string[] =>
    calls.filter((call) => call.name === name && patterns.every((pattern) => pattern.test(call.text))).map((call) => call.text);
  const PERMANENT = /CKA_TOKEN\s+True/;
  const PASSING = /CKA_TOKEN\s+False/;

  test('permanent keys are unwrapped: four families, two private keys', () => {
    expect(of('C_UnwrapKey', PERMANENT, /CKO_SECRET_KEY/).length).toBe(4);
    expect(of('C_UnwrapKey', PERMANENT, /CKO_PRIVATE_KEY/).length).toBe(2);
    for (const call of of('C_UnwrapKey', PERMANENT)) {
      expect(call).toMatch(/CKA_SENSITIVE\s+True/);
      expect(call).toMatch(/CKA_EXTRACTABLE\s+False/);
    }
  });

  test('objects made from plaintext are public, or of a session', () => {
    expect(of('C_CreateObject', /CKO_PRIVATE_KEY/)).toEqual([]);
    expect(of('C_CreateObject', /CKO_SECRET_KEY/, PERMANENT)).toEqual([]);
    // And both allowed kinds were seen.
    expect(of('C_CreateObject', /CKO_PUBLIC_KEY/, PERMANENT).length).toBe(2);
    expect(of('C_CreateObject', /CKO_SECRET_KEY/, PASSING).length).toBeGreaterThan(0);
    const others = of('C_CreateObject').length - of('C_CreateObject', /CKO_(?:PUBLIC|SECRET)_KEY/).length;
    // The one data object, which is no key.
    expect([others, of('C_CreateObject', /CKO_DATA/, ANCHOR).length]).toEqual([1, 1]);
  });

  test('no secret of a permanent object is read', () => {
    const passing = new Set([
      ...of('C_UnwrapKey', PASSING).map((call) => /^\[out\] hKey = (0x\w+)/m.exec(call)?.[1]),
      ...of('C_CreateObject', /CKO_DATA/).map((call) => /^\[out\] \*phObject = (0x\w+)/m.exec(call)?.[1]),
    ]);
    const reads = of('C_GetAttributeValue', SECRETS);
    // What a caller unwraps is read from its session object, and data objects are read.
    expect(reads.length).toBeGreaterThan(0);
    for (const call of reads) expect(passing).toContain(/^\[in\] hObject = (0x\w+)/m.exec(call)?.[1]);
  });

  test('the value of the imported key is nowhere in what the module was given or gave', () => {
    const dump = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex').toUpperCase().replace(/..(?!$)/g, '$& ');
    expect(text).not.toContain(dump(value.subarray(0, 16)));
    expect(text).not.toContain(dump(value.subarray(16)));
    // The search does find what is there.
    for (const { objects } of made) expect(text).toContain(dump(Buffer.from(objects[0]!.objectId, 'hex')));
  });

  test('nothing is copied or changed', () => {
    for (const name of ['C_CopyObject', 'C_SetAttributeValue']) expect(of(name)).toEqual([]);
  });
});
