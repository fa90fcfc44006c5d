// The OpenAPI document says what the server does (okms-rest-api §2, §4.6): against the route table, against the schemas
// that check requests, and against answers of a running server, read with the document's own JSON Schema.

import { describe, expect, jest, test } from '@jest/globals';
import { z } from 'zod';
import type { Route } from '../../../src/api/door.ts';
import { okmsDocument } from '../../../src/api/okms/document.ts';
import { okmsRoutes, type OkmsServices } from '../../../src/api/okms/routes.ts';
import { Documented } from '../../support/documented.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, EC, makeKey, OCT, RSA, UNKNOWN_ID } from './support.ts';

/** Readers only: nothing here runs an action. */
const routes = okmsRoutes({} as OkmsServices);
const document = new Documented(okmsDocument, routes);
const { written } = document;

describe('the document and the route table', () => {
  test('name the same methods and paths', () => {
    const table = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
    expect(document.all().map(([method, path]) => `${method} ${path}`).sort()).toEqual(table.sort());
    expect(new Set(table).size).toBe(routes.length);
  });

  test('every operation has a name of its own and declares the parameters of its path', () => {
    const names = document.all().map(([, , { operationId }]) => operationId);
    expect(new Set(names).size).toBe(names.length);
    for (const [, path, { parameters = [] }] of document.all()) {
      const wanted = Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name);
      const declared = parameters.filter((parameter) => parameter.in === 'path');
      expect(declared.map(({ name, required }) => [name, required])).toEqual(wanted.map((name) => [name, true]));
    }
  });

  test('every operation is in a group that the document has', () => {
    const groups = (written.tags as { name: string }[]).map(({ name }) => name);
    expect(new Set(document.all().flatMap(([, , { tags }]) => tags))).toEqual(new Set(groups));
  });

  test('every reference leads somewhere', () => {
    const references = JSON.stringify(written).matchAll(/"\$ref":"#\/([^"]+)"/g);
    const targets = Array.from(references, ([, path = '']) =>
      path.split('/').reduce((at: Record<string, never> | undefined, name) => at?.[name], written as unknown as Record<string, never>));
    expect(targets.length).toBeGreaterThan(30);
    expect(targets).not.toContain(undefined);
  });

  test('no object that a request may have extended is declared closed, and every answer is', () => {
    const { schemas } = written.components;
    for (const [name, schema] of Object.entries(schemas as Record<string, { type?: string; additionalProperties?: unknown }>)) {
      if (schema.type === 'object') expect([name, schema.additionalProperties === false]).toEqual([name, !name.endsWith('Request')]);
    }
  });
});

const withBody = routes.filter(({ description }) => description.body !== undefined);
const named = (route: Route): [string, Route] => [`${route.method} ${route.path}`, route];

test('the documented limits are there: counts of characters, ranges, formats', () => {
  const { schemas } = written.components;
  expect(schemas.CreateImportServiceKeyRequest.properties.name).toMatchObject({ type: 'string', minLength: 1, maxLength: 32 });
  expect(schemas.GenerateDataKeyRequest.properties.size).toMatchObject({ type: 'integer', minimum: 64, maximum: 4096, multipleOf: 8 });
  expect(schemas.EncryptRequest).toMatchObject({ required: ['plaintext'], properties: { plaintext: { format: 'byte', maxLength: 5464 } } });
});

test.each(withBody.map(named))('%s checks its body with the documented schema and with no other', (_name, route) => {
  const { schema } = route.description.body!;
  const asked = jest.spyOn(schema, 'safeParse');
  const body = { name: 1 };
  const request = { params: { keyId: UNKNOWN_ID }, query: {}, body, origin: 'https://localhost' };
  const outcome = (): unknown => { try { return route.read(request); } catch (error) { return error; } };
  outcome();
  expect(asked.mock.calls).toEqual([[body]]);
  // What that schema says is what the caller hears.
  asked.mockReturnValue({ success: false, error: new z.ZodError([{ code: 'custom', path: ['planted'], message: 'X', input: 1 }]) });
  expect(outcome()).toMatchObject({ code: 'invalid-field', field: 'planted' });
  asked.mockRestore();
});

test.each(withBody.map(named))('%s has an example that its schema accepts, also as the document has it', (_name, route) => {
  const { schema, example } = route.description.body!;
  expect(schema.safeParse(example).success).toBe(true);
  const media = document.find(route.method, route.path.replace(/:(\w+)/g, '{$1}')).requestBody!.content['application/json'];
  expect(media.example).toEqual(example);
  expect(document.checker(media.schema).safeParse(example).success).toBe(true);
  expect(document.checker(media.schema).safeParse([]).success).toBe(false);
});

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** @returns the answer, of which status and shape are as documented */
async function asDocumented(method: Method, path: string, keyId: string, body?: object, query = ''): Promise<Answer> {
  const answer = await admin.call(method, path.replace('{keyId}', keyId) + query, body);
  document.expectAnswer(method, path, answer);
  return answer;
}

const KEY = '/servicekey/{keyId}';

test('a checker made of the document tells shapes apart', () => {
  const check = document.checker(document.find('GET', KEY).responses['200']!.content!['application/json'].schema);
  expect(check.safeParse({}).success).toBe(false);
  const error = document.checker(document.find('GET', KEY).responses['404']!.content!['application/json'].schema);
  expect(error.safeParse({ error_id: 'a', error_code: -1, errors: ['b'], request_id: 'c' }).success).toBe(false);
  expect(error.safeParse({ error_id: 'a', error_code: 1, errors: ['b'], request_id: 'c' }).success).toBe(true);
  expect(error.safeParse({ error_id: 'a', error_code: 1, errors: ['b'], request_id: 'c', more: 1 }).success).toBe(false);
});

