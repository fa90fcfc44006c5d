// Compact JWS and JWT in both directions (okms-rest-api §5.5), against jose.

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compactVerify, decodeProtectedHeader, importJWK, jwtVerify } from 'jose';
import { type Answer, type Client, Installation } from '../../support/installation.ts';
import { base64, expectRefusal, makeKey, OCT } from './support.ts';

let kms: Installation;
let admin: Client;

const SPECS = {
  RSA: { type: 'RSA', size: 2048 },
  'P-256': { type: 'EC', curve: 'P-256' },
  'P-384': { type: 'EC', curve: 'P-384' },
  'P-521': { type: 'EC', curve: 'P-521' },
} as const;
type KeyName = keyof typeof SPECS;

const ROWS: readonly (readonly [alg: string, key: KeyName])[] = [
  ['RS256', 'RSA'], ['RS384', 'RSA'], ['RS512', 'RSA'],
  ['PS256', 'RSA'], ['PS384', 'RSA'], ['PS512', 'RSA'],
  ['ES256', 'P-256'], ['ES384', 'P-384'], ['ES512', 'P-521'],
];

const ids = new Map<KeyName, string>();

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  for (const [name, spec] of Object.entries(SPECS)) ids.set(name as KeyName, await makeKey(admin, spec));
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

const idOf = (key: KeyName): string => ids.get(key) ?? '';
const verify = (key: KeyName, body: object): Promise<Answer> => admin.post(`/servicekey/${idOf(key)}/verify`, body);
const sign = (key: KeyName, format: string, body: object): Promise<Answer> =>
  admin.post(`/servicekey/${idOf(key)}/sign?format=${format}`, body);

async function signed(key: KeyName, format: string, alg: string, message: string | Uint8Array): Promise<string> {
  const { status, json } = await sign(key, format, { message: base64(message), alg });
  expect(status).toBe(200);
  return json.signature as string;
}

async function exported(key: KeyName, alg: string): Promise<CryptoKey | Uint8Array> {
  const { json } = await admin.get(`/servicekey/${idOf(key)}?format=jwk`);
  // `key_ops` are those of the key pair (okms-rest-api §2.5); WebCrypto takes no public key that may sign.
  return importJWK({ ...json.keys[0], key_ops: undefined }, alg);
}

function expectResult({ status, json }: Answer, result: boolean): void {
  expect({ status, json }).toEqual({ status: 200, json: { result } });
}

const encode = (value: string | object): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** A JWS with this header, made of a raw signature. */
async function jwsWith(key: KeyName, alg: string, header: string | object, payload: string): Promise<string> {
  const input = `${encode(header)}.${encode(payload)}`;
  const raw = await signed(key, 'raw', alg, input);
  return `${input}.${Buffer.from(raw, 'base64').toString('base64url')}`;
}

const MESSAGE = 'a message, not a digest';

describe.each(ROWS)('%s with %s', (alg, key) => {
  test('jose verifies a JWS with the exported JWK', async () => {
    const jws = await signed(key, 'jws', alg, MESSAGE);
    const { payload, protectedHeader } = await compactVerify(jws, await exported(key, alg));
    expect(Buffer.from(payload).toString()).toBe(MESSAGE);
    expect(protectedHeader).toEqual({ alg, kid: idOf(key) });
  });

  test('jose verifies a JWT with the exported JWK', async () => {
    const claims = { sub: 'somebody', exp: 4_000_000_000 };
    const jwt = await signed(key, 'jwt', alg, JSON.stringify(claims));
    const { payload, protectedHeader } = await jwtVerify(jwt, await exported(key, alg));
    expect(payload).toEqual(claims);
    expect(protectedHeader).toEqual({ alg, typ: 'JWT', kid: idOf(key) });
  });

  test('a JWS verifies here: by itself, with what agrees with it, and without its payload', async () => {
    const jws = await signed(key, 'jws', alg, MESSAGE);
    const message = base64(MESSAGE);
    expectResult(await verify(key, { signature: jws }), true);
    expectResult(await verify(key, { signature: jws, message, alg, isdigest: false }), true);
    expectResult(await verify(key, { signature: jws, message: null, alg: null, isdigest: null }), true);
    const [header, , signature] = jws.split('.');
    expectResult(await verify(key, { signature: `${header}..${signature}`, message }), true);
    expectResult(await verify(key, { signature: `${header}..${signature}`, message: base64('other') }), false);
  });

  test('another header is honoured, another payload, signature or message is not', async () => {
    expectResult(await verify(key, { signature: await jwsWith(key, alg, { typ: 'x', alg, kid: 'k', more: [1] }, MESSAGE) }), true);
    const [header, payload, signature = ''] = (await signed(key, 'jws', alg, MESSAGE)).split('.');
    expectResult(await verify(key, { signature: `${encode({ alg })}.${payload}.${signature}` }), false);
    expectResult(await verify(key, { signature: `${header}.${encode('another')}.${signature}` }), false);
    const flipped = Buffer.from(signature, 'base64url');
    flipped[20]! ^= 1;
    expectResult(await verify(key, { signature: `${header}.${payload}.${flipped.toString('base64url')}` }), false);
    expectResult(await verify(key, { signature: `${header}.${payload}.${flipped.subarray(1).toString('base64url')}` }), false);
    expectResult(await verify(key, { signature: `${header}.${payload}.` }), false);
    expectResult(await verify(key, { signature: `${header}.${payload}.${signature}`, message: base64('another') }), false);
  });
});

