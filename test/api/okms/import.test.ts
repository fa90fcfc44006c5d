// Import of JWKs (okms-rest-api §2.3). Keys are made by node:crypto, as clients send them: integers without their leading
// zeros. What the token then does with them is checked with the other half, outside.

import {
  createDecipheriv, createPrivateKey, createPublicKey, generateKeyPair, generateKeyPairSync, type JsonWebKey, randomBytes,
  randomUUID, sign as signOutside, verify as verifyOutside,
} from 'node:crypto';
import { promisify } from 'node:util';
import { describe, expect, jest, test } from '@jest/globals';
import { base64url, CompactEncrypt, compactDecrypt, CompactSign, importJWK } from 'jose';
import { times } from '../../support/form.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, EC, expectRefusal, inTurns, makeKey, OCT, objectsOnToken } from './support.ts';

/** Hundreds of keys, each of which passes its self-tests in the token. */
jest.setTimeout(600_000);

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

const importOne = (jwk: object, more: object = {}, query = ''): Promise<Answer> =>
  admin.post(`/servicekey${query}`, { name: 'imported', keys: [jwk], ...more });

async function imported(jwk: object, more: object = {}): Promise<string> {
  const { status, text, json } = await importOne(jwk, more);
  expect({ status, text }).toEqual({ status: 201, text: expect.any(String) });
  return `/servicekey/${json.id as string}`;
}

/** A full token is a slow one: each creation looks through all of it. */
async function destroy(path: string): Promise<void> {
  expect((await admin.post(`${path}/deactivate`, {})).status).toBe(204);
  expect((await admin.call('DELETE', path)).status).toBe(204);
}

/** Through an integer, as a client in Go does it. */
function stripped<T extends object>(jwk: T): T {
  const strip = (text: string): string => {
    const bytes = Buffer.from(text, 'base64url');
    const start = bytes.findIndex((byte) => byte !== 0);
    return bytes.subarray(start).toString('base64url');
  };
  return Object.fromEntries(Object.entries(jwk).map(([name, value]) => [name, NUMBERS.has(name) ? strip(value as string) : (value as unknown)])) as T;
}

