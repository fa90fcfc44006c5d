// What create accepts and refuses (okms-rest-api §2.2), member by member.

import { randomUUID } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import type { Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { type Cause, expectRefusal, makeKey } from './support.ts';

let admin: Client;

serve((served) => { ({ admin } = served); });

const OCT = { name: 'k', type: 'oct', size: 128 };
const EC = { name: 'k', type: 'EC', curve: 'P-256' };
const RSA = { name: 'k', type: 'RSA', size: 2048 };

interface Accepted {
  readonly what: string;
  readonly body: object;
  readonly shows: object;
}

const accepted: readonly Accepted[] = [
  { what: 'crv in the place of curve', body: { name: 'k', type: 'EC', crv: 'P-384' }, shows: { curve: 'P-384' } },
  { what: 'crv that agrees with curve', body: { ...EC, crv: 'P-256' }, shows: { curve: 'P-256' } },
  { what: 'empty operations as absent, oct', body: { ...OCT, operations: [] }, shows: { operations: ['encrypt', 'decrypt'] } },
  { what: 'empty operations as absent, EC', body: { ...EC, operations: [] }, shows: { operations: ['sign', 'verify'] } },
  { what: 'no operations, RSA', body: RSA, shows: { operations: ['sign', 'verify'] } },
  {
    what: 'duplicate operations once',
    body: { ...OCT, operations: ['decrypt', 'encrypt', 'decrypt'] },
    shows: { operations: ['encrypt', 'decrypt'] },
  },
  { what: 'one operation alone', body: { ...OCT, operations: ['unwrapKey'] }, shows: { operations: ['unwrapKey'] } },
  {
    what: 'all four operations of oct',
    body: { ...OCT, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] },
    shows: { operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] },
  },
  { what: '32 operations', body: { ...OCT, operations: Array<string>(32).fill('encrypt') }, shows: { operations: ['encrypt'] } },
  {
    what: 'null in every optional member',
    body: {
      ...OCT, context: null, curve: null, crv: null, operations: null, id: null, protectionLevel: null, keys: null,
      wrappedKeys: null, extractable: null,
    },
    shows: { size: 128, operations: ['encrypt', 'decrypt'] },
  },
  { what: 'null for size of EC', body: { ...EC, size: null }, shows: { curve: 'P-256' } },
  { what: 'extractable false', body: { ...OCT, extractable: false }, shows: { name: 'k' } },
  { what: 'unknown members, at any depth', body: { ...OCT, colour: { of: ['k'] }, Name: 'K' }, shows: { name: 'k' } },
  { what: 'a context of 64 characters, which is not shown', body: { ...OCT, context: '🔑'.repeat(64) }, shows: { name: 'k' } },
  { what: 'an empty context', body: { ...OCT, context: '' }, shows: { name: 'k' } },
  { what: 'a name of 32 characters outside the BMP', body: { ...OCT, name: '🔑'.repeat(32) }, shows: { name: '🔑'.repeat(32) } },
  ...['SOFTWARE', 'HSM', 'MANAGED_HSM', 'CLOUD_HSM'].map((protectionLevel) => ({
    what: `protectionLevel ${protectionLevel}`,
    body: { ...OCT, protectionLevel },
    shows: { protectionLevel: 'HSM' },
  })),
];

test.each(accepted)('accepts $what', async ({ body, shows }) => {
  const created = await admin.post('/servicekey', body);
  expect(created.status).toBe(201);
  expect(created.json).toMatchObject(shows);
  expect(Object.keys(created.json as object)).not.toContain('context');
});

interface Refused {
  readonly what: string;
  readonly body: object;
  /** Member the message must name. */
  readonly word: string;
  readonly cause?: Cause;
}

