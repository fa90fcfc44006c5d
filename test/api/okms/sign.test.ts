// Signatures (okms-rest-api §5.5), each checked by node:crypto and jose under the key's exported public half.

import { constants, createHash, createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compactVerify, importJWK } from 'jose';
import { type Client, Installation } from '../../support/installation.ts';
import { base64, expectRefusal, makeKey, OCT } from './support.ts';

let kms: Installation;
let admin: Client;

const SPECS = {
  RSA: { type: 'RSA', size: 2048 },
  'RSA 3072': { type: 'RSA', size: 3072 },
  'RSA 4096': { type: 'RSA', size: 4096 },
  'P-256': { type: 'EC', curve: 'P-256' },
  'P-384': { type: 'EC', curve: 'P-384' },
  'P-521': { type: 'EC', curve: 'P-521' },
} as const;
type KeyName = keyof typeof SPECS;

interface Signer {
  readonly path: string;
  readonly jwk: JsonWebKey;
  readonly publicKey: KeyObject;
}
const signers = new Map<KeyName, Signer>();

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  for (const [name, spec] of Object.entries(SPECS)) {
    const path = `/servicekey/${await makeKey(admin, spec)}`;
    const jwk = (await admin.get(`${path}?format=jwk`)).json.keys[0] as JsonWebKey;
    signers.set(name as KeyName, { path, jwk, publicKey: createPublicKey({ key: jwk, format: 'jwk' }) });
  }
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

interface Row {
  readonly alg: string;
  readonly key: KeyName;
  readonly hash: string;
  readonly digestBytes: number;
  /** Bytes of a signature. */
  readonly bytes: number;
}
const row = (alg: string, key: KeyName, hash: string, digestBytes: number, bytes: number): Row =>
  ({ alg, key, hash, digestBytes, bytes });
const ROWS: readonly Row[] = [
  row('RS256', 'RSA', 'sha256', 32, 256),
  row('RS384', 'RSA', 'sha384', 48, 256),
  row('RS512', 'RSA', 'sha512', 64, 256),
  row('PS256', 'RSA', 'sha256', 32, 256),
  row('PS384', 'RSA', 'sha384', 48, 256),
  row('PS512', 'RSA', 'sha512', 64, 256),
  row('RS256', 'RSA 3072', 'sha256', 32, 384),
  row('PS512', 'RSA 4096', 'sha512', 64, 512),
  row('ES256', 'P-256', 'sha256', 32, 64),
  row('ES384', 'P-384', 'sha384', 48, 96),
  row('ES512', 'P-521', 'sha512', 64, 132),
];
const ALGS = [...new Set(ROWS.map(({ alg }) => alg))];

function signer(key: KeyName): Signer {
  return signers.get(key)!;
}

async function sign(key: KeyName, body: object): Promise<Buffer> {
  const { status, json } = await admin.post(`${signer(key).path}/sign`, body);
  expect({ status, json }).toEqual({ status: 200, json: { signature: expect.any(String) } });
  const signature = Buffer.from(json.signature as string, 'base64');
  expect(signature.toString('base64')).toBe(json.signature);
  return signature;
}

/** By node:crypto, with the parameters of RFC 7518 §3 and no others. */
function holds({ alg, key, hash, digestBytes }: Row, message: Uint8Array, signature: Uint8Array): boolean {
  const { publicKey } = signer(key);
  if (alg.startsWith('ES')) return verify(hash, message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
  const padding = alg.startsWith('PS')
    ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: digestBytes }
    : { padding: constants.RSA_PKCS1_PADDING };
  return verify(hash, message, { key: publicKey, ...padding }, signature);
}

