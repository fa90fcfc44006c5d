// Renaming (okms-rest-api §2.5): PATCH changes the name and nothing else, under every media type clients send.

import { expect, test } from '@jest/globals';
import type { Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal, makeKey, UNKNOWN_ID } from './support.ts';

let admin: Client;
let path: string;

serve(async (served) => {
  ({ admin } = served);
  path = `/servicekey/${await makeKey(admin, { name: 'before', type: 'EC', curve: 'P-256', context: 'at creation' })}`;
});

test('answers 200 with the key object under its new name; all else stays', async () => {
  const before = await admin.get(`${path}?format=jwk`);
  const renamed = await admin.call('PATCH', path, { name: 'after' });
  const { keys: _keys, ...object } = before.json;
  expect({ status: renamed.status, json: renamed.json }).toEqual({ status: 200, json: { ...object, name: 'after' } });
  expect((await admin.get(`${path}?format=jwk`)).json).toEqual({ ...before.json, name: 'after' });
});

test.each(['application/json; charset=utf-8', 'text/json', 'application/merge-patch+json', 'APPLICATION/JSON'])(
  'takes a body of type %s',
  async (type) => {
    const renamed = await admin.call('PATCH', path, { name: type }, { 'content-type': type });
    expect({ status: renamed.status, name: renamed.json.name }).toEqual({ status: 200, name: type });
  },
);

test('takes names of 1 and of 32 characters, counted as code points, and gives them back as they came', async () => {
  for (const name of ['x', '🔑'.repeat(32), ' two  spaces ', 'e\u0301', '\u00e9', '\u0001']) {
    expect((await admin.call('PATCH', path, { name })).json).toMatchObject({ name });
    expect((await admin.get(path)).json).toMatchObject({ name });
  }
});

test('refuses a NUL, which PostgreSQL cannot keep, here and in a new key', async () => {
  const refused = await admin.call('PATCH', path, { name: 'a\u0000b' });
  expect({ status: refused.status, errors: refused.json.errors }).toEqual({ status: 400, errors: ['name: expected no NUL'] });
  for (const body of [{ name: 'a\u0000b' }, { name: 'fine', context: '\u0000' }]) {
    expect((await admin.post('/servicekey', { type: 'oct', size: 128, ...body })).status).toBe(400);
  }
});

test('two keys may have one name', async () => {
  const other = `/servicekey/${await makeKey(admin, { name: 'other', type: 'oct', size: 128 })}`;
  for (const key of [path, other]) expect((await admin.call('PATCH', key, { name: 'same' })).status).toBe(200);
});

test('members that cannot be changed are ignored', async () => {
  const before = (await admin.get(path)).json;
  const body = { name: 'n', context: 'other', id: UNKNOWN_ID, type: 'oct', operations: ['encrypt'], attributes: { state: 'destroyed' } };
  expect((await admin.call('PATCH', path, body)).json).toEqual({ ...before, name: 'n' });
});

test.each([
  ['an empty name', { name: '' }],
  ['33 characters', { name: 'n'.repeat(33) }],
  ['a name that is no text', { name: ['n'] }],
])('refuses %s', async (_what, body) => {
  const before = (await admin.get(path)).json;
  expectRefusal(await admin.call('PATCH', path, body), 'invalid-field', 'name');
  expect((await admin.get(path)).json).toEqual(before);
});

test('extractable: false beside a name is accepted, true is refused', async () => {
  expect((await admin.call('PATCH', path, { name: 'x', extractable: false })).status).toBe(200);
  expectRefusal(await admin.call('PATCH', path, { name: 'y', extractable: true }), 'invalid-field', 'extractable');
  expect((await admin.get(path)).json).toMatchObject({ name: 'x', attributes: { extractable: false } });
});

test('a null name is an absent one: nothing changes', async () => {
  const before = (await admin.get(path)).json;
  const patched = await admin.call('PATCH', path, { name: null });
  expect(patched.status).toBe(200);
  expect(patched.json).toEqual(before);
});

test('extractable: false alone is accepted: the name is optional since API 2.16.2', async () => {
  const before = (await admin.get(path)).json;
  const patched = await admin.call('PATCH', path, { extractable: false });
  expect({ status: patched.status, json: patched.json }).toEqual({ status: 200, json: before });
});

test('extractable: true alone is refused', async () => {
  expectRefusal(await admin.call('PATCH', path, { extractable: true }), 'invalid-field', 'extractable');
});

test('without a body, or of an unknown key', async () => {
  expectRefusal(await admin.call('PATCH', path), 'malformed-request', 'body');
  expectRefusal(await admin.call('PATCH', `/servicekey/${UNKNOWN_ID}`, { name: 'x' }), 'not-found');
});
