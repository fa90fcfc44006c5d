// Import of public keys alone (okms-rest-api §2.3, API 2.16.2): they verify what their owners sign elsewhere.

import { generateKeyPairSync, randomUUID, sign as signOutside } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { CompactSign } from 'jose';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, expectRefusal, objectsOnToken } from './support.ts';

const MESSAGE = Buffer.from('signed elsewhere');

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

const importOne = (jwk: object, more: object = {}, query = ''): Promise<Answer> =>
  admin.post(`/servicekey${query}`, { name: 'public', keys: [jwk], ...more });

async function imported(jwk: object, more: object = {}): Promise<string> {
  const { status, text, json } = await importOne(jwk, more);
  expect({ status, text }).toEqual({ status: 201, text: expect.any(String) });
  return `/servicekey/${json.id as string}`;
}

const verify = (path: string, alg: string, signature: Uint8Array, message: Uint8Array = MESSAGE): Promise<Answer> =>
  admin.post(`${path}/verify`, { alg, message: base64(message), signature: base64(signature) });

function rsa(modulusLength: number, publicExponent = 65537) {
  const pair = generateKeyPairSync('rsa', { modulusLength, publicExponent });
  return { ...pair, jwk: pair.publicKey.export({ format: 'jwk' }) };
}

function ec(namedCurve: string) {
  const pair = generateKeyPairSync('ec', { namedCurve });
  return { ...pair, jwk: pair.publicKey.export({ format: 'jwk' }) };
}

describe.each([
  ['RSA 2048', rsa(2048), 'RS256', 'sha256', { size: 2048 }],
  ['RSA 3072 with exponent 3', rsa(3072, 3), 'RS512', 'sha512', { size: 3072 }],
  ['RSA 4096', rsa(4096), 'RS384', 'sha384', { size: 4096 }],
  ['P-256', ec('P-256'), 'ES256', 'sha256', { curve: 'P-256' }],
  ['P-384', ec('P-384'), 'ES384', 'sha384', { curve: 'P-384' }],
  ['P-521', ec('P-521'), 'ES512', 'sha512', { curve: 'P-521' }],
] as const)('%s', (_name, { privateKey, jwk }, alg, hash, size) => {
  const signature = (): Buffer => signOutside(hash, MESSAGE, { key: privateKey, dsaEncoding: 'ieee-p1363' });

  test('is one public object, verifies, and shows itself as it came', async () => {
    const before = objectsOnToken(kms);
    const id = randomUUID();
    const { status, json } = await importOne(jwk, { id }, '?format=jwk');
    expect({ status, json }).toEqual({
      status: 201,
      json: {
        id, name: 'public', type: jwk.kty, class: 'PUBLIC_KEY', protectionLevel: 'HSM', operations: ['verify'], ...size,
        attributes: expect.objectContaining({
          state: 'active', extractable: false, never_extractable: false, sensitive: false, always_sensitive: false,
        }),
        keys: [{ kid: id, ...jwk, key_ops: ['verify'] }],
      },
    });
    expect(objectsOnToken(kms)).toBe(before + 1);
    const path = `/servicekey/${id}`;
    expect((await verify(path, alg, signature())).json).toEqual({ result: true });
    expect((await verify(path, alg, signature(), Buffer.from('another message'))).json).toEqual({ result: false });
    const jws = await new CompactSign(MESSAGE).setProtectedHeader({ alg }).sign(privateKey);
    expect((await admin.post(`${path}/verify`, { signature: jws })).json).toEqual({ result: true });
    expectRefusal(await admin.post(`${path}/sign`, { alg, message: base64(MESSAGE) }), 'wrong-usage', 'sign');
    expectRefusal(await admin.post(`${path}/datakey`, { size: 256 }), 'wrong-usage');
  });
});

