// Every limit of okms-rest-api §5.6, and those of the members in §2: at the limit it works, one past it is refused by name.

import { randomBytes } from 'node:crypto';
import { expect, test } from '@jest/globals';
import type { Answer, Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, EC, expectRefusal, makeKey, OCT, RSA } from './support.ts';

let admin: Client;
let oct: string;
let ec: string;

serve(async (served) => {
  ({ admin } = served);
  oct = `/servicekey/${await makeKey(admin, OCT)}`;
  ec = `/servicekey/${await makeKey(admin, EC)}`;
});

interface Limit {
  readonly what: string;
  /** Named in the refusal. */
  readonly field: string;
  readonly least?: number;
  readonly most: number;
  readonly ask: (size: number) => Promise<Answer>;
  /** Of an accepted request; a refusal for another reason than the size also shows that the size is accepted. */
  readonly success: number | 'decryption-failed';
  /** Between two sizes that there are. */
  readonly step?: number;
}

const text = (characters: number): string => '🔑'.repeat(characters);
const bytes = (size: number): string => base64(randomBytes(size));
/** Of base64 in whole groups, the last of them holding one byte: 4096 bytes are 5464 characters. */
const characters = (count: number): string => bytes((count * 3) / 4 - 2);
const create = (more: object): Promise<Answer> => admin.post('/servicekey', { name: 'n', ...OCT, ...more });
const encrypt = (plaintext: string, context?: string): Promise<Answer> => admin.post(`${oct}/encrypt`, { plaintext, context });

const LIMITS: readonly Limit[] = [
  { what: 'name of a key, characters', field: 'name', least: 1, most: 32, ask: (n) => create({ name: text(n) }), success: 201 },
  { what: 'new name of a key, characters', field: 'name', least: 1, most: 32, ask: (n) => admin.call('PATCH', oct, { name: text(n) }), success: 200 },
  { what: 'name of a data key, characters', field: 'name', least: 1, most: 32, ask: (n) => admin.post(`${oct}/datakey`, { size: 64, name: text(n) }), success: 201 },
  { what: 'context of a key, characters', field: 'context', least: 0, most: 64, ask: (n) => create({ context: text(n) }), success: 201 },
  { what: 'context of encrypt, characters', field: 'context', least: 0, most: 64, ask: (n) => encrypt('AAAA', text(n)), success: 200 },
  { what: 'context of decrypt, characters', field: 'context', least: 0, most: 64, ask: (n) => admin.post(`${oct}/decrypt`, { ciphertext: 'a..b.c.d', context: text(n) }), success: 'decryption-failed' },
  { what: 'operations, entries', field: 'operations', most: 32, ask: (n) => create({ operations: Array<string>(n).fill('encrypt') }), success: 201 },
  { what: 'plaintext, bytes', field: 'plaintext', least: 1, most: 4096, ask: (n) => encrypt(bytes(n)), success: 200 },
  { what: 'message to sign, bytes', field: 'message', least: 1, most: 4096, ask: (n) => admin.post(`${ec}/sign`, { message: bytes(n), alg: 'ES256' }), success: 200 },
  { what: 'message to verify, bytes', field: 'message', least: 1, most: 4096, ask: (n) => admin.post(`${ec}/verify`, { message: bytes(n), alg: 'ES256', signature: bytes(64) }), success: 200 },
  { what: 'plaintext, characters', field: 'plaintext', most: 5464, step: 4, ask: (n) => encrypt(characters(n)), success: 200 },
  { what: 'message to sign, characters', field: 'message', most: 5464, step: 4, ask: (n) => admin.post(`${ec}/sign`, { message: characters(n), alg: 'ES256' }), success: 200 },
  { what: 'message to verify, characters', field: 'message', most: 5464, step: 4, ask: (n) => admin.post(`${ec}/verify`, { message: characters(n), alg: 'ES256', signature: bytes(64) }), success: 200 },
  { what: 'digest of SHA-256, bytes', field: 'message', least: 32, most: 32, ask: (n) => admin.post(`${ec}/sign`, { message: bytes(n), alg: 'ES256', isdigest: true }), success: 200 },
  { what: 'ciphertext, characters', field: 'ciphertext', least: 1, most: 8192, ask: (n) => admin.post(`${oct}/decrypt`, { ciphertext: 'a'.repeat(n) }), success: 'decryption-failed' },
  { what: 'sealed data key, characters', field: 'key', least: 1, most: 5000, ask: (n) => admin.post(`${oct}/datakey/decrypt`, { key: 'a'.repeat(n) }), success: 'decryption-failed' },
  { what: 'data key, bits', field: 'size', least: 64, most: 4096, step: 8, ask: (n) => admin.post(`${oct}/datakey`, { size: n }), success: 201 },
  { what: 'data key, a bit more', field: 'size', least: 64, most: 4096, ask: (n) => admin.post(`${oct}/datakey`, { size: n }), success: 201 },
  { what: 'random, bytes', field: 'length', least: 1, most: 4096, ask: (n) => admin.get(`/random?length=${n}`), success: 200 },
  { what: 'page, keys', field: 'max', least: 1, most: 500, ask: (n) => admin.get(`/servicekey?max=${n}`), success: 200 },
  { what: 'imported keys', field: 'keys', least: 1, most: 1, ask: (n) => admin.post('/servicekey', { name: 'n', keys: Array.from({ length: n }, () => ({ kty: 'oct', k: randomBytes(16).toString('base64url') })) }), success: 201 },
];

