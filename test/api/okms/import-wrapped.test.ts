// Wrapped import under RSA transport keys, and the refusal of wrapped export (okms-rest-api §2.11). What arrives is
// wrapped by jose, and used against the key that was wrapped.

import {
  constants, createCipheriv, createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject, publicEncrypt, randomBytes,
  randomUUID, verify as verifyOutside,
} from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { compactDecrypt, CompactEncrypt, importJWK, type JWK } from 'jose';
import { auditRecords } from '../../support/audit-records.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, expectRefusal, makeKey, OCT, RSA, UNKNOWN_ID, withoutRequestId, objectsOnToken } from './support.ts';

const MESSAGE = Buffer.from('under a key that came wrapped');
const TRANSPORT = { ...RSA, operations: ['wrapKey', 'unwrapKey'] } as const;

let kms: Installation;
let admin: Client;
let transportId: string;
let transportJwk: JWK;

serve(async (served) => {
  ({ kms, admin } = served);
  transportId = await makeKey(admin, TRANSPORT);
  transportJwk = await publicJwkOf(transportId);
});

/** As a client in jose uses it: without `key_ops`, which names what the pair may do, and not this half. */
async function publicJwkOf(id: string): Promise<JWK> {
  const { json } = await admin.get(`/servicekey/${id}?format=jwk`);
  const { kty, n, e } = (json.keys as [JWK])[0];
  return { kty, n, e } as JWK;
}

async function seal(content: Uint8Array, alg = 'RSA-OAEP-256', enc = 'A256GCM', jwk = transportJwk): Promise<string> {
  return new CompactEncrypt(content).setProtectedHeader({ alg, enc }).encrypt(await importJWK(jwk, alg));
}

const importWrapped = (ciphertext: string, keyFormatType: string, more: object = {}, wrappingKeyId = transportId): Promise<Answer> =>
  admin.post('/servicekey?format=jwk', { name: 'wrapped', wrappedKeys: [{ keyFormatType, wrappingKeyId, ciphertext }], ...more });

function created({ status, text, json }: Answer): { id: string; path: string; json: { operations: string[]; class: string } } {
  expect({ status, text }).toEqual({ status: 201, text: expect.any(String) });
  return { id: json.id as string, path: `/servicekey/${json.id as string}`, json: json as { operations: string[]; class: string } };
}

test('a transport key is an RSA key that wraps and unwraps keys, and serves neither data keys nor signatures', async () => {
  const { json } = await admin.get(`/servicekey/${transportId}`);
  expect(json).toMatchObject({ type: 'RSA', class: 'KEY_PAIR', operations: ['wrapKey', 'unwrapKey'] });
  expectRefusal(await admin.post(`/servicekey/${transportId}/datakey`, { size: 256 }), 'wrong-usage', 'oct');
  expectRefusal(await admin.post(`/servicekey/${transportId}/datakey/decrypt`, { key: 'a..b.c.d' }), 'wrong-usage', 'oct');
  expectRefusal(await admin.post(`/servicekey/${transportId}/sign`, { message: base64(MESSAGE), alg: 'RS256' }), 'wrong-usage', 'sign');
});

describe.each([
  ['RSA-OAEP', 'A128GCM'], ['RSA-OAEP', 'A256GCM'], ['RSA-OAEP-256', 'A192GCM'], ['RSA-OAEP-256', 'A256GCM'],
] as const)('%s with %s', (alg, enc) => {
  test.each([16, 24, 32])('a secret of %d bytes, RAW and as JWK', async (bytes) => {
    const value = randomBytes(bytes);
    for (const [format, content] of [['RAW', value], ['JWK', Buffer.from(JSON.stringify({ kty: 'oct', k: value.toString('base64url') }))]] as const) {
      const { path, json } = created(await importWrapped(await seal(content, alg, enc), format));
      expect(json).toMatchObject({ type: 'oct', size: bytes * 8, class: 'SECRET_KEY', operations: ['encrypt', 'decrypt'] });
      const { ciphertext } = (await admin.post(`${path}/encrypt`, { plaintext: base64(MESSAGE) })).json as { ciphertext: string };
      expect(Buffer.from((await compactDecrypt(ciphertext, value)).plaintext)).toEqual(MESSAGE);
    }
  });
});

