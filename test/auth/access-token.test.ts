// Access tokens (RFC 7519; security S-12): what is no token of the issuer that holds now says nothing, whatever is wrong.

import { createHmac, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { base64url, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { readAccessToken, type TokenFacts, type TokenIssuer } from '../../src/auth/access-token.ts';

const NOW = 1_800_000_000;
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** The issuer with these keys. */
function holding(keys: ReadonlyMap<string, KeyObject>): TokenIssuer {
  return {
    iss: 'https://localhost:8443/one/v2.0',
    name: 'urn:kms:one',
    audiences: ['https://localhost:8443', 'https://localhost:8443/'],
    algorithms: ['ES256'],
    keyOf: async ({ kid }) => keys.get(kid) ?? Promise.reject(new Error('unknown kid')),
    rules: { subject: 'sub', id: 'jti', groups: null, roles: null, required: {}, skew: 5, lifetimeMax: 3600 },
  };
}
const ISSUER = holding(new Map([['key-1', pair.publicKey]]));

const CLAIMS: JWTPayload = {
  iss: ISSUER.iss, aud: 'https://localhost:8443', sub: 'alice', jti: randomUUID(), iat: NOW, nbf: NOW, exp: NOW + 600,
};

/** @param claims undefined members are left out */
function sign(claims: object = {}, header: object = {}, key: KeyObject = pair.privateKey): Promise<string> {
  const payload = JSON.parse(JSON.stringify({ ...CLAIMS, ...claims })) as JWTPayload;
  return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'key-1', ...header }).sign(key);
}

/** @returns undefined for a refusal, whose words are the same whatever is wrong */
async function read(token: string, seconds = NOW + 1, issuer: TokenIssuer = ISSUER): Promise<TokenFacts | undefined> {
  try {
    return await readAccessToken(token, [issuer], seconds * 1000);
  } catch (error) {
    expect(error).toMatchObject({ code: 'unauthenticated', message: 'the access token does not hold', rule: expect.stringMatching(/^token-/) });
    return undefined;
  }
}

test('a token of the issuer tells subject, id and end', async () => {
  expect(await read(await sign())).toEqual({ issuer: 'urn:kms:one', subject: 'alice', memberships: [], id: CLAIMS.jti, notAfterMs: (NOW + 600) * 1000 });
  expect(await read(await sign({ aud: ['https://elsewhere', 'https://localhost:8443/'] }))).toMatchObject({ subject: 'alice' });
  expect(await read(await sign({ exp: NOW + 3600 }))).toMatchObject({ subject: 'alice' });
});

test('clocks may differ by five seconds, and no more', async () => {
  const token = await sign();
  expect(await read(token, NOW - 5)).toBeDefined();
  expect(await read(token, NOW - 6)).toBeUndefined();
  expect(await read(token, NOW + 604)).toBeDefined();
  expect(await read(token, NOW + 605)).toBeUndefined();
});

