// Where the door is found (okms-rest-api §1.1): both generations of base paths, slashes too many, and what is no path.

import { expect, test } from '@jest/globals';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { type Cause, expectRefusal, makeKey, OCT, UNKNOWN_ID } from './support.ts';

let kms: Installation;
let admin: Client;
let id: string;
let origin: string;
let bases: Readonly<Record<string, string>>;

serve(async (served) => {
  ({ kms, admin } = served);
  id = await makeKey(admin, OCT);
  origin = `https://localhost:${kms.port}`;
  const { okmsId } = kms.admin;
  bases = { legacy: '/v1', current: `/api/${okmsId}/v1`, upper: `/api/${okmsId.toUpperCase()}/v1` };
});

test.each(['legacy', 'current', 'upper'])('every kind of call works under the %s base', async (name) => {
  const base = `${origin}${bases[name] ?? ''}`;
  const created = await admin.post(`${base}/servicekey`, { name, type: 'oct', size: 128 });
  expect(created.status).toBe(201);
  const key = `${base}/servicekey/${created.json.id}`;
  expect((await admin.get(key)).json).toEqual(created.json);
  expect((await admin.get(`${base}/servicekey?max=500`)).json.objects_list).toContainEqual(created.json);
  expect((await admin.call('PATCH', key, { name: 'renamed' })).status).toBe(200);
  const sealed = await admin.post(`${key}/encrypt`, { plaintext: 'AAAA' });
  expect((await admin.post(`${key}/decrypt`, sealed.json)).json).toEqual({ plaintext: 'AAAA' });
  expect((await admin.post(`${key}/deactivate`)).status).toBe(204);
  expect((await admin.call('DELETE', key)).status).toBe(204);
});

test('both generations show the same keys', async () => {
  const paths = ['legacy', 'current'].map((name) => `${origin}${bases[name] ?? ''}/servicekey/${id}`);
  const [legacy, current] = await Promise.all(paths.map((path) => admin.get(path)));
  expect(legacy?.json).toEqual(current?.json);
});

test.each(['legacy', 'current'])('slashes too many are tolerated under the %s base', async (name) => {
  const base = bases[name] ?? '';
  const expected = (await admin.get(`${origin}${base}/servicekey/${id}`)).json;
  const doubled = `${base.replaceAll('/', '//')}//servicekey//${id}`;
  for (const path of [`${base}/servicekey/${id}/`, `${base}/servicekey/${id}//`, doubled, `/${base}/servicekey/${id}`]) {
    const { status, json } = await admin.get(`${origin}${path}`);
    expect({ path, status, json }).toEqual({ path, status: 200, json: expected });
  }
  const created = await admin.post(`${origin}${base}//servicekey/`, { name: 'slashes', type: 'oct', size: 128 });
  expect(created.status).toBe(201);
  expect((await admin.post(`${origin}${base}/servicekey/${created.json.id}//deactivate/`)).status).toBe(204);
});

// Relative to the origin; {base} is the current base, {id} a key.
const REFUSED: readonly (readonly [method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, cause: Cause])[] = [
  ['GET', '/', 'unknown-route'],
  ['GET', '/v1', 'unknown-route'],
  ['GET', '/v1/', 'unknown-route'],
  ['GET', '/v2/servicekey', 'unknown-route'],
  ['GET', '/servicekey', 'unknown-route'],
  ['GET', '{base}/servicekeys', 'unknown-route'],
  ['GET', '{base}/ServiceKey', 'unknown-route'],
  ['POST', '{base}/servicekey/{id}/rotate', 'unknown-route'],
  ['POST', '{base}/servicekey/{id}/encrypt/more', 'unknown-route'],
  ['GET', '{base}{base}/servicekey', 'unknown-route'],
  ['GET', '/api/v1/servicekey', 'unknown-route'],
  ['PUT', '{base}/servicekey', 'method-not-allowed'],
  ['DELETE', '{base}/servicekey', 'method-not-allowed'],
  ['PATCH', '{base}/servicekey', 'method-not-allowed'],
  ['PUT', '{base}/servicekey/{id}', 'method-not-allowed'],
  ['POST', '{base}/servicekey/{id}', 'method-not-allowed'],
  ['GET', '{base}/servicekey/{id}/encrypt', 'method-not-allowed'],
  ['GET', '/v1/servicekey/{id}/datakey/decrypt', 'method-not-allowed'],
  ['POST', '/v1/servicekey/{id}/delete', 'method-not-allowed'],
  ['GET', '{base}/servicekey/not-a-uuid', 'invalid-field'],
  ['GET', '{base}/servicekey/{id}0', 'invalid-field'],
  ['POST', '{base}/servicekey/{{id}}/activate', 'invalid-field'],
  ['GET', '/api/not-a-uuid/v1/servicekey', 'invalid-field'],
  ['GET', '{base}/servicekey/%zz', 'invalid-field'],
  ['GET', '{base}/servicekey%2f{id}', 'malformed-request'],
  ['GET', '{base}/servicekey%2F{id}', 'malformed-request'],
  ['GET', '{base}/servicekey/{id}%00', 'malformed-request'],
  ['GET', '{base}/servicekey/%5c{id}', 'malformed-request'],
  ['GET', `{base}/servicekey/${UNKNOWN_ID}`, 'not-found'],
];

test.each(REFUSED)('%s %s is refused: %s', async (method, path, cause) => {
  const target = path.replaceAll('{base}', bases['current'] ?? '').replace('{id}', id);
  expectRefusal(await admin.call(method, `${origin}${target}`), cause);
});

test('the public port serves no keys', async () => {
  const base = `https://localhost:${kms.publicPort}${bases['current'] ?? ''}`;
  expectRefusal(await admin.get(`${base}/servicekey`), 'unknown-route');
  expectRefusal(await admin.post(`${base}/servicekey`, { name: 'k', type: 'oct', size: 128 }), 'unknown-route');
});
