/** How requests reach the Key Vault door: challenge, versions, paths, hosts, headers, pages (azure-keyvault-keys-api §0, §3). */

import { afterAll, describe, expect, test } from '@jest/globals';
import { auditRecords } from '../../support/audit-records.ts';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { type Bundle, expectOk, expectRefusal, KeyVault, versionOf } from './support.ts';

let kms: Installation;
let admin: Client;
let nobody: Client;
let dev: KeyVault;
let premium: KeyVault;
let key: Bundle;

serve(async (served) => {
  ({ kms, admin } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
  premium = await KeyVault.of(nobody, kms, 'dev-premium');
  key = await dev.create('My-Key', { kty: 'EC' });
});

afterAll(() => nobody.close());

describe('the challenge', () => {
  const CREATE = '/keys/k/create?api-version=7.6';

  test('a first request without token and body is told where to get one, and nothing is made', async () => {
    const answer = await nobody.call('POST', `https://localhost:${kms.port}${CREATE}`, undefined, { 'content-length': '0' });
    expectRefusal(answer, { status: 401, code: 'Unauthorized', words: 'AKV10000' });
    const challenge = String(answer.headers['www-authenticate']);
    expect(challenge).toMatch(new RegExp(`^Bearer authorization="https://localhost:${kms.port}/[0-9a-f-]{36}", resource="https://localhost:${kms.port}"$`));
    expectRefusal(await dev.get('/keys/k'), { status: 404, code: 'KeyNotFound', words: 'was not found in this key vault' });
  });

  test.each(['Bearer x.y.z', 'Bearer', 'Basic YTpi', `Bearer ${'a'.repeat(9000)}`])('a token that does not hold is no token: %p', async (authorization) => {
    const answer = await dev.call('GET', '/keys', undefined, { headers: { authorization: authorization.slice(0, 9000) } });
    expectRefusal(answer, { status: 401, code: 'Unauthorized', words: /^AKV10000: .*\(Activity ID: / });
    expect(answer.headers['www-authenticate']).toContain('Bearer authorization=');
  });

  test('an access certificate is taken too, in its own vault', async () => {
    const ask = (host: string) => admin.call('GET', `https://localhost:${kms.port}/keys?api-version=7.6`, undefined, { host: `${host}:${kms.port}` });
    expectOk(await ask('dev.localhost'));
    expectRefusal(await ask('dev-premium.localhost'), { status: 403, code: 'Forbidden', words: 'does not belong to this vault' });
  });
});

describe('the version of the API', () => {
  test.each(['2016-10-01', '7.0', '7.1', '7.2', '7.3', '7.4-preview.1', '7.4', '7.5', '7.6-preview.1', '7.6-preview.2', '7.6', '2025-06-01-preview', '2025-07-01', '2026-01-01-preview'])('%s is understood', async (version) => {
    expectOk(await dev.call('GET', '/keys/my-key', undefined, { version }));
  });

  test('its name may be encoded', async () => {
    expectOk(await dev.call('GET', '/keys/my-key?api%2Dversion=2025-07-01', undefined, { version: null }));
  });

  test.each([['none', null, 'required'], ['an unknown one', '9.9', '"9.9" is not supported; the newest supported is 2025-07-01'], ['an empty one', '', 'not supported']])('%s is refused', async (_name, version, words) => {
    expectRefusal(await dev.call('GET', '/keys/my-key', undefined, { version }), { status: 400, code: 'BadParameter', words });
  });
});

describe('paths', () => {
  const digest = Buffer.alloc(32, 7).toString('base64url');
  test.each([
    ['/keys/my-key/'], ['//keys//MY-KEY'], ['/Keys/My-Key'], ['/KEYS/my-key///'],
  ])('GET %s is the newest version', async (path) => {
    expect(expectOk(await dev.get(path))).toEqual(key);
  });

  test.each(['sign', '/sign', '/SIGN', 'Sign'])('POST keys/my-key/%s signs with the newest', async (word) => {
    expect(expectOk(await dev.post(`/keys/my-key/${word}`, { alg: 'ES256', value: digest }))).toMatchObject({ kid: key.key.kid });
  });

  test('camel case as .NET writes it', async () => {
    await dev.create('oct', { kty: 'oct', key_size: 256 });
    expectOk(await dev.post('/keys/oct/wrapKey', { alg: 'A256KW', value: digest }));
  });

  test('PATCH with a slash at the end changes the newest', async () => {
    expect(expectOk(await dev.patch('/keys/my-key/', { tags: { a: 'b' } }))).toMatchObject({ tags: { a: 'b' } });
    expect(expectOk(await dev.patch('/keys/my-key/', { tags: {} }))).not.toHaveProperty('tags');
  });

  test.each([
    ['GET', '/keys/my-key/create', 404, 'KeyNotFound', 'my-key/create'], ['PUT', '/keys', 405, 'MethodNotAllowed', 'PUT'],
    ['DELETE', '/keys/my-key/0123456789abcdef0123456789abcdef', 405, 'MethodNotAllowed', 'DELETE'],
    ['GET', '/keys/a/b/c/d', 404, 'NotFound', 'path'], ['GET', '/rng', 405, 'MethodNotAllowed', 'GET'],
    ['GET', `/keys/${'x'.repeat(128)}`, 400, 'BadParameter', 'invalid name in the request URI'],
    ['GET', '/keys/under_score', 400, 'BadParameter', 'invalid name in the request URI'],
    ['GET', '/keys/my-key/short', 404, 'KeyNotFound', 'my-key/short'],
    ['GET', '/keys/my-key%2Fversions', 400, 'BadParameter', 'path'],
  ] as const)('%s %s is %d', async (method, path, status, code, words) => {
    expectRefusal(await dev.call(method, path), { status, code, words });
  });
});

describe('hosts', () => {
  test('the first label names the vault; any other host is the first vault', async () => {
    await premium.create('only-premium', { kty: 'EC' });
    expectRefusal(await dev.get('/keys/only-premium'), { status: 404, code: 'KeyNotFound', words: 'only-premium' });
    const port = String(kms.port);
    for (const host of ['localhost', '127.0.0.1', 'DEV.localhost']) {
      const answer = await dev.call('GET', '/keys/my-key', undefined, { headers: { host: `${host}:${port}` } });
      const { key: { kid } } = expectOk(answer) as Bundle;
      expect(kid).toBe(`https://${host}:${port}/keys/My-Key/${versionOf(key.key.kid)}`);
    }
  });

  test('a token of one vault has no rights in another', async () => {
    const local = await KeyVault.of(nobody, kms, 'dev', '--subject', 'local', '--role', 'owner');
    const answer = await local.call('GET', '/keys/only-premium', undefined, { headers: { host: `dev-premium.localhost:${kms.port}` } });
    expectRefusal(answer, { status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac', words: 'key/get is missing' });
  });
});

test('headers of the real service', async () => {
  const { headers } = await dev.call('GET', '/keys/my-key', undefined, { headers: { 'x-ms-client-request-id': 'abc-1' } });
  expect(headers).toMatchObject({
    'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-cache', pragma: 'no-cache', expires: '-1',
    'x-content-type-options': 'nosniff', 'strict-transport-security': expect.stringContaining('max-age=31536000'),
    'x-ms-client-request-id': 'abc-1', 'x-ms-keyvault-region': 'local', 'x-ms-keyvault-service-version': expect.stringMatching(/^\d+\.\d+\.\d+\.\d+$/),
    'x-ms-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
  });
});

test('a managed HSM names the request in its errors, a vault does not', async () => {
  const refused = await dev.get('/keys/nothing');
  expect(refused.json.error.message).toContain(`(Activity ID: ${String(refused.headers['x-ms-request-id'])})`);
  expect((await premium.get('/keys/nothing')).json.error.message).toBe('A key with (name/id) nothing was not found in this key vault');
});

describe('pages', () => {
  const names = ['page-d', 'page-a', 'Page-C', 'page-b'];
  const walk = async (first: string): Promise<string[][]> => {
    const pages: string[][] = [];
    for (let next: string | null = first; next !== null;) {
      const { value, nextLink } = expectOk(await premium.call('GET', next.replace(premium.origin, ''), undefined, next === first ? {} : { version: null })) as
        { value: { kid: string }[]; nextLink: string | null };
      pages.push(value.map(({ kid }) => kid));
      expect(nextLink === null || nextLink.startsWith(`${premium.origin}/`)).toBe(true);
      next = nextLink;
    }
    return pages;
  };

  test('of keys, by name, of versions, by id, and of deleted keys', async () => {
    for (const name of names) await premium.create(name, { kty: 'EC' });
    const all = (await walk('/keys')).flat();
    expect(all.filter((kid) => /page/i.test(kid))).toEqual(['page-a', 'page-b', 'Page-C', 'page-d'].map((name) => `${premium.origin}/keys/${name}`));
    expect((await walk('/keys?maxresults=2')).every((page) => page.length <= 2)).toBe(true);
    expect((await walk('/keys?maxresults=2')).flat()).toEqual(all);
    await premium.post('/keys/page-a/rotate');
    await premium.post('/keys/page-a/rotate');
    const versions = await walk('/keys/page-a/versions?maxresults=1');
    expect(versions.map((page) => page.length)).toEqual([1, 1, 1]);
    expect(versions.flat()).toEqual(versions.flat().toSorted());
    for (const name of names.slice(0, 2)) expectOk(await premium.delete(`/keys/${name}`));
    expect((await walk('/deletedkeys?maxresults=1')).flat()).toEqual(['page-a', 'page-d'].map((name) => `${premium.origin}/keys/${name}`));
    expect((await walk('/keys')).flat()).not.toContain(`${premium.origin}/keys/page-a`);
  });

  test.each(['0', '26', 'x', '-1', '1.5'])('maxresults=%s is refused', async (size) => {
    expectRefusal(await dev.get(`/keys?maxresults=${size}`), { status: 400, code: 'BadParameter', words: 'maxresults: expected an integer from 1 to 25' });
  });

  test('a token continues its own listing only', async () => {
    const { nextLink } = expectOk(await premium.get('/keys?maxresults=1')) as { nextLink: string };
    const token = new URL(nextLink).searchParams.get('$skiptoken')!;
    for (const path of [`/deletedkeys?$skiptoken=${token}`, `/keys/page-b/versions?$skiptoken=${token}`, '/keys?$skiptoken=AAAA']) {
      expectRefusal(await premium.get(path), { status: 400, code: 'BadParameter', words: '$skiptoken' });
    }
    expectRefusal(await dev.get(`/keys?$skiptoken=${token}`), { status: 400, code: 'BadParameter', words: '$skiptoken' });
  });
});

test('each decision is in the audit, with the key and its version', async () => {
  const { key: { kid } } = await dev.create('audited', { kty: 'EC' });
  expectOk(await dev.post('/keys/audited/sign', { alg: 'ES256', value: Buffer.alloc(32).toString('base64url') }));
  await dev.get('/keys/audited-not-there');
  const records = auditRecords(kms);
  const signed = records.filter(({ event }) => event === 'key.sign').at(-1);
  expect(signed).toMatchObject({ result: 'success', version: 0, algorithm: 'ES256', principal: { method: 'token', subject: 'kv-owner' } });
  const created = records.filter(({ event, key: id }) => event === 'key.create' && id === signed!.key).at(-1);
  expect(created).toMatchObject({ result: 'success', detail: { versionId: versionOf(kid), name: 'audited' } });
  expect(records.filter(({ event }) => event === 'key.get').at(-1)).toMatchObject({ result: 'refused', reason: 'not-found' });
});
