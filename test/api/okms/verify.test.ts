// Verification (okms-rest-api §2.9): a well-formed request with a wrong signature is 200 and false, never an error.

import { createHash, createPublicKey, type JsonWebKey, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Client, Installation } from '../../support/installation.ts';
import { base64, expectRefusal, inTurns, makeKey } from './support.ts';

let kms: Installation;
let admin: Client;

const SPECS = {
  RSA: { type: 'RSA', size: 2048 },
  'P-256': { type: 'EC', curve: 'P-256' },
  'P-384': { type: 'EC', curve: 'P-384' },
  'P-521': { type: 'EC', curve: 'P-521' },
} as const;
type KeyName = keyof typeof SPECS;

const paths = new Map<string, string>();

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  for (const [name, spec] of Object.entries(SPECS)) paths.set(name, `/servicekey/${await makeKey(admin, spec)}`);
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

const MESSAGE = Buffer.from('a message to verify');

const ROWS: readonly (readonly [alg: string, key: KeyName, hash: string, bytes: number])[] = [
  ['RS256', 'RSA', 'sha256', 256],
  ['RS384', 'RSA', 'sha384', 256],
  ['RS512', 'RSA', 'sha512', 256],
  ['PS256', 'RSA', 'sha256', 256],
  ['PS384', 'RSA', 'sha384', 256],
  ['PS512', 'RSA', 'sha512', 256],
  ['ES256', 'P-256', 'sha256', 64],
  ['ES384', 'P-384', 'sha384', 96],
  ['ES512', 'P-521', 'sha512', 132],
];

function check(key: string, body: object): Promise<Answer> {
  return admin.post(`${paths.get(key) ?? ''}/verify`, body);
}

function expectResult({ status, json }: Answer, result: boolean): void {
  expect({ status, json }).toEqual({ status: 200, json: { result } });
}

async function signed(key: string, alg: string): Promise<Buffer> {
  const { status, json } = await admin.post(`${paths.get(key) ?? ''}/sign`, { message: base64(MESSAGE), alg });
  expect(status).toBe(200);
  return Buffer.from(json.signature as string, 'base64');
}

describe.each(ROWS)('%s with %s', (alg, key, hash, bytes) => {
  const body = (signature: Uint8Array, message: Uint8Array = MESSAGE): object =>
    ({ message: base64(message), alg, signature: base64(signature) });

  test('true for the message and for its digest, false for any other', async () => {
    const signature = await signed(key, alg);
    const digest = createHash(hash).update(MESSAGE).digest();
    const other = createHash(hash).update('other').digest();
    expectResult(await check(key, body(signature)), true);
    expectResult(await check(key, { ...body(signature, digest), isdigest: true }), true);
    expectResult(await check(key, body(signature, Buffer.from('other'))), false);
    expectResult(await check(key, { ...body(signature, other), isdigest: true }), false);
    expectResult(await check(key, body(signature, digest)), false);
    const wrongLength = { ...body(signature, digest.subarray(1)), isdigest: true };
    expectRefusal(await check(key, wrongLength), 'invalid-field', 'message');
  });

  test('false for a signature with any one byte changed', async () => {
    const signature = await signed(key, alg);
    const altered = Array.from(signature, (_, i) => signature.map((byte, at) => (at === i ? byte ^ 0x01 : byte)));
    await inTurns(altered, async (wrong) => { expectResult(await check(key, body(wrong)), false); });
    expectResult(await check(key, body(signature)), true);
  });

  test('false for a signature of another length', async () => {
    const signature = await signed(key, alg);
    const wrong = [
      signature.subarray(1), signature.subarray(0, -1), Buffer.concat([signature, Buffer.of(0)]),
      Buffer.concat([Buffer.of(0), signature]), Buffer.of(0), Buffer.alloc(bytes * 2), Buffer.alloc(4096, 1),
    ];
    for (const one of wrong) expectResult(await check(key, body(one)), false);
  });

  test('false for the extreme values', async () => {
    const signature = await signed(key, alg);
    const half = bytes / 2;
    const zeros = Buffer.alloc(half);
    const ones = Buffer.alloc(half, 0xff);
    const [first, second] = [signature.subarray(0, half), signature.subarray(half)];
    const wrong = [
      [zeros, zeros], [ones, ones], [zeros, second], [first, zeros], [ones, second], [first, ones], [second, first],
    ].map((halves) => Buffer.concat(halves));
    for (const one of wrong) expectResult(await check(key, body(one)), false);
  });
});