const named = LIMITS.map((limit) => [limit.what, limit] as const);

test.each(named)('%s', async (_what, { field, least, most, ask, success, step = 1 }) => {
  for (const size of least === undefined ? [most] : [least, most]) {
    const answer = await ask(size);
    if (success === 'decryption-failed') expectRefusal(answer, success);
    else expect({ size, status: answer.status, text: answer.text }).toEqual({ size, status: success, text: expect.any(String) });
  }
  expectRefusal(await ask(most + step), 'invalid-field', field);
  if (least !== undefined && least > 0) expectRefusal(await ask(least - step), 'invalid-field', field);
});

test('the largest plaintext is 5,464 characters of base64, and what it becomes is opened again', async () => {
  const plaintext = bytes(4096);
  expect(plaintext.length).toBe(5464);
  const { ciphertext } = (await encrypt(plaintext, text(64))).json as { ciphertext: string };
  expect(ciphertext.length).toBe(5622);
  expect((await admin.post(`${oct}/decrypt`, { ciphertext, context: text(64) })).json).toEqual({ plaintext });
});

test('a continuation token is under 50 characters, and one of more than 500 is refused', async () => {
  for (let n = 0; n < 11; n += 1) await makeKey(admin, OCT);
  const { json } = await admin.get('/servicekey?max=10');
  expect([json.is_truncated, (json.continuation_token as string).length > 0, (json.continuation_token as string).length < 50]).toEqual([true, true, true]);
  expectRefusal(await admin.get(`/servicekey?continuation-token=${'A'.repeat(501)}`), 'invalid-field', 'continuation-token');
});

test('a data key is a multiple of 8 bits', async () => {
  for (const size of [72, 4088]) expect([size, (await admin.post(`${oct}/datakey`, { size })).status]).toEqual([size, 201]);
  for (const size of [65, 71, 4095]) expectRefusal(await admin.post(`${oct}/datakey`, { size }), 'invalid-field', 'size');
});

test.each([['oct', OCT, [128, 192, 256], [127, 129, 255, 257, 512]], ['RSA', RSA, [2048, 3072, 4096], [1024, 2047, 2049, 4097, 8192]]] as const)(
  'sizes of %s', async (_type, spec, sizes, others) => {
    for (const size of sizes) expect([size, (await admin.post('/servicekey', { name: 'n', ...spec, size })).status]).toEqual([size, 201]);
    for (const size of others) expectRefusal(await admin.post('/servicekey', { name: 'n', ...spec, size }), 'invalid-field', 'size');
  }, 60_000);