test('RSA1_5, which jose does not make, where the vault allows it', async () => {
  const [value, contentKey, iv] = [randomBytes(32), randomBytes(32), randomBytes(12)];
  const key = { key: createPublicKey({ key: transportJwk as JsonWebKey, format: 'jwk' }), padding: constants.RSA_PKCS1_PADDING };
  const header = Buffer.from(JSON.stringify({ alg: 'RSA1_5', enc: 'A256GCM' })).toString('base64url');
  const cipher = createCipheriv('aes-256-gcm', contentKey, iv).setAAD(Buffer.from(header));
  const body = Buffer.concat([cipher.update(value), cipher.final()]);
  const parts = [publicEncrypt(key, contentKey), iv, body, cipher.getAuthTag()].map((part) => part.toString('base64url'));
  const { path } = created(await importWrapped([header, ...parts].join('.'), 'RAW'));
  const { ciphertext } = (await admin.post(`${path}/encrypt`, { plaintext: base64(MESSAGE) })).json as { ciphertext: string };
  expect(Buffer.from((await compactDecrypt(ciphertext, value)).plaintext)).toEqual(MESSAGE);
});

const pairs: readonly [string, { publicKey: KeyObject; privateKey: KeyObject }, string, string, readonly string[]][] = [
  ['RSA 2048', generateKeyPairSync('rsa', { modulusLength: 2048 }), 'RS256', 'sha256', ['PKCS1', 'PKCS8', 'JWK']],
  ['RSA 3072', generateKeyPairSync('rsa', { modulusLength: 3072 }), 'RS384', 'sha384', ['PKCS8']],
  ['P-256', generateKeyPairSync('ec', { namedCurve: 'P-256' }), 'ES256', 'sha256', ['PKCS8', 'JWK']],
  ['P-521', generateKeyPairSync('ec', { namedCurve: 'P-521' }), 'ES512', 'sha512', ['PKCS8', 'JWK']],
];

test.each(pairs)('%s in each form it has', async (_name, { publicKey, privateKey }, alg, hash, formats) => {
  for (const format of formats) {
    const { path, json, id } = created(await importWrapped(await seal(inForm(privateKey, format)), format));
    expect(json).toMatchObject({ class: 'KEY_PAIR', operations: ['sign', 'verify'], keys: [{ kid: id, ...publicKey.export({ format: 'jwk' }) }] });
    const signed = await admin.post(`${path}/sign`, { message: base64(MESSAGE), alg });
    const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
    expect(verifyOutside(hash, MESSAGE, key, Buffer.from(signed.json.signature as string, 'base64'))).toBe(true);
  }
});

function inForm(key: KeyObject, format: string): Buffer {
  if (format === 'JWK') return Buffer.from(JSON.stringify(key.export({ format: 'jwk' })));
  return format === 'PKCS1' ? key.export({ format: 'der', type: 'pkcs1' }) : key.export({ format: 'der', type: 'pkcs8' });
}

test('usages come from the JWK, else from operations; the id and the name from the body', async () => {
  const id = randomUUID();
  const value = randomBytes(32);
  const wraps = Buffer.from(JSON.stringify({ kty: 'oct', k: value.toString('base64url'), key_ops: ['wrapKey', 'unwrapKey'] }));
  expect(created(await importWrapped(await seal(wraps), 'JWK', { id, operations: ['encrypt'] })).json.operations).toEqual(['wrapKey', 'unwrapKey']);
  expect(created(await importWrapped(await seal(value), 'RAW', { operations: OCT.operations })).json.operations).toEqual(OCT.operations);
  expectRefusal(await importWrapped(await seal(value), 'RAW', { id }), 'conflict');
});

test('both keys are in the audit: the one that opened, and the one that came', async () => {
  const answer = await importWrapped(await seal(randomBytes(16)), 'RAW');
  const { id } = created(answer);
  const records = auditRecords(kms).filter(({ requestId }) => requestId === answer.headers['x-request-id']);
  expect(records.map(({ event, key, result, algorithm }) => ({ event, key, result, algorithm }))).toEqual([
    { event: 'key.unwrap', key: transportId, result: 'success', algorithm: 'RSA-OAEP-256' },
    { event: 'key.import', key: id, result: 'success', algorithm: 'oct' },
  ]);
});