const NUMBERS: ReadonlySet<string> = new Set(['k', 'n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'x', 'y']);
const MESSAGE = Buffer.from('signed by an imported key');

describe.each([
  ['P-256', times(10, 200), 'ES256', 'sha256'], ['P-384', times(5, 10), 'ES384', 'sha384'], ['P-521', times(10, 200), 'ES512', 'sha512'],
] as const)('EC %s', (curve, count, alg, hash) => {
  test(`${count} keys, with lost zeros among them, sign and verify`, async () => {
    const pairs = ecPairs(curve, count);
    await inTurns(pairs, async ({ jwk }) => {
      const path = await imported(stripped(jwk));
      const { status, json } = await admin.post(`${path}/sign`, { message: base64(MESSAGE), alg });
      expect(status).toBe(200);
      const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
      const outside = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const;
      expect(verifyOutside(hash, MESSAGE, outside, Buffer.from(json.signature as string, 'base64'))).toBe(true);
      const mine = signOutside(hash, MESSAGE, { key: createPrivateKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' });
      expect((await admin.post(`${path}/verify`, { message: base64(MESSAGE), alg, signature: base64(mine) })).json).toEqual({ result: true });
      await destroy(path);
    });
  });
});

/** Among the first are some that lose zeros in each member. */
function ecPairs(namedCurve: string, count: number): readonly { readonly jwk: JsonWebKey }[] {
  const make = (): JsonWebKey => generateKeyPairSync('ec', { namedCurve }).privateKey.export({ format: 'jwk' });
  const short = (['d', 'x', 'y'] as const).map((member) => {
    for (;;) {
      const jwk = make();
      if (Buffer.from(jwk[member] ?? '', 'base64url')[0] === 0) return { jwk };
    }
  });
  return [...short, ...Array.from({ length: count - short.length }, () => ({ jwk: make() }))];
}

describe.each([[2048, times(6, 200)], [3072, times(2, 10)], [4096, times(2, 10)]] as const)('RSA %d', (modulusLength, count) => {
  test(`${count} keys sign and verify`, async () => {
    const pairs = await Promise.all(Array.from({ length: count }, () => promisify(generateKeyPair)('rsa', { modulusLength })));
    await inTurns(pairs, async ({ privateKey, publicKey }) => {
      const path = await imported(stripped(privateKey.export({ format: 'jwk' })));
      const { status, json } = await admin.post(`${path}/sign`, { message: base64(MESSAGE), alg: 'RS256' });
      expect(status).toBe(200);
      expect(verifyOutside('sha256', MESSAGE, publicKey, Buffer.from(json.signature as string, 'base64'))).toBe(true);
      const mine = signOutside('sha256', MESSAGE, privateKey);
      expect((await admin.post(`${path}/verify`, { message: base64(MESSAGE), alg: 'RS256', signature: base64(mine) })).json).toEqual({ result: true });
      await destroy(path);
    });
  });
});

describe.each([16, 24, 32])('oct of %d bytes', (bytes) => {
  const count = times(12, 200);
  test(`${count} keys, with lost zeros among them: jose opens what they encrypt, and the reverse`, async () => {
    const [two, one] = [count / 20, count / 10];
    const values = Array.from({ length: count }, (_, index) => {
      const value = randomBytes(bytes);
      if (index < one) value[0] = 0;
      if (index < two) value[1] = 0;
      if (index < one) value[index < two ? 2 : 1] = 1;
      return value;
    });
    await inTurns(values, async (value) => {
      const path = await imported(stripped({ kty: 'oct', k: value.toString('base64url') }));
      const { json } = await admin.post(`${path}/encrypt`, { plaintext: base64(MESSAGE) });
      const { plaintext, protectedHeader } = await compactDecrypt(json.ciphertext as string, value);
      expect(Buffer.from(plaintext)).toEqual(MESSAGE);
      const theirs = await new CompactEncrypt(MESSAGE).setProtectedHeader(protectedHeader).encrypt(value);
      expect(await opened(`${path}/decrypt`, { ciphertext: theirs })).toEqual(MESSAGE);
      await destroy(path);
    });
  });
});

async function opened(path: string, body: object): Promise<Buffer> {
  const { status, json } = await admin.post(path, body);
  expect(status).toBe(200);
  return Buffer.from(json.plaintext as string, 'base64');
}

test('a data key of an imported key never opens as a ciphertext, nor the reverse, whoever made it', async () => {
  const value = randomBytes(32);
  const path = await imported({ kty: 'oct', k: value.toString('base64url'), key_ops: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] });
  const { key, plaintext } = (await admin.post(`${path}/datakey`, { size: 256 })).json as { key: string; plaintext: string };
  const { ciphertext } = (await admin.post(`${path}/encrypt`, { plaintext: base64(MESSAGE) })).json as { ciphertext: string };
  expectRefusal(await admin.post(`${path}/decrypt`, { ciphertext: key }), 'decryption-failed');
  expectRefusal(await admin.post(`${path}/decrypt`, { ciphertext: key, context: 'datakey' }), 'decryption-failed');
  expectRefusal(await admin.post(`${path}/datakey/decrypt`, { key: ciphertext }), 'decryption-failed');
  await expect(compactDecrypt(key, value)).rejects.toThrow();
  expect((await opened(`${path}/datakey/decrypt`, { key })).toString('base64')).toBe(plaintext);
  // The same value, and the AAD of integrity §1: only this opens it.
  const [header = '', , iv = '', body = '', tag = ''] = key.split('.');
  // Nor does the other door: its callers choose the AAD.
  const sealed = { alg: 'A256GCM', value: body, iv, tag, aad: Buffer.from(`${header}~datakey`).toString('base64url') };
  for (const name of [path.split('/').at(-1) ?? '', `${path.split('/').at(-1) ?? ''}/0`]) {
    const answer = await admin.post(`https://localhost:${kms.port}/keys/${name}/decrypt?api-version=7.4`, sealed);
    expect([answer.status >= 400 && answer.status < 500, answer.text.includes(Buffer.from(plaintext, 'base64').toString('base64url'))]).toEqual([true, false]);
  }
  const decipher = createDecipheriv('aes-256-gcm', value, base64url.decode(iv));
  decipher.setAAD(Buffer.from(`${header}~datakey`)).setAuthTag(Buffer.from(base64url.decode(tag)));
  expect(Buffer.concat([decipher.update(base64url.decode(body)), decipher.final()]).toString('base64')).toBe(plaintext);
});

test.each([['RS256', 'rsa'], ['PS384', 'rsa'], ['ES256', 'P-256'], ['ES384', 'P-384'], ['ES512', 'P-521']])('a JWS that jose made with %s verifies', async (alg, kind) => {
  const { privateKey } = kind === 'rsa' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: kind });
  const jwk = privateKey.export({ format: 'jwk' });
  const path = await imported(jwk);
  const jws = await new CompactSign(MESSAGE).setProtectedHeader({ alg, kid: 'theirs' }).sign(await importJWK(jwk, alg));
  expect((await admin.post(`${path}/verify`, { signature: jws })).json).toEqual({ result: true });
  expect((await admin.post(`${path}/verify`, { signature: jws, message: base64('other') })).json).toEqual({ result: false });
});

describe('what is refused leaves nothing on the token', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ format: 'jwk' });
  const members = (jwk: JsonWebKey): string[] => Object.keys(jwk).filter((name) => NUMBERS.has(name));

  async function refused(jwk: object, word: string, more: object = {}): Promise<void> {
    const before = objectsOnToken(kms);
    expectRefusal(await importOne(jwk, more), 'invalid-field', word);
    expect(objectsOnToken(kms)).toBe(before);
  }

  test('the count sees an object that is made', async () => {
    const before = objectsOnToken(kms);
    await imported(ec);
    expect(objectsOnToken(kms)).toBe(before + 2);
  });

  test.each([...members(rsa).map((name) => [name, rsa] as const), ...members(ec).map((name) => [name, ec] as const)])('one bit of %s', async (name, jwk) => {
    const bytes = Buffer.from(jwk[name as 'n'] ?? '', 'base64url');
    for (const at of [0, bytes.length >> 1, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped[at]! ^= at === 0 ? 0x01 : 0x10;
      await refused({ ...jwk, [name]: flipped.toString('base64url') }, 'keys.0.');
    }
  });

  test.each([0, 1, 8, 13, 17, 20, 21, 25, 28, 29, 33, 64])('oct of %d bytes', async (length) => {
    await refused({ kty: 'oct', k: randomBytes(length).toString('base64url') }, 'keys.0.k');
  });

  const oct = { kty: 'oct', k: randomBytes(32).toString('base64url') };
  test.each<[string, object, string, object?]>([
    ['no member of its kind', { kty: 'EC', crv: 'P-256', d: 'AAAA', k: oct.k }, 'keys.0.x'],
    ['no primes', { ...rsa, p: undefined, q: undefined }, 'keys.0.p'],
    ['three primes', { ...rsa, oth: [{}] }, 'keys.0.oth'],
    ['another curve', { ...ec, crv: 'P-256' }, 'keys.0.'],
    ['an unknown curve', { ...ec, crv: 'secp256k1' }, 'keys.0.crv'],
    ['an unknown type', { ...oct, kty: 'OKP' }, 'keys.0.kty'],
    ['padding', { ...oct, k: `${oct.k}=` }, 'keys.0.k'],
    ['usages of another kind', { ...oct, key_ops: ['sign'] }, 'keys.0.key_ops'],
    ['use of another kind', { ...ec, use: 'enc' }, 'keys.0.use'],
    ['an alg of another kind', { ...ec, alg: 'RS256' }, 'keys.0.alg'],
    ['an alg of another size', { ...oct, alg: 'A128GCM' }, 'keys.0.alg'],
    ['another type beside it', oct, 'type', { type: 'EC' }],
    ['another size beside it', oct, 'size', { size: 128 }],
    ['another curve beside it', ec, 'curve', { curve: 'P-256' }],
    ['two keys', oct, 'keys', { keys: [oct, oct] }],
    ['no key', oct, 'keys', { keys: [] }],
    ['extractable', oct, 'extractable', { extractable: true }],
  ])('%s', async (_, jwk, word, more = {}) => { await refused(jwk, word, more); });

  test('a small exponent, and a modulus of 1024 bits', async () => {
    await refused(generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 }).privateKey.export({ format: 'jwk' }), 'keys.0.e');
    await refused(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey.export({ format: 'jwk' }), 'keys.0.n');
  });

  test('an id that is in use, or was', async () => {
    const id = await makeKey(admin, EC);
    const before = objectsOnToken(kms);
    expectRefusal(await importOne(ec, { id }), 'conflict');
    await destroy(`/servicekey/${id}`);
    expectRefusal(await importOne(ec, { id }), 'conflict');
    expect(objectsOnToken(kms)).toBe(before - 2);
  });
});

