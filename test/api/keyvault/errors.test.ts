/** The catalogue of errors, row by row, as far as permissions do not matter (azure-keyvault-keys-api §2.2). */

import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { eventually } from '../../support/wait.ts';
import { serve } from '../../support/served.ts';
import { objectsOnToken } from '../okms/support.ts';
import { b64, expectOk, expectRefusal, KeyVault, type Refusal } from './support.ts';

let kms: Installation;
let nobody: Client;
let dev: KeyVault;
let premium: KeyVault;

const DIGEST = b64(Buffer.alloc(32, 3));
const PAST = 1_000_000_000;
const FUTURE = 4_000_000_000;

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
  premium = await KeyVault.of(nobody, kms, 'dev-premium');
  await dev.create('rsa', { kty: 'RSA' });
  await dev.create('ec', { kty: 'EC', crv: 'P-256' });
  await dev.create('oct', { kty: 'oct', key_size: 256 });
  await dev.create('mac', { kty: 'oct', key_size: 256, key_ops: ['sign', 'verify'] });
  await dev.create('off', { kty: 'RSA', attributes: { enabled: false } });
  await dev.create('early', { kty: 'RSA', attributes: { nbf: FUTURE } });
  await dev.create('late', { kty: 'RSA', attributes: { exp: PAST } });
  await dev.create('narrow', { kty: 'RSA', key_ops: ['sign', 'verify'] });
  await dev.create('gone', { kty: 'EC' });
  expectOk(await dev.delete('/keys/gone'));
});

afterAll(() => nobody.close());

const BAD = { status: 400, code: 'BadParameter' } as const;
const FORBIDDEN = { status: 403, code: 'Forbidden' } as const;
const CREATE = '/keys/fresh/create';

type Row = readonly [name: string, expected: Refusal, ask: () => Promise<Answer>];