/** Every operation of the document, each with its success. */
test('what the server answers is what the document says', async () => {
  const seen = new Set<string>();
  const call = async (method: Method, path: string, id: string, body?: object, query = ''): Promise<Answer> => {
    const answer = await asDocumented(method, path, id, body, query);
    expect([method, path, answer.text, answer.status < 300]).toEqual([method, path, answer.text, true]);
    seen.add(`${method} ${path}`);
    return answer;
  };
  const { example } = document.find('POST', '/servicekey').requestBody!.content['application/json'];
  await call('POST', '/servicekey', '', example);
  for (const kind of [OCT, RSA, EC]) {
    const made = await call('POST', '/servicekey', '', { name: 'documented', ...kind }, '?format=jwk');
    const id = made.json.id as string;
    await call('GET', KEY, id);
    await call('GET', KEY, id, undefined, '?format=jwk');
    await call('PATCH', KEY, id, { name: 'renamed' });
    await use(call, id, kind.type);
    await call('POST', `${KEY}/deactivate`, id, { reason: 'key_compromise' });
    await call('GET', KEY, id);
    await call('POST', `${KEY}/activate`, id);
    await call('POST', `${KEY}/deactivate`, id);
    await call('GET', '/servicekey', '', undefined, '?state=all&max=500');
    await call('DELETE', kind === EC ? `${KEY}/delete` : KEY, id);
    await call('GET', '/servicekey', '', undefined, '?state=destroyed&max=1');
  }
  await rest(call);
  expect([...seen].sort()).toEqual(document.all().map(([method, path]) => `${method} ${path}`).sort());
});

type AskDocumented = (method: Method, path: string, id: string, body?: object, query?: string) => Promise<Answer>;

async function use(call: AskDocumented, id: string, type: string): Promise<void> {
  if (type === 'oct') {
    const plaintext = base64('to be kept');
    const sealed = await call('POST', `${KEY}/encrypt`, id, { plaintext, context: 'here' });
    await call('POST', `${KEY}/decrypt`, id, { ...sealed.json, context: 'here' });
    const { json } = await call('POST', `${KEY}/datakey`, id, { size: 256 });
    await call('POST', `${KEY}/datakey/decrypt`, id, { key: json.key });
    return;
  }
  const input = { message: base64('to be signed'), alg: type === 'RSA' ? 'PS256' : 'ES256' };
  const { json } = await call('POST', `${KEY}/sign`, id, input);
  await call('POST', `${KEY}/verify`, id, { ...input, signature: json.signature });
}

/** Routes that work on no key. */
async function rest(call: AskDocumented): Promise<void> {
  await call('GET', '/random', '', undefined, '?length=16');
}

test('refusals are of the documented statuses and of the documented shape', async () => {
  const id = await makeKey(admin, OCT);
  const stranger = kms.client(null);
  for (const [method, path] of document.all()) {
    const target = path.replace('{keyId}', id);
    const refusal = await stranger.call(method as Method, target);
    expect(refusal.status).toBe(401);
    document.expectAnswer(method, path, refusal);
    const elsewhere = await admin.call(method as Method, `https://localhost:${kms.port}/api/${UNKNOWN_ID}/v1${target}`);
    expect(elsewhere.status).toBe(403);
    document.expectAnswer(method, path, elsewhere);
    if (path === target) continue;
    const { example } = document.find(method, path).requestBody?.content['application/json'] ?? {};
    const unknown = await asDocumented(method as Method, path, UNKNOWN_ID, example);
    expect([method, path, unknown.status]).toEqual([method, path, 404]);
    expect((await asDocumented(method as Method, path, 'no-uuid', example)).status).toBe(400);
  }
  await stranger.close();
  const name = 'twice';
  expect((await asDocumented('POST', '/servicekey', '', { ...OCT, name, id })).status).toBe(409);
  expect((await asDocumented('POST', '/servicekey', '', { name: 'x'.repeat(70_000) })).status).toBe(413);
  expect((await asDocumented('DELETE', KEY, id)).status).toBe(400);
});

/** Queries are short enough to try every value, and one beside. */
test('the documented queries are those that are accepted', async () => {
  const id = await makeKey(admin, EC);
  const signature = { message: base64('m'), alg: 'ES256' };
  for (const [method, path, { parameters = [] }] of document.all()) {
    for (const { name, schema } of parameters.filter((parameter) => parameter.in === 'query')) {
      const resolved = resolve(schema);
      const body = method === 'GET' ? undefined : path.endsWith('sign') ? signature : { name: 'queried', ...EC };
      const ask = (value: string): Promise<Answer> =>
        admin.call(method as Method, `${path.replace('{keyId}', id)}?${name}=${encodeURIComponent(value)}`, body);
      for (const value of resolved.enum ?? [resolved.minimum, resolved.maximum].filter((v) => v !== undefined)) {
        const { status, text } = await ask(String(value));
        // `sign` refuses a message that is not for its format; the format itself it knows.
        expect([path, name, value, status < 300 || !text.includes('expected one of')]).toEqual([path, name, value, true]);
      }
      const outside = resolved.enum === undefined ? (resolved.maximum ?? 0) + 1 : 'something-else';
      const refusal = await ask(String(outside));
      expect([path, name, refusal.status, refusal.json.errors[0]]).toEqual([path, name, 400, expect.stringContaining(name)]);
    }
  }
});

function resolve(schema: object): { readonly enum?: readonly string[]; readonly minimum?: number; readonly maximum?: number } {
  const { $ref } = schema as { $ref?: string };
  return $ref === undefined ? schema : written.components.schemas[$ref.split('/').at(-1) ?? ''];
}
