/** The OpenAPI document of the Key Vault door says what the server does: against the route table, and against its answers. */

import { randomUUID } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { keyVaultDocument } from '../../../src/api/keyvault/document.ts';
import { keyVaultRoutes, type KeyVaultServices } from '../../../src/api/keyvault/routes.ts';
import { Documented } from '../../support/documented.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { b64, KeyVault, type Method, versionOf } from './support.ts';

/** Readers only: nothing here runs an action. */
const routes = keyVaultRoutes({} as KeyVaultServices);
const document = new Documented(keyVaultDocument, routes);

let kms: Installation;
let nobody: Client;
let dev: KeyVault;

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
});

afterAll(() => nobody.close());

describe('the document and the route table', () => {
  test('name the same methods and paths, each operation by a name of its own', () => {
    const table = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
    expect(document.all().map(([method, path]) => `${method} ${path}`).sort()).toEqual(table.sort());
    const names = document.all().map(([, , { operationId }]) => operationId);
    expect(new Set(names).size).toBe(names.length);
  });

  test('each operation declares its parameters, the version of the API among them, and its group', () => {
    const groups = document.written.tags.map(({ name }) => name);
    for (const [, path, { parameters = [], tags }] of document.all()) {
      const wanted = Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name);
      expect(parameters.filter((parameter) => parameter.in === 'path').map(({ name, required }) => [name, required])).toEqual(wanted.map((name) => [name, true]));
      expect(parameters.find(({ name }) => name === 'api-version')).toMatchObject({ in: 'query', required: true });
      expect(groups).toEqual(expect.arrayContaining([...tags]));
    }
  });

  test.each(routes.filter(({ description }) => description.body !== undefined).map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s has an example that its schema accepts, also as the document has it', (_name, route) => {
      const { schema, example } = route.description.body!;
      expect(schema.safeParse(example).success).toBe(true);
      const media = document.find(route.method, route.path.replace(/:(\w+)/g, '{$1}')).requestBody!.content['application/json'];
      expect(document.checker(media.schema).safeParse(example).success).toBe(true);
      expect(document.checker(media.schema).safeParse([]).success).toBe(false);
    });
});

test('what the server answers is what the document says', async () => {
  const seen = new Set<string>();
  const call = async (method: Method, path: string, params: Readonly<Record<string, string>>, body?: object): Promise<Answer> => {
    const answer = await dev.call(method, path.replace(/\{(\w+)\}/g, (_, name: string) => params[name]!), body);
    document.expectAnswer(method, path, answer);
    seen.add(`${method} ${path}`);
    return answer;
  };
  const name = 'documented';
  const { json } = await call('POST', '/keys/{name}/create', { name }, { kty: 'RSA', attributes: { exp: 4_000_000_000, nbf: 1 }, tags: { a: 'b' } });
  const version = versionOf((json as { key: { kid: string } }).key.kid);
  await call('PUT', '/keys/{name}', { name: 'given' }, { key: { kty: 'oct', k: b64(Buffer.alloc(32, 5)) } });
  for (const path of ['/keys/{name}', '/keys/{name}/{version}']) {
    await call('GET', path, { name, version });
    await call('PATCH', path, { name, version }, { tags: { c: 'd' } });
  }
  for (const path of ['/keys', '/deletedkeys', '/keys/{name}/versions']) await call('GET', path, { name });
  const digest = b64(Buffer.alloc(32, 1));
  for (const at of ['/keys/{name}', '/keys/{name}/{version}']) {
    const run = async (operation: string, body: object): Promise<string> =>
      String(((await call('POST', `${at}/${operation}`, { name, version }, body)).json as { value: unknown }).value);
    const value = await run('encrypt', { alg: 'RSA-OAEP', value: digest });
    await run('decrypt', { alg: 'RSA-OAEP', value });
    const wrapped = await run('wrapkey', { alg: 'RSA-OAEP-256', value: digest });
    await run('unwrapkey', { alg: 'RSA-OAEP-256', value: wrapped });
    const signature = await run('sign', { alg: 'PS256', value: digest });
    expect(await run('verify', { alg: 'PS256', digest, value: signature })).toBe('true');
    await call('GET', `${at}/attestation`, { name, version });
    await call('POST', `${at}/release`, { name, version }, { target: 'x' });
  }
  await call('POST', '/rng', {}, { count: 16 });
  for (const scope of ['', '/keys', '/keys/{name}']) {
    const [definitions, assignments] = ['roleDefinitions', 'roleAssignments'].map((what) => `${scope}/providers/Microsoft.Authorization/${what}`);
    const [id, other] = [randomUUID(), randomUUID()];
    await call('PUT', `${definitions!}/{id}`, { name, id }, { properties: { roleName: `Role ${id}`, permissions: [] } });
    await call('PUT', `${assignments!}/{id}`, { name, id: other }, { properties: { roleDefinitionId: id, principalId: 'x' } });
    for (const path of [definitions!, assignments!]) await call('GET', path, { name });
    for (const [path, which] of [[assignments!, other], [definitions!, id]] as const) {
      await call('GET', `${path}/{id}`, { name, id: which });
      await call('DELETE', `${path}/{id}`, { name, id: which });
    }
  }
  await call('POST', '/keys/{name}/rotate', { name });
  await call('POST', '/keys/{name}/backup', { name });
  await call('POST', '/keys/restore', {}, { value: 'AAAA' });
  await call('GET', '/keys/{name}/rotationpolicy', { name });
  await call('PUT', '/keys/{name}/rotationpolicy', { name }, { lifetimeActions: [] });
  await call('DELETE', '/keys/{name}', { name });
  await call('GET', '/deletedkeys/{name}', { name });
  await call('GET', '/deletedkeys', {});
  await call('POST', '/deletedkeys/{name}/recover', { name });
  await call('DELETE', '/keys/{name}', { name });
  await call('DELETE', '/deletedkeys/{name}', { name });
  // Errors of every kind of route.
  for (const [method, path] of [['GET', '/keys/{name}'], ['POST', '/keys/{name}/sign'], ['DELETE', '/deletedkeys/{name}'], ['POST', '/keys/{name}/create']] as const) {
    document.expectAnswer(method, path, await dev.call(method, path.replace('{name}', 'nothing'), method === 'POST' ? {} : undefined));
    document.expectAnswer(method, path, await dev.call(method, path.replace('{name}', 'under_score')));
    document.expectAnswer(method, path, await dev.call(method, path.replace('{name}', 'nothing'), undefined, { headers: { authorization: 'Bearer x' } }));
  }
  expect([...seen].sort()).toEqual(document.all().map(([method, path]) => `${method} ${path}`).sort());
});