describe('what is refused leaves nothing on the token', () => {
  async function refused(answer: Promise<Answer>, word: string, cause: 'invalid-field' | 'decryption-failed' | 'wrong-usage' | 'not-found' | 'wrong-state' = 'invalid-field'): Promise<Answer> {
    const before = objectsOnToken(kms);
    const refusal = await answer;
    expectRefusal(refusal, cause, word);
    expect(objectsOnToken(kms)).toBe(before);
    return refusal;
  }

  const AT = 'wrappedKeys.0.ciphertext';

  test('whatever does not open: one and the same answer', async () => {
    const good = await seal(randomBytes(32));
    const other = await publicJwkOf(await makeKey(admin, TRANSPORT));
    const parts = good.split('.');
    const changed = (index: number): string => parts.map((part, at) => {
      if (at !== index) return part;
      const bytes = Buffer.from(part, 'base64url');
      bytes[bytes.length >> 1]! ^= 1;
      return bytes.toString('base64url');
    }).join('.');
    const texts = [
      ...[1, 2, 3, 4].map(changed),
      await seal(randomBytes(32), 'RSA-OAEP-256', 'A256GCM', other),
      await seal(randomBytes(32), 'RSA-OAEP', 'A256GCM', other),
      [parts[0], randomBytes(256).toString('base64url'), ...parts.slice(2)].join('.'),
      [parts[0], randomBytes(16).toString('base64url'), ...parts.slice(2)].join('.'),
      [parts[0], '', ...parts.slice(2)].join('.'),
      // Another header is another AAD, and here also another length of the content key.
      [Buffer.from(JSON.stringify({ alg: 'RSA-OAEP-256', enc: 'A128GCM' })).toString('base64url'), ...parts.slice(1)].join('.'),
      [Buffer.from(JSON.stringify({ alg: 'RSA1_5', enc: 'A256GCM' })).toString('base64url'), ...parts.slice(1)].join('.'),
    ];
    const bodies = new Set<string>();
    for (const text of texts) {
      bodies.add(JSON.stringify(withoutRequestId(await refused(importWrapped(text, 'RAW'), '', 'decryption-failed'))));
    }
    expect(bodies.size).toBe(1);
  });

  test.each<[string, () => Promise<string>, string, object?]>([
    ['four parts', async () => (await seal(randomBytes(32))).split('.').slice(1).join('.'), AT],
    ['no base64url', async () => `${await seal(randomBytes(32))}=`, AT],
    ['a header that is no JSON', async () => ['AAAA', ...(await seal(randomBytes(32))).split('.').slice(1)].join('.'), AT],
    ['another content encryption', () => seal(randomBytes(32), 'RSA-OAEP', 'A128CBC-HS256'), AT],
    ['another algorithm', () => seal(randomBytes(32), 'RSA-OAEP-512'), AT],
    ['another size beside it', () => seal(randomBytes(32)), 'size', { size: 128 }],
    ['another type beside it', () => seal(randomBytes(32)), 'type', { type: 'RSA' }],
    ['keys beside it', () => seal(randomBytes(32)), 'wrappedKeys', { keys: [{ kty: 'oct', k: 'A'.repeat(22) }] }],
    ['usages of another kind', () => seal(randomBytes(32)), 'operations', { operations: ['sign'] }],
    ['extractable', () => seal(randomBytes(32)), 'extractable', { extractable: true }],
  ])('%s', async (_name, text, word, more = {}) => { await refused(importWrapped(await text(), 'RAW', more), word); });

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = privateKey.export({ format: 'jwk' });
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  test.each<[string, string, Uint8Array]>([
    ['RAW of 20 bytes', 'RAW', randomBytes(20)],
    ['RAW of no bytes', 'RAW', new Uint8Array()],
    ['PKCS1 of an EC key', 'PKCS1', inForm(privateKey, 'PKCS8')],
    ['PKCS8 that is noise', 'PKCS8', randomBytes(120)],
    ['PKCS8 of a curve of others', 'PKCS8', inForm(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey, 'PKCS8')],
    ['PKCS8 of Ed25519', 'PKCS8', inForm(generateKeyPairSync('ed25519').privateKey, 'PKCS8')],
    ['JWK that is no JSON', 'JWK', randomBytes(32)],
    ['JWK that is a list', 'JWK', json([jwk])],
    ['JWK with another point', 'JWK', json({ ...jwk, x: jwk.y })],
    ['JWK with usages of another kind', 'JWK', json({ ...jwk, key_ops: ['encrypt'] })],
    ['JWK with a member twice', 'JWK', Buffer.from(`{"kty":"oct","k":"${'A'.repeat(22)}","k":"${'B'.repeat(22)}"}`)],
  ])('%s', async (_name, format, content) => { await refused(importWrapped(await seal(content), format), AT); });

  test('a transport key that is none', async () => {
    const text = await seal(randomBytes(32));
    await refused(importWrapped(text, 'RAW', {}, UNKNOWN_ID), '', 'not-found');
    await refused(importWrapped(text, 'RAW', {}, await makeKey(admin, RSA)), 'unwrapKey', 'wrong-usage');
    await refused(importWrapped(text, 'RAW', {}, await makeKey(admin, OCT)), 'RSA', 'wrong-usage');
    const gone = await makeKey(admin, TRANSPORT);
    expect((await admin.post(`/servicekey/${gone}/deactivate`, {})).status).toBe(204);
    await refused(importWrapped(text, 'RAW', {}, gone), 'deactivated', 'wrong-state');
  });

  test.each<[string, object]>([
    ['no format', { wrappingKeyId: UNKNOWN_ID, ciphertext: 'a' }],
    ['an unknown format', { keyFormatType: 'PEM', wrappingKeyId: UNKNOWN_ID, ciphertext: 'a' }],
    ['an id that is no UUID', { keyFormatType: 'RAW', wrappingKeyId: 'mine', ciphertext: 'a' }],
    ['no ciphertext', { keyFormatType: 'RAW', wrappingKeyId: UNKNOWN_ID }],
    ['a long ciphertext', { keyFormatType: 'RAW', wrappingKeyId: UNKNOWN_ID, ciphertext: 'a'.repeat(5001) }],
  ])('%s', async (_name, wrapped) => {
    await refused(admin.post('/servicekey', { name: 'wrapped', wrappedKeys: [wrapped] }), 'wrappedKeys.0.');
  });

  test('none, and two', async () => {
    await refused(admin.post('/servicekey', { name: 'wrapped', wrappedKeys: [] }), 'wrappedKeys');
    const wrapped = { keyFormatType: 'RAW', wrappingKeyId: transportId, ciphertext: await seal(randomBytes(32)) };
    await refused(admin.post('/servicekey', { name: 'wrapped', wrappedKeys: [wrapped, wrapped] }), 'wrappedKeys');
  });
});

