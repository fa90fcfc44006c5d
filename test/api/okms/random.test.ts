// Random bytes (okms-rest-api §2.10).

import { expect, test } from '@jest/globals';
import { auditRecords } from '../../support/audit-records.ts';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal } from './support.ts';

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

test.each([['', 1], ['?length=1', 1], ['?length=32', 32], ['?length=4096', 4096]])('%s gives %d bytes', async (query, length) => {
  const { status, json } = await admin.get(`/random${query}`);
  expect(status).toBe(200);
  expect(Object.keys(json as object)).toEqual(['bytes']);
  expect(Buffer.from(json.bytes as string, 'base64').length).toBe(length);
  expect(Buffer.from(json.bytes as string, 'base64').toString('base64')).toBe(json.bytes);
});

test('no two answers are the same', async () => {
  const answers = await Promise.all(Array.from({ length: 50 }, () => admin.get('/random?length=16')));
  expect(new Set(answers.map(({ json }) => json.bytes as string)).size).toBe(50);
});

test.each(['0', '4097', '-1', '1.5', '1e2', 'ten', '', ' 8', '99999999999'])('length=%j is refused', async (length) => {
  expectRefusal(await admin.get(`/random?length=${encodeURIComponent(length)}`), 'invalid-field', 'length');
});

test('each answer is in the audit, without the bytes', async () => {
  const { json, headers } = await admin.get('/random?length=24');
  const record = auditRecords(kms).find(({ requestId }) => requestId === headers['x-request-id']);
  expect(record).toMatchObject({ event: 'random.get', result: 'success', detail: { bytes: 24 } });
  expect(JSON.stringify(auditRecords(kms))).not.toContain(json.bytes);
});