const refused: readonly Refused[] = [
  { what: 'no name', body: { type: 'oct', size: 128 }, word: 'name' },
  { what: 'an empty name', body: { ...OCT, name: '' }, word: 'name' },
  { what: 'a null name', body: { ...OCT, name: null }, word: 'name' },
  { what: 'a name of 33 characters', body: { ...OCT, name: 'n'.repeat(33) }, word: 'name' },
  { what: 'a name that is a number', body: { ...OCT, name: 5 }, word: 'name' },
  { what: 'a context of 65 characters', body: { ...OCT, context: 'c'.repeat(65) }, word: 'context' },
  { what: 'no type', body: { name: 'k', size: 128 }, word: 'type' },
  { what: 'an unknown type', body: { ...OCT, type: 'OCT' }, word: 'type' },
  { what: 'an oct size of RSA', body: { ...OCT, size: 2048 }, word: 'size' },
  { what: 'an RSA size of oct', body: { ...RSA, size: 256 }, word: 'size' },
  { what: 'RSA 1024', body: { ...RSA, size: 1024 }, word: 'size' },
  { what: 'RSA 2049', body: { ...RSA, size: 2049 }, word: 'size' },
  { what: 'a size in a string', body: { ...OCT, size: '128' }, word: 'size' },
  { what: 'a size with a fraction', body: { ...OCT, size: 128.5 }, word: 'size' },
  { what: 'no size for oct', body: { name: 'k', type: 'oct' }, word: 'size' },
  { what: 'no size for RSA', body: { name: 'k', type: 'RSA' }, word: 'size' },
  { what: 'a size for EC', body: { ...EC, size: 256 }, word: 'size' },
  { what: 'no curve for EC', body: { name: 'k', type: 'EC' }, word: 'curve' },
  { what: 'an unknown curve', body: { ...EC, curve: 'secp256k1' }, word: 'curve' },
  { what: 'a curve for oct', body: { ...OCT, curve: 'P-256' }, word: 'curve' },
  { what: 'crv for RSA', body: { ...RSA, crv: 'P-256' }, word: 'curve' },
  { what: 'crv that disagrees', body: { ...EC, crv: 'P-384' }, word: 'crv' },
  { what: 'an unknown operation', body: { ...OCT, operations: ['encrypt', 'deriveKey'] }, word: 'operations' },
  { what: 'sign for oct', body: { ...OCT, operations: ['encrypt', 'sign'] }, word: 'operations' },
  { what: 'encrypt for EC', body: { ...EC, operations: ['encrypt'] }, word: 'operations' },
  { what: 'wrapKey for EC', body: { ...EC, operations: ['wrapKey'] }, word: 'operations' },
  { what: '33 operations', body: { ...OCT, operations: Array<string>(33).fill('encrypt') }, word: 'operations' },
  { what: 'operations that are a text', body: { ...OCT, operations: 'encrypt' }, word: 'operations' },
  { what: 'an unknown protection level', body: { ...OCT, protectionLevel: 'NONE' }, word: 'protectionLevel' },
  { what: 'an id that is no UUID', body: { ...OCT, id: 'my-key' }, word: 'id' },
  { what: 'a UUID without dashes', body: { ...OCT, id: randomUUID().replaceAll('-', '') }, word: 'id' },
  { what: 'extractable true', body: { ...OCT, extractable: true }, word: 'extractable' },
];

test.each(refused)('refuses $what', async ({ body, word, cause }) => {
  expectRefusal(await admin.post('/servicekey', body), cause ?? 'invalid-field', word);
});

describe('an id chosen by the caller', () => {
  test('is taken over, upper case as lower case, and found under both spellings', async () => {
    const id = randomUUID();
    const created = await admin.post('/servicekey', { ...OCT, id: id.toUpperCase() });
    expect({ status: created.status, id: created.json.id }).toEqual({ status: 201, id });
    for (const spelling of [id, id.toUpperCase()]) {
      const found = await admin.get(`/servicekey/${spelling}`);
      expect({ status: found.status, json: found.json }).toEqual({ status: 200, json: created.json });
    }
  });

  test('is refused while a key has it, and for ever after that key is gone', async () => {
    const id = await makeKey(admin, { ...OCT, id: randomUUID() });
    expectRefusal(await admin.post('/servicekey', { ...EC, id }), 'conflict');
    expectRefusal(await admin.post('/servicekey', { ...EC, id: id.toUpperCase() }), 'conflict');
    expect((await admin.get(`/servicekey/${id}`)).json).toMatchObject({ id, type: 'oct' });
    await admin.post(`/servicekey/${id}/deactivate`);
    expect((await admin.call('DELETE', `/servicekey/${id}`)).status).toBe(204);
    expectRefusal(await admin.post('/servicekey', { ...OCT, id }), 'conflict');
  });

  test('is given once when many ask for it at the same time', async () => {
    const id = randomUUID();
    const answers = await Promise.all(Array.from({ length: 8 }, () => admin.post('/servicekey', { ...OCT, id })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array<number>(7).fill(409)]);
    for (const answer of answers.filter(({ status }) => status !== 201)) expectRefusal(answer, 'conflict');
    const sealed = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' });
    expect((await admin.post(`/servicekey/${id}/decrypt`, sealed.json)).json).toEqual({ plaintext: 'AAAA' });
  });
});
