/** Imports at the Key Vault door: every type, every member checked, both alphabets (azure-keyvault-keys-api §1.1, §4). */

import { createHash, createPublicKey, createSign, generateKeyPairSync, type JsonWebKey, randomBytes, sign, verify } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { runKms } from '../../support/files.ts';
import type { Client, Installation } from '../../support/installation.ts';
import { eventually } from '../../support/wait.ts';
import { serve } from '../../support/served.ts';
import { objectsOnToken } from '../okms/support.ts';
import { b64, type Bundle, expectOk, expectRefusal, KeyVault, unb64 } from './support.ts';

let kms: Installation;
let nobody: Client;
let dev: KeyVault;
let premium: KeyVault;

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
  premium = await KeyVault.of(nobody, kms, 'dev-premium');
});

afterAll(() => nobody.close());

const BAD = { status: 400, code: 'BadParameter' } as const;
const RSA = generateKeyPairSync('rsa', { modulusLength: 2048 });
const rsa = RSA.privateKey.export({ format: 'jwk' });
const CURVES = { 'P-256': ['ES256', 'sha256', 'prime256v1'], 'P-384': ['ES384', 'sha384', 'secp384r1'], 'P-521': ['ES512', 'sha512', 'secp521r1'], 'P-256K': ['ES256K', 'sha256', 'secp256k1'] } as const;
type CurveName = keyof typeof CURVES;

function ecOf(curve: CurveName): { readonly jwk: JsonWebKey; readonly pair: ReturnType<typeof generateKeyPairSync> } {
  const pair = generateKeyPairSync('ec', { namedCurve: CURVES[curve][2] });
  return { jwk: { ...pair.privateKey.export({ format: 'jwk' }), crv: curve }, pair: pair };
}

test.each(Object.keys(CURVES) as CurveName[])('EC on %s: what it signs holds outside, and the reverse', async (curve) => {
  const [alg, hash] = CURVES[curve];
  const { jwk } = ecOf(curve);
  const { key } = expectOk(await dev.put(`/keys/ec-${curve}`, { key: jwk })) as Bundle;
  expect(key).toMatchObject({ kty: 'EC-HSM', crv: curve, x: jwk.x, y: jwk.y, key_ops: ['sign', 'verify'] });
  expect(key).not.toHaveProperty('d');
  const node = { ...jwk, crv: curve === 'P-256K' ? 'secp256k1' : curve };
  const message = randomBytes(50);
  const digest = b64(createHash(hash).update(message).digest());
  const { value } = expectOk(await dev.post(`/keys/ec-${curve}/sign`, { alg, value: digest })) as { value: string };
  const { d: _d, ...open } = node;
  expect(verify(hash, message, { key: createPublicKey({ key: open, format: 'jwk' }), dsaEncoding: 'ieee-p1363' }, unb64(value))).toBe(true);
  const made = sign(hash, message, { key: node as never, format: 'jwk', dsaEncoding: 'ieee-p1363' });
  expect(expectOk(await dev.post(`/keys/ec-${curve}/verify`, { alg, digest, value: b64(made) }))).toEqual({ value: true });
});

test('RSA: with all members, and with padded base64 of the other alphabet', async () => {
  const classic = Object.fromEntries(Object.entries(rsa).map(([name, text]) => [name, name === 'kty' ? text : unb64(text).toString('base64')]));
  for (const [name, key] of [['rsa-url', rsa], ['rsa-classic', classic]] as const) {
    const made = expectOk(await dev.put(`/keys/${name}`, { key: { ...key, key_ops: ['sign'] }, tags: { a: 'b' }, attributes: { exp: 4_000_000_000 } })) as Bundle;
    expect(made).toMatchObject({ key: { kty: 'RSA-HSM', n: rsa.n, e: 'AQAB', key_ops: ['sign'] }, tags: { a: 'b' }, attributes: { exp: 4_000_000_000, enabled: true } });
    const { value } = expectOk(await dev.post(`/keys/${name}/sign`, { alg: 'RS256', value: b64(createHash('sha256').update('m').digest()) })) as { value: string };
    expect(unb64(value)).toEqual(createSign('sha256').update('m').sign(RSA.privateKey));
  }
});

test.each([16, 24, 32])('oct of %d bytes', async (bytes) => {
  const made = expectOk(await dev.put(`/keys/oct-${bytes}`, { key: { kty: 'oct', k: b64(randomBytes(bytes)) } })) as Bundle;
  expect(made.key).toEqual({ kid: expect.any(String), kty: 'oct-HSM', key_ops: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] });
});