test('usages: key_ops, else operations, else use, else the default; an id of the caller; the public JWK', async () => {
  const oct = { kty: 'oct', k: randomBytes(32).toString('base64url'), kid: 'a label' };
  const operations = async (jwk: object, more: object = {}): Promise<unknown> => (await importOne(jwk, more)).json.operations;
  expect(await operations({ ...oct, key_ops: ['wrapKey'] }, { operations: ['encrypt'] })).toEqual(['wrapKey']);
  expect(await operations({ ...oct, key_ops: [] }, { operations: OCT.operations })).toEqual(OCT.operations);
  expect(await operations({ ...oct, use: 'enc', key_ops: null })).toEqual(['encrypt', 'decrypt']);
  expect(await operations(oct)).toEqual(['encrypt', 'decrypt']);
  const id = randomUUID();
  const answer = await importOne(oct, { id, type: 'oct', size: 256 }, '?format=jwk');
  expect({ status: answer.status, json: answer.json }).toEqual({
    status: 201,
    json: expect.objectContaining({
      id, name: 'imported', type: 'oct', size: 256, class: 'SECRET_KEY',
      attributes: expect.objectContaining({ state: 'active', never_extractable: false, always_sensitive: false }),
      keys: [{ kid: id, kty: 'oct', key_ops: ['encrypt', 'decrypt'] }],
    }),
  });
});