test('the largest message makes a JWS that verifies', async () => {
  const message = Buffer.alloc(4096, 'x');
  const jws = await signed('RSA', 'jws', 'PS512', message);
  expectResult(await verify('RSA', { signature: jws, message: message.toString('base64') }), true);
});

test.each(['jws', 'jwt'])('%s of a digest is refused', async (format) => {
  const body = { message: base64(Buffer.alloc(32)), alg: 'ES256', isdigest: true };
  expectRefusal(await sign('P-256', format, body), 'invalid-field', 'isdigest');
});

test.each(['', '[]', '"text"', '{', '{"a":1,"a":2}', 'null', Buffer.from([0x7b, 0xff, 0x7d])])('a JWT of %j is refused', async (claims) => {
  const message = base64(claims === '' ? ' ' : claims);
  expectRefusal(await sign('P-256', 'jwt', { message, alg: 'ES256' }), 'invalid-field', 'message');
});

test('an algorithm of another key is refused in every format', async () => {
  for (const format of ['raw', 'jws', 'jwt']) {
    expectRefusal(await sign('P-256', format, { message: base64('{}'), alg: 'ES384' }), 'invalid-field', 'alg');
  }
});

describe('a JWS that is none', () => {
  const payload = encode(MESSAGE);
  const header = encode({ alg: 'ES256' });
  const S = 'AAAA';

  test.each([
    ['two parts', `${header}.${payload}`],
    ['four parts', `${header}.${payload}.${S}.${S}`],
    ['a dot', '.'],
    ['an empty header', `.${payload}.${S}`],
    ['padding', `${header}=.${payload}.${S}`],
    ['the other alphabet', `${header}.${payload}.++++`],
    ['loose bits', `${header}.${payload}.AB`],
    ['white space', `${header}.${payload}. ${S}`],
    ['a header that is no JSON', `${encode('{')}.${payload}.${S}`],
    ['a header that is an array', `${encode('[]')}.${payload}.${S}`],
    ['a member twice', `${encode('{"alg":"ES256","alg":"ES256"}')}.${payload}.${S}`],
    ['no alg', `${encode({ kid: 'k' })}.${payload}.${S}`],
    ['an alg that is no text', `${encode({ alg: ['ES256'] })}.${payload}.${S}`],
    ['crit', `${encode({ alg: 'ES256', crit: ['exp'], exp: 1 })}.${payload}.${S}`],
    ['b64', `${encode({ alg: 'ES256', b64: false })}.${payload}.${S}`],
  ])('%s', async (_, signature) => {
    expectRefusal(await verify('P-256', { signature }), 'invalid-field', 'signature');
  });

  test.each(['none', 'HS256', 'ES384', 'RS256', 'es256'])('alg %s in the header', async (alg) => {
    expectRefusal(await verify('P-256', { signature: `${encode({ alg })}.${payload}.${S}` }), 'invalid-field', 'alg');
  });

  test('what is said beside it and does not agree', async () => {
    const jws = await signed('P-256', 'jws', 'ES256', MESSAGE);
    expectRefusal(await verify('P-256', { signature: jws, alg: 'ES384' }), 'invalid-field', 'alg');
    expectRefusal(await verify('P-256', { signature: jws, isdigest: true }), 'invalid-field', 'isdigest');
    const [head, , signature] = jws.split('.');
    expectRefusal(await verify('P-256', { signature: `${head}..${signature}` }), 'invalid-field', 'message');
  });
});

test('a key without the usage does neither', async () => {
  const secret = await makeKey(admin, OCT);
  expectRefusal(await admin.post(`/servicekey/${secret}/sign?format=jws`, { message: 'AAAA', alg: 'ES256' }), 'wrong-usage', 'sign');
  const jws = await signed('P-256', 'jws', 'ES256', MESSAGE);
  expect(decodeProtectedHeader(jws)).toEqual({ alg: 'ES256', kid: idOf('P-256') });
  expectRefusal(await admin.post(`/servicekey/${secret}/verify`, { signature: jws }), 'wrong-usage', 'verify');
});