describe('wrapped export', () => {
  const query = (more: object): string => String(new URLSearchParams({ wrappedKeyFormat: 'JWK', wrappingAlgorithm: 'RSA-OAEP-256', ...more }));

  test('is refused: no key is extractable', async () => {
    for (const spec of [OCT, RSA, TRANSPORT]) {
      const id = await makeKey(admin, spec);
      expectRefusal(await admin.get(`/servicekey/${id}?${query({ wrappingKeyId: transportId })}`), 'invalid-field', 'not extractable');
    }
  });

  test('asked for badly is another mistake; a key that is not there stays not there', async () => {
    const path = `/servicekey/${transportId}`;
    expectRefusal(await admin.get(`${path}?${query({ wrappingKeyId: 'mine' })}`), 'invalid-field', 'wrappingKeyId');
    expectRefusal(await admin.get(`${path}?${query({ wrappingKeyId: transportId, wrappedKeyFormat: 'PEM' })}`), 'invalid-field', 'wrappedKeyFormat');
    expectRefusal(await admin.get(`${path}?wrappingKeyId=${transportId}&wrappedKeyFormat=RAW`), 'invalid-field', 'wrappingAlgorithm');
    expectRefusal(await admin.get(`/servicekey/${UNKNOWN_ID}?${query({ wrappingKeyId: transportId })}`), 'not-found');
  });
});