describe('refused', () => {
  test.each<[string, object]>([
    ['no subject', { sub: undefined }], ['an empty subject', { sub: '' }], ['a subject that is a number', { sub: 7 }],
    ['a subject with a line break', { sub: 'a\nb' }], ['a long subject', { sub: 'a'.repeat(257) }],
    ['no id', { jti: undefined }], ['no end', { exp: undefined }], ['no beginning', { nbf: undefined }], ['no time of issue', { iat: undefined }],
    ['another issuer', { iss: 'https://localhost:8443/two/v2.0' }], ['no issuer', { iss: undefined }], ['an issuer with a slash', { iss: `${ISSUER.iss}/` }],
    ['another audience', { aud: 'https://localhost:8444' }], ['no audience', { aud: undefined }], ['an audience that begins so', { aud: 'https://localhost:8443.example' }],
    ['a life of more than an hour', { exp: NOW + 3601 }], ['an end before the beginning', { exp: NOW, iat: NOW + 1 }],
    ['an end in words', { exp: 'tomorrow' }], ['an issue in the future', { iat: NOW + 1000, exp: NOW + 1600 }],
  ])('%s', async (_name, claims) => { expect(await read(await sign(claims))).toBeUndefined(); });

  test.each<[string, object]>([
    ['an unknown kid', { kid: 'key-2' }], ['no kid', { kid: undefined }], ['a kid that is a path', { kid: '../../etc/passwd' }],
    ['a kid that is a question', { kid: "' or 1=1 --" }], ['an unknown critical extension', { crit: ['exp'], exp: 1 }],
  ])('%s', async (_name, header) => { expect(await read(await sign({}, header).catch(() => 'a.b.c'))).toBeUndefined(); });

  test('a key that the token brings along', async () => {
    const jwk = other.publicKey.export({ format: 'jwk' });
    for (const header of [{ jwk }, { jku: 'https://localhost/keys' }, { x5u: 'https://localhost/chain' }, { jwk, kid: undefined }]) {
      expect(await read(await sign({}, header, other.privateKey))).toBeUndefined();
    }
    // Beside the right signature they are not looked at.
    expect(await read(await sign({}, { jwk }))).toMatchObject({ subject: 'alice' });
  });

  test('another algorithm', async () => {
    const wrong = new SignJWT(CLAIMS).setProtectedHeader({ alg: 'RS256', kid: 'key-1' }).sign(rsa.privateKey);
    expect(await read(await wrong)).toBeUndefined();
    expect(await read(new UnsecuredJWT(CLAIMS).encode())).toBeUndefined();
    for (const alg of ['none', 'None', 'NONE', '']) expect(await read(handMade({ alg, kid: 'key-1' }, ''))).toBeUndefined();
  });

  test('HS256 with the public key, or with no key, as the secret', async () => {
    const pem = pair.publicKey.export({ format: 'pem', type: 'spki' });
    const der = createPublicKey(pem).export({ format: 'der', type: 'spki' });
    for (const secret of [pem, der, '']) {
      expect(await read(handMade({ alg: 'HS256', kid: 'key-1' }, secret))).toBeUndefined();
      const rs = holding(new Map([['key-1', rsa.publicKey]]));
      expect(await read(handMade({ alg: 'HS256', kid: 'key-1' }, secret), NOW + 1, rs)).toBeUndefined();
    }
  });

  test('a changed part, a missing one, one too many, an encrypted one, a long one', async () => {
    const token = await sign();
    const [header = '', payload = '', signature = ''] = token.split('.');
    const flipped = Buffer.from(signature, 'base64url');
    flipped[5]! ^= 1;
    const more = Buffer.from(JSON.stringify({ ...CLAIMS, sub: 'root' })).toString('base64url');
    for (const text of [
      `${header}.${more}.${signature}`, `${header}.${payload}.${flipped.toString('base64url')}`, `${header}.${payload}`, `${header}.${payload}.`,
      `${token}.`, `${header}..${payload}.${signature}.x`, `.${payload}.${signature}`, '', '..', ` ${token}`, `${token}=`,
    ]) expect([text, await read(text)]).toEqual([text, undefined]);
    expect(await read(await sign({ more: 'x'.repeat(8000) }))).toBeUndefined();
  });

  test('a signature by another key, and an issuer whose key is of another kind', async () => {
    expect(await read(await sign({}, {}, other.privateKey))).toBeUndefined();
    expect(await read(await sign(), NOW + 1, holding(new Map([['key-1', rsa.publicKey]])))).toBeUndefined();
    expect(await read(await sign(), NOW + 1, holding(new Map()))).toBeUndefined();
  });
});

function handMade(header: { readonly alg: string; readonly kid: string }, secret: string | Buffer): string {
  const input = [header, CLAIMS].map((part) => base64url.encode(JSON.stringify(part))).join('.');
  return `${input}.${header.alg === 'HS256' ? createHmac('sha256', secret).update(input).digest('base64url') : ''}`;
}