describe.each(ROWS)('$alg with $key', (one) => {
  const { alg, key, hash, bytes } = one;
  const message = Buffer.from(`to be signed with ${alg}`);

  test('a message: node:crypto verifies, and refuses another', async () => {
    const signature = await sign(key, { message: base64(message), alg });
    expect(signature).toHaveLength(bytes);
    expect(holds(one, message, signature)).toBe(true);
    expect(holds(one, Buffer.from('another'), signature)).toBe(false);
  });

  test('a digest: the signature is one over the message', async () => {
    const digest = createHash(hash).update(message).digest();
    const signature = await sign(key, { message: base64(digest), alg, isdigest: true });
    expect(signature).toHaveLength(bytes);
    expect(holds(one, message, signature)).toBe(true);
  });

  test('isdigest false or null is a message, also one that is as long as a digest', async () => {
    const like = Buffer.alloc(one.digestBytes, 1);
    for (const isdigest of [false, null]) {
      expect(holds(one, like, await sign(key, { message: base64(like), alg, isdigest }))).toBe(true);
    }
  });

  test('jose takes the signature as that of a JWS', async () => {
    const header = Buffer.from(JSON.stringify({ alg })).toString('base64url');
    const input = `${header}.${Buffer.from('{"claim":1}').toString('base64url')}`;
    const signature = await sign(key, { message: base64(input), alg });
    // OKMS clients want the key's own operations in key_ops; WebCrypto refuses `sign` in a public key.
    const key_ops = ['verify'];
    const publicKey = await importJWK({ ...signer(key).jwk, key_ops }, alg);
    const verified = await compactVerify(`${input}.${signature.toString('base64url')}`, publicKey);
    expect(Buffer.from(verified.payload).toString()).toBe('{"claim":1}');
  });

  test('a digest of any other length is refused', async () => {
    for (const length of [1, 20, one.digestBytes - 1, one.digestBytes + 1, 32, 48, 64]) {
      if (length === one.digestBytes) continue;
      const body = { message: base64(Buffer.alloc(length, 1)), alg, isdigest: true };
      expectRefusal(await admin.post(`${signer(key).path}/sign`, body), 'invalid-field', 'message');
    }
  });
});

test.each(Object.keys(SPECS) as KeyName[])('with %s every alg that does not fit is refused', async (key) => {
  const fitting = key.startsWith('RSA') ? /^(RS|PS)/ : { 'P-256': /ES256/, 'P-384': /ES384/, 'P-521': /ES512/ }[key as 'P-256'];
  const unfit = ALGS.filter((alg) => !fitting.test(alg));
  expect(unfit).toHaveLength(key.startsWith('RSA') ? 3 : 8);
  for (const alg of unfit) {
    for (const isdigest of [false, true]) {
      const body = { message: base64(Buffer.alloc(32)), alg, isdigest };
      expectRefusal(await admin.post(`${signer(key).path}/sign`, body), 'invalid-field', 'alg');
      const check = await admin.post(`${signer(key).path}/verify`, { ...body, signature: base64(Buffer.alloc(64)) });
      expectRefusal(check, 'invalid-field', 'alg');
    }
  }
});

test.each(['ES256K', 'HS256', 'none', 'rs256', 'RS1', '', null, 256, undefined])('alg %j is refused', async (alg) => {
  expectRefusal(await admin.post(`${signer('RSA').path}/sign`, { message: 'AAAA', alg }), 'invalid-field', 'alg');
});

test('messages of 1 and of 4096 bytes are signed, of 4097 and of none refused', async () => {
  const es256 = ROWS.find(({ alg }) => alg === 'ES256')!;
  for (const size of [1, 4096]) {
    const message = Buffer.alloc(size, 9);
    expect(holds(es256, message, await sign('P-256', { message: base64(message), alg: 'ES256' }))).toBe(true);
  }
  for (const message of [base64(Buffer.alloc(4097)), '', null, undefined]) {
    const answer = await admin.post(`${signer('P-256').path}/sign`, { message, alg: 'ES256' });
    expectRefusal(answer, 'invalid-field', 'message');
  }
});

test('ECDSA and PSS signatures differ from one to the next, PKCS#1 v1.5 ones do not', async () => {
  const body = { message: 'AAAA' };
  for (const [alg, key, distinct] of [['ES256', 'P-256', 2], ['PS256', 'RSA', 2], ['RS256', 'RSA', 1]] as const) {
    const both = [await sign(key, { ...body, alg }), await sign(key, { ...body, alg })];
    expect(new Set(both.map((signature) => signature.toString('hex'))).size).toBe(distinct);
  }
});

test('format=raw is the default; unknown ones are refused', async () => {
  const body = { message: 'AAAA', alg: 'RS256' };
  const { path } = signer('RSA');
  const [plain, raw] = [await admin.post(`${path}/sign`, body), await admin.post(`${path}/sign?format=raw`, body)];
  expect({ status: raw.status, json: raw.json }).toEqual({ status: 200, json: plain.json });
  expectRefusal(await admin.post(`${path}/sign?format=der`, body), 'invalid-field', 'format');
});

test('a key without the usage sign, or an oct key, does not sign', async () => {
  const verifier = await makeKey(admin, { ...SPECS['P-256'], operations: ['verify'] });
  const secret = await makeKey(admin, OCT);
  for (const key of [verifier, secret]) {
    expectRefusal(await admin.post(`/servicekey/${key}/sign`, { message: 'AAAA', alg: 'ES256' }), 'wrong-usage', 'sign');
  }
});