test('a signature by another key of the same kind is false', async () => {
  for (const [alg, key] of [['RS256', 'RSA'], ['PS256', 'RSA'], ['ES256', 'P-256']] as const) {
    const other = `/servicekey/${await makeKey(admin, SPECS[key])}`;
    const input = { message: base64(MESSAGE), alg };
    const { signature } = (await admin.post(`${other}/sign`, input)).json;
    expectResult(await check(key, { ...input, signature }), false);
    expectResult(await admin.post(`${other}/verify`, { ...input, signature }), true);
  }
});

test('a signature under another alg of the same key is false', async () => {
  const algs = ROWS.filter(([, key]) => key === 'RSA').map(([alg]) => alg);
  for (const made of algs) {
    const signature = base64(await signed('RSA', made));
    for (const asked of algs) expectResult(await check('RSA', { message: base64(MESSAGE), alg: asked, signature }), asked === made);
  }
});

test('DER is no signature: raw r and s only', async () => {
  const raw = await signed('P-256', 'ES256');
  const { keys } = (await admin.get(`${paths.get('P-256') ?? ''}?format=jwk`)).json;
  const key = createPublicKey({ key: keys[0] as JsonWebKey, format: 'jwk' });
  const integer = (bytes: Buffer): Buffer => {
    const trimmed = bytes.subarray(bytes.findIndex((byte) => byte !== 0));
    const value = trimmed[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), trimmed]) : trimmed;
    return Buffer.concat([Buffer.of(0x02, value.length), value]);
  };
  const sequence = Buffer.concat([integer(raw.subarray(0, 32)), integer(raw.subarray(32))]);
  const der = Buffer.concat([Buffer.of(0x30, sequence.length), sequence]);
  expect(verify('sha256', MESSAGE, { key, dsaEncoding: 'der' }, der)).toBe(true);
  expectResult(await check('P-256', { message: base64(MESSAGE), alg: 'ES256', signature: base64(der) }), false);
});

describe('a malformed request is refused', () => {
  const good = { message: 'AAAA', alg: 'ES256', signature: base64(Buffer.alloc(64, 1)) };

  test.each([
    '!', 'AAA', 'AA=', 'A===', 'AAAA AAAA', 'AAAA\n', 'AB==', '-_-_', '=', '', null, 7, undefined, 'A'.repeat(8196),
  ])('signature %j', async (signature) => {
    expectRefusal(await check('P-256', { ...good, signature }), 'invalid-field', 'signature');
  });

  test.each(['!', 'AB==', '', null, 7, undefined])('message %j', async (message) => {
    expectRefusal(await check('P-256', { ...good, message }), 'invalid-field', 'message');
  });

  test.each(['HS256', '', null, undefined])('alg %j', async (alg) => {
    expectRefusal(await check('P-256', { ...good, alg }), 'invalid-field', 'alg');
  });

  test.each(['true', 1, {}])('isdigest %j', async (isdigest) => {
    expectRefusal(await check('P-256', { ...good, isdigest }), 'invalid-field', 'isdigest');
  });

  test('a key without the usage verify does not verify', async () => {
    const key = `/servicekey/${await makeKey(admin, { ...SPECS['P-256'], operations: ['sign'] })}`;
    const { signature } = (await admin.post(`${key}/sign`, { message: 'AAAA', alg: 'ES256' })).json;
    expectRefusal(await admin.post(`${key}/verify`, { ...good, signature }), 'wrong-usage', 'verify');
  });
});