const ROWS: readonly Row[] = [
  ['no body', { ...BAD, words: 'expected a JSON object' }, () => dev.call('POST', CREATE)],
  ['JSON that is none', { ...BAD, words: 'JSON' }, () => dev.call('POST', CREATE, '{"kty":')],
  ['another media type', { ...BAD, words: 'Content-Type' }, () => dev.call('POST', CREATE, 'kty=RSA', { headers: { 'content-type': 'text/plain' } })],
  ['a member twice', { ...BAD, words: 'duplicate member' }, () => dev.call('POST', CREATE, '{"kty":"RSA","kty":"EC"}')],
  ['a member that is missing', { ...BAD, words: 'kty: ' }, () => dev.post(CREATE, {})],
  ['a type that nobody knows', { ...BAD, inner: 'KeyTypeNotSupported', words: 'RSA-HSM' }, () => dev.post(CREATE, { kty: 'OKP' })],
  ['oct in a vault', { ...BAD, inner: 'KeyTypeNotSupported', words: 'oct' }, () => premium.post(CREATE, { kty: 'oct' })],
  ['a curve in a vault', { ...BAD, words: 'SECP256K1' }, () => premium.post(CREATE, { kty: 'EC', crv: 'P-192' })],
  ['a curve in a managed HSM', { status: 400, code: 'KeyCurveNotSupported', words: 'P-521' }, () => dev.post(CREATE, { kty: 'EC', crv: 'P-192' })],
  ['a size of RSA', { ...BAD, words: 'key_size: expected one of 2048, 3072, 4096' }, () => dev.post(CREATE, { kty: 'RSA', key_size: 1024 })],
  ['a size of oct', { ...BAD, words: 'key_size: expected one of 128, 192, 256' }, () => dev.post(CREATE, { kty: 'oct', key_size: 64 })],
  ['an exponent', { ...BAD, words: 'public_exponent: expected 65537' }, () => dev.post(CREATE, { kty: 'RSA', public_exponent: 3 })],
  ['an operation that the type lacks', { ...BAD, words: 'key_ops: wrapKey' }, () => dev.post(CREATE, { kty: 'EC', key_ops: ['wrapKey'] })],
  ['an operation that nobody knows', { ...BAD, words: 'key_ops.0' }, () => dev.post(CREATE, { kty: 'EC', key_ops: ['fly'] })],
  ['a time that is none', { ...BAD, words: 'attributes.exp' }, () => dev.post(CREATE, { kty: 'EC', attributes: { exp: 1.5 } })],
  ['an attribute of another type', { ...BAD, words: 'attributes.enabled' }, () => dev.post(CREATE, { kty: 'EC', attributes: { enabled: 'yes' } })],
  ['sixteen tags', { ...BAD, words: 'tags: expected at most 15' }, () => dev.post(CREATE, { kty: 'EC', tags: Object.fromEntries(Array.from({ length: 16 }, (_, n) => [`t${n}`, ''])) })],
  ['a long name of a tag', { ...BAD, words: 'tags' }, () => dev.post(CREATE, { kty: 'EC', tags: { ['x'.repeat(257)]: '' } })],
  ['a long tag', { ...BAD, words: 'tags.t' }, () => dev.post(CREATE, { kty: 'EC', tags: { t: 'x'.repeat(257) } })],
  ['a key that can be exported', { ...BAD, words: /AKV\.SKR\.1001: .*exportable/ }, () => dev.post(CREATE, { kty: 'EC', attributes: { exportable: true } })],
  ['a release policy', { ...BAD, words: /AKV\.SKR\.1005: .*exportable/ }, () => dev.post(CREATE, { kty: 'EC', release_policy: { data: 'AAAA' } })],
  ['a body that is too large', { status: 413, code: 'RequestEntityTooLarge', words: '65536' }, () => dev.post(CREATE, { kty: 'EC', tags: { t: 'x'.repeat(70_000) } })],
  ['an algorithm of another type', { ...BAD, words: /incompatible: ES256 .* rsa/ }, () => dev.post('/keys/rsa/sign', { alg: 'ES256', value: DIGEST })],
  ['an algorithm of another curve', { ...BAD, words: /incompatible: ES384 .* ec/ }, () => dev.post('/keys/ec/sign', { alg: 'ES384', value: b64(Buffer.alloc(48)) })],
  ['an algorithm that nobody knows', { ...BAD, words: 'alg: not a known' }, () => dev.post('/keys/rsa/encrypt', { alg: 'ROT13', value: DIGEST })],
  ['a digest of another length', { ...BAD, words: 'expected a digest of 32 bytes for RS256, got 31' }, () => dev.post('/keys/rsa/sign', { alg: 'RS256', value: b64(Buffer.alloc(31)) })],
  ['such a digest to verify', { ...BAD, words: 'digest: expected a digest of 48 bytes for RS384, got 32' }, () => dev.post('/keys/rsa/verify', { alg: 'RS384', digest: DIGEST, value: 'AAAA' })],
  ['an AES algorithm of another size', { ...BAD, words: 'key size incorrect' }, () => dev.post('/keys/oct/encrypt', { alg: 'A128GCM', value: 'AAAA' })],
  ['AES-GCM that wraps', { ...BAD, words: 'not for wrapping' }, () => dev.post('/keys/oct/wrapkey', { alg: 'A256GCM', value: DIGEST })],
  ['AES-KW that encrypts', { ...BAD, words: 'for wrapping keys' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256KW', value: DIGEST })],
  ['an IV of the caller', { ...BAD, words: 'iv: not accepted' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AAAA', iv: b64(Buffer.alloc(12)) })],
  ['a plaintext that is too long for RSA', { ...BAD, words: 'at most 214 bytes for RSA-OAEP, got 215' }, () => dev.post('/keys/rsa/encrypt', { alg: 'RSA-OAEP', value: b64(Buffer.alloc(215)) })],
  ['one that is too long for AES', { ...BAD, words: 'at most 16000 bytes, got 16001' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: b64(Buffer.alloc(16_001)) })],
  ['no whole blocks for AES-CBC', { ...BAD, words: 'whole blocks of 16 bytes for A256CBC, got 15' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256CBC', value: b64(Buffer.alloc(15)) })],
  ['an IV of another length', { ...BAD, words: 'iv: expected 16 bytes' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256CBC', value: DIGEST, iv: 'AAAA' })],
  ['no IV to decrypt with', { ...BAD, words: 'iv: expected 12 bytes' }, () => dev.post('/keys/oct/decrypt', { alg: 'A256GCM', value: 'AAAA' })],
  ['a key to wrap of another length', { ...BAD, words: 'a multiple of 8 bytes, at least 16, for A256KW, got 15' }, () => dev.post('/keys/oct/wrapkey', { alg: 'A256KW', value: b64(Buffer.alloc(15)) })],
  ['base64url with stray bits', { ...BAD, words: 'value: expected base64url' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AB' })],
  ['base64url with white space', { ...BAD, words: 'value' }, () => dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AA AA' })],
  ['a tag that does not fit', { ...BAD, words: 'cannot be decrypted' }, () => dev.post('/keys/oct/decrypt', { alg: 'A256GCM', value: 'AAAA', iv: b64(Buffer.alloc(12)), tag: b64(Buffer.alloc(16)) })],
  ['no ciphertext of this key', { ...BAD, words: 'cannot be decrypted' }, () => dev.post('/keys/rsa/decrypt', { alg: 'RSA-OAEP', value: b64(Buffer.alloc(256, 1)) })],
  ['one of another length', { ...BAD, words: 'cannot be decrypted' }, () => dev.post('/keys/rsa/unwrapkey', { alg: 'RSA-OAEP-256', value: 'AAAA' })],
  ['no random bytes', { ...BAD, words: 'count' }, () => dev.post('/rng', { count: 0 })],
  ['129 random bytes', { ...BAD, words: 'count' }, () => dev.post('/rng', { count: 129 })],
  ['random bytes of a vault', { status: 404, code: 'NotFound', words: 'random' }, () => premium.post('/rng', { count: 1 })],
  ['a version that is disabled', { ...FORBIDDEN, inner: 'KeyDisabled', words: 'disabled' }, () => dev.post('/keys/off/decrypt', { alg: 'RSA-OAEP', value: b64(Buffer.alloc(256, 1)) })],
  ['a version before its time', { ...FORBIDDEN, inner: 'KeyNotYetValid', words: 'not active yet' }, () => dev.post('/keys/early/sign', { alg: 'RS256', value: DIGEST })],
  ['a version after its time', { ...FORBIDDEN, inner: 'KeyExpired', words: 'expired' }, () => dev.post('/keys/late/encrypt', { alg: 'RSA-OAEP', value: 'AAAA' })],
  ['an operation that the key lacks', { ...FORBIDDEN, inner: 'KeyOperationForbidden', words: 'lacks the usage decrypt' }, () => dev.post('/keys/narrow/decrypt', { alg: 'RSA-OAEP', value: DIGEST })],
  ['the same, whatever the algorithm', { ...FORBIDDEN, inner: 'KeyOperationForbidden', words: 'lacks the usage sign' }, () => dev.post('/keys/oct/sign', { alg: 'ES256', value: DIGEST })],
  ['a key that is not there', { status: 404, code: 'KeyNotFound', words: 'nothing was not found in this key vault' }, () => dev.get('/keys/nothing')],
  ['a version that is not there', { status: 404, code: 'KeyNotFound', words: `rsa/${'0'.repeat(32)} was not found in this key vault` }, () => dev.post(`/keys/rsa/${'0'.repeat(32)}/sign`, { alg: 'RS256', value: DIGEST })],
  ['a key that is deleted', { status: 404, code: 'KeyNotFound', words: 'gone was not found' }, () => dev.post('/keys/gone/sign', { alg: 'ES256', value: DIGEST })],
  ['a deleted key that is not there', { status: 404, code: 'KeyNotFound', words: 'Deleted Key not found: rsa' }, () => dev.get('/deletedkeys/rsa')],
  ['a new key where one is deleted', { status: 409, code: 'Conflict', inner: 'ObjectIsDeletedButRecoverable', words: 'recover or purge' }, () => dev.post('/keys/gone/create', { kty: 'EC' })],
  ['an import where one is deleted', { status: 409, code: 'Conflict', inner: 'ObjectIsDeletedButRecoverable', words: 'recover or purge' }, () => dev.put('/keys/gone', { key: { kty: 'oct', k: DIGEST } })],
  ['a new version of another type', { status: 409, code: 'Conflict', words: 'of another type' }, () => dev.post('/keys/rsa/create', { kty: 'EC' })],
  ['a new version of another size', { status: 409, code: 'Conflict', words: 'size' }, () => dev.post('/keys/rsa/create', { kty: 'RSA', key_size: 3072 })],
  ['operations beyond those it was made for', { ...BAD, words: 'key_ops: decrypt is beyond' }, () => dev.patch('/keys/narrow', { key_ops: ['decrypt'] })],
  ['a key for imports', { status: 501, code: 'NotImplemented', words: 'key_ops' }, () => dev.post(CREATE, { kty: 'RSA-HSM', key_ops: ['import'] })],
  ['a wrapped key', { status: 501, code: 'NotImplemented', words: 'key.key_hsm' }, () => dev.put('/keys/fresh', { key: { kty: 'RSA-HSM', key_hsm: 'AAAA' } })],
  ['a backup', { status: 501, code: 'NotImplemented', words: 'not in this release' }, () => dev.call('POST', '/keys/rsa/backup')],
  ['a restore', { status: 501, code: 'NotImplemented', words: 'not in this release' }, () => dev.post('/keys/restore', { value: 'AAAA' })],
  ['a release', { status: 501, code: 'NotImplemented', words: 'not in this release' }, () => dev.post('/keys/rsa//release', { target: 'x' })],
  ['a rotation policy', { status: 501, code: 'NotImplemented', words: 'not in this release' }, () => dev.get('/keys/rsa/rotationpolicy')],
  ['a rotation policy of no key', { status: 404, code: 'KeyNotFound', words: 'nothing' }, () => dev.put('/keys/nothing/rotationpolicy', { lifetimeActions: [] })],
  ['an attestation', { status: 501, code: 'NotImplemented', words: 'not in this release' }, () => dev.get('/keys/rsa/attestation')],
  ['a length that this HSM wraps wrongly', { status: 501, code: 'NotSupported', words: 'not supported by this HSM' }, () => dev.post('/keys/oct/wrapkey', { alg: 'CKM_AES_KEY_WRAP_PAD', value: b64(Buffer.alloc(20)) })],
];

test.each(ROWS)('%s', async (_name, expected, ask) => {
  expectRefusal(await ask(), expected);
});

test('none of them left an object on the token, or a key', async () => {
  const before = objectsOnToken(kms);
  for (const [, , ask] of ROWS) await ask();
  expect(objectsOnToken(kms)).toBe(before);
  expectRefusal(await dev.get('/keys/fresh'), { status: 404, code: 'KeyNotFound', words: 'fresh' });
});

describe('RSA1_5, RSNULL and AES-CBC where a vault does not allow them', () => {
  test.each([
    ['RSA1_5', 'encrypt', { kty: 'RSA-HSM' }, 'AAAA'], ['RSA1_5', 'unwrapkey', { kty: 'RSA-HSM' }, 'AAAA'], ['RSNULL', 'sign', { kty: 'RSA-HSM' }, 'AAAA'],
    ['A256CBC', 'encrypt', { kty: 'oct-HSM' }, DIGEST], ['A256CBCPAD', 'decrypt', { kty: 'oct-HSM' }, DIGEST],
  ] as const)('%s %s', async (alg, operation, body, value) => {
    const name = `switch-${alg.replace('_', '-')}-${operation}`;
    await premium.create(name, body);
    expectRefusal(await premium.post(`/keys/${name}/${operation}`, { alg, value }), { ...BAD, words: `alg: ${alg} is switched off in this vault` });
  });
});

test('503 with Retry-After while the HSM is away', async () => {
  const tokens = join(kms.home, 'softhsm', 'tokens');
  renameSync(tokens, `${tokens}-away`);
  let answer = await dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AAAA' });
  try {
    await eventually('the HSM is missed', async () => {
      answer = await dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AAAA' });
      return answer.status === 503;
    });
  } finally {
    renameSync(`${tokens}-away`, tokens);
  }
  expectRefusal(answer, { status: 503, code: 'ServiceUnavailable', words: 'HSM' });
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  await eventually('it works again', async () => (await dev.post('/keys/oct/encrypt', { alg: 'A256GCM', value: 'AAAA' })).status === 200);
});