test('on a live name it adds a version of the same type and size, and of no other', async () => {
  await dev.create('grown', { kty: 'oct', key_size: 256 });
  const k = randomBytes(32);
  expectOk(await dev.put('/keys/grown', { key: { kty: 'oct', k: b64(k), key_ops: ['encrypt', 'decrypt'] } }));
  expect((expectOk(await dev.get('/keys/grown/versions')) as { value: object[] }).value).toHaveLength(2);
  const before = objectsOnToken(kms);
  for (const key of [{ kty: 'oct', k: b64(randomBytes(16)) }, rsa]) {
    expectRefusal(await dev.put('/keys/grown', { key }), { status: 409, code: 'Conflict', words: 'of another type' });
  }
  expect(objectsOnToken(kms)).toBe(before);
});

describe('refused, and nothing comes to the token', () => {
  const flipped = (member: keyof typeof rsa): JsonWebKey => {
    const bytes = unb64(rsa[member]);
    bytes[bytes.length - 1]! ^= 2;
    return { ...rsa, [member]: b64(bytes) };
  };
  const { jwk: ec } = ecOf('P-256');
  const without = (from: JsonWebKey, member: string): JsonWebKey => Object.fromEntries(Object.entries(from).filter(([name]) => name !== member));

  test.each<[string, object, string]>([
    ...(['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] as const).map((member): [string, object, string] => [`RSA with one bit of ${member} altered`, { key: flipped(member) }, 'key.']),
    ['RSA of 1024 bits', { key: generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'jwk' }) }, 'key.n'],
    ['RSA without its private part', { key: { kty: 'RSA', n: rsa.n, e: rsa.e } }, 'key.d: required'],
    ['EC without its private part', { key: without(ec, 'd') }, 'key.d: required'],
    ['EC whose private part is of another point', { key: { ...ec, d: b64(randomBytes(32)) } }, 'key.d'],
    ['EC off its curve', { key: { ...ec, x: b64(Buffer.alloc(32, 1)) } }, 'key.'],
    ['EC of another curve than it says', { key: { ...ec, crv: 'P-384' } }, 'key.'],
    ['oct without k', { key: { kty: 'oct' } }, 'key.k: required'],
    ['oct of 20 bytes', { key: { kty: 'oct', k: b64(randomBytes(20)) } }, 'key.k: expected 16, 24 or 32 bytes'],
    ['no key', {}, 'key: '],
    ['a member that is no base64', { key: { kty: 'oct', k: '!' } }, 'key.k'],
    ['an operation that the type lacks', { key: { ...ec, key_ops: ['encrypt'] } }, 'key.key_ops'],
    ['a release policy', { key: { kty: 'oct', k: b64(randomBytes(32)) }, release_policy: {} }, 'AKV.SKR.1005'],
  ])('%s', async (_name, body, words) => {
    const before = objectsOnToken(kms);
    const answer = await dev.put('/keys/refused', body);
    expectRefusal(answer, { ...BAD, words });
    for (const secret of [rsa.d, rsa.p, ec.d]) expect(answer.text).not.toContain(secret);
    expect(objectsOnToken(kms)).toBe(before);
  });

  test('a type that nobody knows, and oct in a vault', async () => {
    expectRefusal(await dev.put('/keys/refused', { key: { kty: 'OKP', crv: 'Ed25519' } }), { ...BAD, inner: 'KeyTypeNotSupported', words: 'key.kty' });
    expectRefusal(await premium.put('/keys/refused', { key: { kty: 'oct', k: b64(randomBytes(32)) } }), { ...BAD, inner: 'KeyTypeNotSupported', words: 'key.kty' });
  });

  test('in a vault of the profile fips: whatever was in the clear outside', async () => {
    const made = await runKms(kms.environment, 'vault', 'create', 'strict', '--flavour', 'premium', '--backup', 'never', '--profile', 'fips');
    expect(made).toMatchObject({ code: 0 });
    process.kill(kms.pid, 'SIGHUP');
    const strict = await KeyVault.of(nobody, kms, 'strict');
    await eventually('the host is known', () => strict.get('/keys').then(() => true, () => false));
    expectRefusal(await strict.put('/keys/given', { Hsm: true, key: rsa }), { status: 403, code: 'Forbidden', words: 'in the clear' });
    expectRefusal(await strict.post('/keys/both/create', { kty: 'RSA-HSM' }), { status: 403, code: 'Forbidden', words: 'not both' });
    await strict.create('signs', { kty: 'RSA-HSM', key_ops: ['sign', 'verify'] });
    expectRefusal(await strict.post('/keys/signs/sign', { alg: 'RSNULL', value: 'AAAA' }), { ...BAD, words: 'switched off' });
    await strict.create('wraps', { kty: 'RSA-HSM', key_ops: ['wrapKey', 'unwrapKey'] });
    const { value } = expectOk(await strict.post('/keys/wraps/wrapkey', { alg: 'RSA-OAEP-256', value: 'AAAA' })) as { value: string };
    expect(expectOk(await strict.post('/keys/wraps/unwrapkey', { alg: 'RSA-OAEP-256', value }))).toMatchObject({ value: 'AAAA' });
    expectRefusal(await strict.post('/keys/wraps/unwrapkey', { alg: 'RSA1_5', value }), { ...BAD, words: 'switched off' });
  });
});
