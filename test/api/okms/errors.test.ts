// Every row of the error table (okms-rest-api §3): status, code, symbol, text and request id, and how each comes about.
// 429 and 500 have no cause that a caller could bring about in this release.

import { randomUUID } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { renderOkmsError } from '../../../src/api/okms/errors.ts';
import { KmsError } from '../../../src/errors.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { eventually } from '../../support/wait.ts';
import { EC, expectRefusal, makeKey, OCT, type Cause, UNKNOWN_ID } from './support.ts';

let kms: Installation;
let admin: Client;
let stranger: Client;
let key: string;

serve(async (served) => {
  ({ kms, admin } = served);
  stranger = kms.client(null);
  key = `/servicekey/${await makeKey(admin, OCT)}`;
});

afterAll(() => stranger.close());

/** error_code = major << 24 | minor << 16 | category << 12 | cause: major 3 is REST. */
const code = (minor: number, category: number, cause: number): number => (3 << 24) | (minor << 16) | (category << 12) | cause;

interface Row {
  readonly cause: Cause;
  readonly status: number;
  readonly code: number;
  readonly word: string;
  readonly ask: () => Promise<Answer>;
}

const ROWS: readonly Row[] = [
  { cause: 'malformed-request', status: 400, code: code(1, 2, 1), word: 'JSON', ask: () => admin.post('/servicekey', '{"name":') },
  { cause: 'malformed-request', status: 400, code: code(1, 2, 1), word: 'application/json', ask: () => admin.call('POST', '/servicekey', 'name=n', { 'content-type': 'text/plain' }) },
  { cause: 'too-large', status: 413, code: code(1, 2, 2), word: '65536', ask: () => admin.post('/servicekey', { name: 'n'.repeat(70_000) }) },
  { cause: 'invalid-field', status: 400, code: code(3, 2, 1), word: 'size', ask: () => admin.post('/servicekey', { name: 'n', type: 'oct', size: 129 }) },
  { cause: 'wrong-state', status: 400, code: code(3, 2, 2), word: 'active', ask: () => admin.call('DELETE', key) },
  { cause: 'wrong-usage', status: 400, code: code(3, 2, 3), word: 'sign', ask: () => admin.post(`${key}/sign`, { message: 'AAAA', alg: 'ES256' }) },
  { cause: 'decryption-failed', status: 400, code: code(3, 2, 4), word: '', ask: () => admin.post(`${key}/decrypt`, { ciphertext: 'a..b.c.d' }) },
  { cause: 'unauthenticated', status: 401, code: code(2, 3, 1), word: 'certificate', ask: () => stranger.get(key) },
  { cause: 'forbidden', status: 403, code: code(2, 4, 1), word: 'domain', ask: () => admin.get(`https://localhost:${kms.port}/api/${randomUUID()}/v1${key}`) },
  { cause: 'unknown-route', status: 404, code: code(1, 5, 1), word: '', ask: () => admin.get('/servicekeys') },
  { cause: 'not-found', status: 404, code: code(3, 5, 1), word: 'key', ask: () => admin.get(`/servicekey/${UNKNOWN_ID}`) },
  { cause: 'method-not-allowed', status: 405, code: code(1, 5, 2), word: 'PUT', ask: () => admin.call('PUT', '/servicekey', {}) },
  { cause: 'conflict', status: 409, code: code(3, 10, 1), word: 'id', ask: () => admin.post('/servicekey', { name: 'n', ...EC, id: key.split('/')[2] }) },
];

test.each(ROWS)('$status $cause', async ({ cause, status, code: number, word, ask }) => {
  const answer = await ask();
  expectRefusal(answer, cause, word);
  expect([answer.status, answer.json.error_code]).toEqual([status, number]);
  // A caller that names no request gets a fresh UUID; a negative or larger code makes the SDK panic.
  expect(answer.json.request_id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(number).toBeGreaterThan(0);
  expect(number).toBeLessThanOrEqual(2_147_483_647);
});

test('503 with Retry-After while the HSM is away, and none of it remains when it is back', async () => {
  const tokens = join(kms.home, 'softhsm', 'tokens');
  renameSync(tokens, `${tokens}-away`);
  try {
    // In its first moments each process on its own only finds the object missing, which is 503 too.
    let answer = await admin.post(`${key}/encrypt`, { plaintext: 'AAAA' });
    await eventually('the HSM is missed', async () => {
      answer = await admin.post(`${key}/encrypt`, { plaintext: 'AAAA' });
      return answer.json.error_id === 'token-unavailable';
    });
    const { status, headers, json } = answer;
    expect({ status, type: headers['content-type'], json }).toEqual({
      status: 503,
      type: expect.stringContaining('application/json'),
      json: { error_id: 'token-unavailable', error_code: code(1, 7, 1), errors: [expect.stringContaining('HSM')], request_id: headers['x-request-id'] },
    });
    expect(Number(headers['retry-after'])).toBeGreaterThan(0);
  } finally {
    renameSync(`${tokens}-away`, tokens);
  }
  await eventually('it works again', async () => (await admin.post(`${key}/encrypt`, { plaintext: 'AAAA' })).status === 200);
});

test('the request id is the one the caller chose, where it is short and printable, else a UUID', async () => {
  const ask = (id: string): Promise<Answer> => admin.call('GET', `/servicekey/${UNKNOWN_ID}`, undefined, { 'x-request-id': id });
  expect((await ask('my-request-7')).json.request_id).toBe('my-request-7');
  expect((await ask('x'.repeat(65))).json.request_id).toMatch(/^[0-9a-f]{8}-/);
  expect((await ask('two words')).json.request_id).toMatch(/^[0-9a-f]{8}-/);
});

// No request brings these about: nothing of this release limits a rate, and a 500 is a fault of ours. How the door says them:
test.each([
  ['rate-limited', 429, code(1, 9, 1), 'too many requests', 'too many requests', '2'],
  ['internal', 500, code(1, 1, 1), 'a secret of the inside', 'internal error', undefined],
] as const)('%s is rendered as %d', (cause, status, number, message, said, retryAfter) => {
  const { status: shown, body, headers } = renderOkmsError(new KmsError(cause, message), 'request-7');
  expect({ status: shown, body }).toEqual({ status, body: { error_id: cause, error_code: number, errors: [said], request_id: 'request-7' } });
  expect(headers['Retry-After']).toBe(retryAfter);
});