test('lives and dies as other keys do, and is there after a restart', async () => {
  const { privateKey, jwk } = ec('P-256');
  const before = objectsOnToken(kms);
  const path = await imported(jwk);
  const signature = signOutside('sha256', MESSAGE, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  await kms.stop();
  await kms.start();
  expect((await verify(path, 'ES256', signature)).json).toEqual({ result: true });
  expect((await admin.post(`${path}/deactivate`, { reason: 'superseded' })).status).toBe(204);
  expectRefusal(await verify(path, 'ES256', signature), 'wrong-state');
  expect((await admin.post(`${path}/activate`)).status).toBe(204);
  expect((await verify(path, 'ES256', signature)).json).toEqual({ result: true });
  expectRefusal(await admin.call('DELETE', path), 'wrong-state');
  expect((await admin.post(`${path}/deactivate`, {})).status).toBe(204);
  expect((await admin.call('DELETE', path)).status).toBe(204);
  expectRefusal(await admin.get(path), 'not-found');
  expect(objectsOnToken(kms)).toBe(before);
  const id = path.split('/').at(-1);
  const listed = (await admin.get('/servicekey?state=destroyed')).json.objects_list as { id: string; class: string }[];
  expect(listed.find((key) => key.id === id)).toMatchObject({ class: 'PUBLIC_KEY' });
});

test('its usages: key_ops, else operations, else use, else verify', async () => {
  const { jwk } = rsa(2048);
  const operations = async (more: object, beside: object = {}): Promise<unknown> => (await importOne({ ...jwk, ...more }, beside)).json.operations;
  expect(await operations({ key_ops: ['wrapKey', 'verify'] })).toEqual(['verify', 'wrapKey']);
  expect(await operations({}, { operations: ['wrapKey'] })).toEqual(['wrapKey']);
  expect(await operations({ use: 'enc' })).toEqual(['wrapKey']);
  expect(await operations({ use: 'sig' })).toEqual(['verify']);
  expect(await operations({ key_ops: [] })).toEqual(['verify']);
});

describe('what is refused leaves nothing on the token', () => {
  const { jwk: rsaJwk } = rsa(2048);
  const { jwk: ecJwk } = ec('P-384');
  const flipped = (text: string | undefined): string => {
    const bytes = Buffer.from(text ?? '', 'base64url');
    bytes[bytes.length - 1]! ^= 0x02;
    return bytes.toString('base64url');
  };
  const small = (e: number): string => Buffer.from([e]).toString('base64url');

  test.each<[string, object, string, object?]>([
    ['sign', { ...ecJwk, key_ops: ['sign', 'verify'] }, 'keys.0.key_ops'],
    ['sign beside it', ecJwk, 'operations', { operations: ['sign'] }],
    ['wrapKey for EC', { ...ecJwk, key_ops: ['wrapKey'] }, 'keys.0.key_ops'],
    ['encryption for EC', { ...ecJwk, use: 'enc' }, 'keys.0.use'],
    ['a prime without the exponent', { ...rsaJwk, p: 'AQAB' }, 'keys.0.d'],
    ['a point off its curve, by x', { ...ecJwk, x: flipped(ecJwk.x) }, 'keys.0.x'],
    ['a point off its curve, by y', { ...ecJwk, y: flipped(ecJwk.y) }, 'keys.0.x'],
    ['no y', { ...ecJwk, y: undefined }, 'keys.0.y'],
    ['exponent 1', { ...rsaJwk, e: small(1) }, 'keys.0.e'],
    ['exponent 4', { ...rsaJwk, e: small(4) }, 'keys.0.e'],
    ['an even modulus', { ...rsaJwk, n: Buffer.concat([Buffer.from(rsaJwk.n ?? '', 'base64url').subarray(0, 255), Buffer.from([2])]).toString('base64url') }, 'keys.0.n'],
    ['a modulus of 1024 bits', rsa(1024).jwk, 'keys.0.n'],
    ['an alg of another kind', { ...ecJwk, alg: 'RS256' }, 'keys.0.alg'],
    ['another size beside it', rsaJwk, 'size', { size: 4096 }],
    ['extractable', rsaJwk, 'extractable', { extractable: true }],
  ])('%s', async (_name, jwk, word, more = {}) => {
    const before = objectsOnToken(kms);
    expectRefusal(await importOne(jwk, more), 'invalid-field', word);
    expect(objectsOnToken(kms)).toBe(before);
  });
});
