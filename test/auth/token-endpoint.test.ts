// The token endpoint (RFC 6749 §4.4) and what leads to it: status, body and effect of everything that can be asked there.

import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createLocalJWKSet, decodeJwt, type JSONWebKeySet, jwtVerify } from 'jose';
import { makeKey, OCT } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { asBearer } from '../support/bearer.ts';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { type AddedClient, addTokenClient, askToken, FORM, grantForm } from '../support/token-client.ts';

let kms: Installation;
let admin: Client;
let nobody: Client;
let client: AddedClient;
let endpoint: string;
let authority: string;

serve((served) => {
  ({ kms, admin } = served);
  nobody = kms.client(null);
});
beforeAll(async () => {
  client = await addTokenClient(kms, '--subject', 'job', '--role', 'key-vault-reader');
  endpoint = `https://localhost:${kms.port}`;
  authority = `${endpoint}/${client.tenantId}`;
});
afterAll(() => nobody.close());

const ask = (form: Readonly<Record<string, string>> | string, headers?: Readonly<Record<string, string>>): Promise<Answer> =>
  askToken(nobody, client, form, headers);
const form = (how: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> => ({ ...grantForm(client), ...how });
const basic = (id: string, secret: string): string => `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;

function expectError(answer: Answer, status: number, error: string, word = ''): void {
  expect({ status: answer.status, json: answer.json }).toEqual({ status, json: { error, error_description: expect.stringContaining(word) } });
  expect(answer.headers).toMatchObject({ 'cache-control': 'no-store', pragma: 'no-cache', 'content-type': 'application/json; charset=utf-8' });
}

async function keySet(): Promise<JSONWebKeySet> {
  return (await nobody.get(`${authority}/discovery/v2.0/keys`)).json as JSONWebKeySet;
}

test('a secret in the form gets a token that the served keys verify, and the audit says which', async () => {
  const answer = await ask(form());
  expect(answer.status).toBe(200);
  expect(answer.headers).toMatchObject({ 'cache-control': 'no-store', pragma: 'no-cache' });
  const { access_token: token, ...rest } = answer.json as { access_token: string };
  expect(rest).toEqual({ token_type: 'Bearer', expires_in: 3600, ext_expires_in: 3600 });
  const { payload, protectedHeader } = await jwtVerify<{ iat: number; jti: string }>(token, createLocalJWKSet(await keySet()));
  expect(protectedHeader).toEqual({ alg: 'ES256', typ: 'JWT', kid: expect.any(String) });
  expect(payload).toEqual({
    iss: `${authority}/v2.0`, aud: endpoint, sub: 'job', tid: client.tenantId, jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
    iat: expect.any(Number), nbf: payload.iat, exp: payload.iat + 3600,
  });
  expect(Math.abs(payload.iat - Date.now() / 1000)).toBeLessThan(60);
  expect(auditRecords(kms).find(({ requestId }) => requestId === answer.headers['x-request-id'])).toMatchObject({
    event: 'token.issue', result: 'success', credential: client.clientId, source: expect.any(String),
    principal: { method: 'client-secret', issuer: `urn:kms:${client.tenantId}`, subject: 'job' },
    detail: { subject: 'job', jti: payload.jti, exp: payload.exp, aud: endpoint },
  });
  const path = `/servicekey/${await makeKey(admin, OCT)}`;
  expect((await asBearer(nobody, token, 'GET', path)).status).toBe(200);
  expect((await asBearer(nobody, token, 'POST', `${path}/encrypt`, { plaintext: 'AAAA' })).status).toBe(403);
});

test('HTTP Basic is as good, percent-encoded or not, and with the same client_id in the form', async () => {
  const { grant_type = '', scope = '' } = form();
  for (const [id, more] of [
    [client.clientId, {}], [client.clientId.toUpperCase(), {}], [client.clientId.replaceAll('-', '%2D'), {}], [client.clientId, { client_id: client.clientId }],
  ] as const) {
    const { status, json } = await ask({ grant_type, scope, ...more }, { authorization: basic(id, client.clientSecret) });
    expect([status, decodeJwt((json as { access_token: string }).access_token).sub]).toEqual([200, 'job']);
  }
});

test('the audience is the resource of the scope, letter by letter; a charset and unknown parameters do no harm', async () => {
  const { json } = await ask(form({ scope: `${endpoint}//.default`, resource: 'x', claims: '{}', empty: '' }), { 'content-type': `${FORM['content-type']}; charset=UTF-8` });
  expect(decodeJwt((json as { access_token: string }).access_token).aud).toBe(`${endpoint}/`);
});

describe('the client is not who it says', () => {
  test('unknown, revoked and wrong are one answer, and none of them gets a token', async () => {
    const gone = await addTokenClient(kms, '--subject', 'gone', '--role', 'key-vault-reader');
    const before = await askToken(nobody, gone, grantForm(gone));
    expect(before.status).toBe(200);
    await kms.command('token', 'client', 'revoke', gone.clientId);
    const answers = [
      await ask(grantForm(gone)),
      await ask(form({ client_secret: gone.clientSecret })),
      await ask(form({ client_secret: `${client.clientSecret}A` })),
      await ask(form({ client_secret: client.clientSecret.slice(0, -1) })),
      await ask(form({ client_secret: createHash('sha256').update(client.clientSecret).digest('hex') })),
      await ask(form({ client_id: '00000000-0000-4000-8000-000000000000' })),
      await ask(form({ client_id: "' or 1=1 --" })),
      await ask(form({ client_id: 'a\0b' })),
      ...(await Promise.all([[client.clientId, 'wrong'], [client.clientId, ''], ['00000000-0000-4000-8000-000000000000', '']].map(([id = '', secret = '']) =>
        ask({ grant_type: 'client_credentials', scope: client.scope }, { authorization: basic(id, secret) })))),
    ];
    for (const answer of answers) {
      expectError(answer, 401, 'invalid_client', 'unknown or revoked');
      expect(answer.text).toBe(answers[0]?.text);
      expect(answer.headers['www-authenticate']).toBe('Basic realm="token", charset="UTF-8"');
    }
    // A token that it got before is good until its end.
    const path = `/servicekey/${await makeKey(admin, OCT)}`;
    expect((await asBearer(nobody, (before.json as { access_token: string }).access_token, 'GET', path)).status).toBe(200);
  });

  test('no secret, and a scheme that is not Basic', async () => {
    const { grant_type = '', scope = '' } = form();
    expectError(await ask({ grant_type, scope }), 401, 'invalid_client', 'required');
    expectError(await ask({ grant_type, scope, client_id: client.clientId }), 401, 'invalid_client', 'required');
    expectError(await ask({ grant_type, scope, client_secret: client.clientSecret }), 401, 'invalid_client', 'required');
    for (const authorization of ['Bearer a.b.c', 'Basic', 'Basic ', 'Basic !', basic('', client.clientSecret), 'Basic bm8gY29sb24=', `Basic ${'A'.repeat(2052)}`]) {
      expectError(await ask({ grant_type, scope }, { authorization }), 401, 'invalid_client', 'Basic');
    }
  });
});

describe('refused', () => {
  test.each<[string, Readonly<Record<string, string>>, string, string]>([
    ['an empty grant type', { grant_type: '' }, 'invalid_request', 'grant_type'],
    ['a password grant', { grant_type: 'password', username: 'a', password: 'b' }, 'unsupported_grant_type', 'client_credentials'],
    ['a grant in capitals', { grant_type: 'CLIENT_CREDENTIALS' }, 'unsupported_grant_type', 'client_credentials'],
    ['no scope', { scope: '' }, 'invalid_scope', '/.default'],
    ['a foreign scope', { scope: 'https://vault.azure.net/.default' }, 'invalid_scope', '/.default'],
    ['a scope that begins so', { scope: 'https://localhost:8443.example/.default' }, 'invalid_scope', '/.default'],
    ['two scopes', { scope: 'SCOPE SCOPE' }, 'invalid_scope', '/.default'],
    ['a scope without the end', { scope: 'ENDPOINT' }, 'invalid_scope', '/.default'],
    ['a long scope', { scope: 'x'.repeat(1025) }, 'invalid_scope', '1024'],
    ['a long client', { client_id: 'x'.repeat(65) }, 'invalid_request', '64'],
    ['a long secret', { client_secret: 'x'.repeat(257) }, 'invalid_request', '256'],
  ])('%s', async (_name, how, error, word) => {
    const asked = Object.entries(how).map(([name, value]) => [name, value.replaceAll('SCOPE', client.scope).replaceAll('ENDPOINT', endpoint)]);
    expectError(await ask(form(Object.fromEntries(asked) as Record<string, string>)), 400, error, word);
  });

  test('a parameter twice, also with the same value or behind an encoding', async () => {
    const good = new URLSearchParams(form()).toString();
    for (const more of ['scope=x', `client_id=${client.clientId}`, 'grant%5Ftype=client_credentials', 'a=1&a=1', 'scope=']) {
      expectError(await ask(`${good}&${more}`), 400, 'invalid_request', 'duplicate');
    }
    expect((await ask(`${good}&__proto__=x&constructor=y&&`)).status).toBe(200);
  });

  test('two ways of client authentication', async () => {
    const { grant_type = '', scope = '' } = form();
    const authorization = basic(client.clientId, client.clientSecret);
    expectError(await ask(form(), { authorization }), 400, 'invalid_request', 'one way');
    expectError(await ask({ grant_type, scope, client_id: '00000000-0000-4000-8000-000000000000' }, { authorization }), 400, 'invalid_request', 'one way');
  });

  test('what is no form, and none at all', async () => {
    for (const text of ['grant_type=%zz', 'grant_type=%ff', 'grant type=x', 'grant_type=é', '\0=\0']) expectError(await ask(text), 400, 'invalid_request', 'form');
    expectError(await ask(JSON.stringify(form()), { 'content-type': 'application/json' }), 400, 'invalid_request', 'x-www-form-urlencoded');
    expectError(await ask(new URLSearchParams(form()).toString(), { 'content-type': 'text/x-application/x-www-form-urlencoded' }), 400, 'invalid_request');
    expectError(await nobody.call('POST', client.tokenEndpoint), 400, 'invalid_request', 'grant_type');
    expectError(await nobody.get(`${client.tokenEndpoint}?${new URLSearchParams(form()).toString()}`), 405, 'invalid_request');
    expectError(await nobody.call('POST', `${client.tokenEndpoint}?${new URLSearchParams(form()).toString()}`), 400, 'invalid_request', 'grant_type');
  });

  test('a body that is too large', async () => {
    const long = new URLSearchParams(form({ padding: 'x'.repeat(16 * 1024) })).toString();
    expectError(await ask(long), 413, 'invalid_request', '16384');
    expect((await ask(form({ padding: 'x'.repeat(15 * 1024) }))).status).toBe(200);
  });

  test('pages from elsewhere', async () => {
    expectError(await ask(form(), { origin: 'https://evil.example' }), 403, 'invalid_request', 'elsewhere');
    expectError(await ask(form(), { 'sec-fetch-site': 'cross-site' }), 403, 'invalid_request', 'elsewhere');
  });

  test('other methods, tenants, paths and the public port', async () => {
    for (const method of ['GET', 'PUT', 'DELETE', 'PATCH'] as const) {
      const answer = await nobody.call(method, client.tokenEndpoint);
      expectError(answer, 405, 'invalid_request', method);
      expect(answer.headers['allow']).toBe('POST');
    }
    const other = client.tokenEndpoint.replace(client.tenantId, '00000000-0000-4000-8000-000000000000');
    const elsewhere = client.tokenEndpoint.replace(`:${kms.port}/`, `:${kms.publicPort}/`);
    for (const url of [other, elsewhere, client.tokenEndpoint.replace('/v2.0', ''), `${client.tokenEndpoint}/x`, `${authority}/oauth2/v2.0/authorize`]) {
      const { status, json } = await nobody.call('POST', url, new URLSearchParams(form()).toString(), FORM);
      expect([url, status, json]).toEqual([url, 404, expect.objectContaining({ error_id: 'unknown-route' })]);
    }
  });
});

test('every refusal is in the audit: of clients that are known by name, of others by where they came from', async () => {
  // The flood gate counts what a source is refused for the same reason in the same second.
  await new Promise((resolve) => setTimeout(resolve, 1100)); // over, on any machine
  const refused = {
    unauthenticated: await ask(form({ client_secret: 'wrong' })),
    'malformed-request': await ask('a=1&a=2'),
    'too-large': await ask(form({ padding: 'x'.repeat(16 * 1024) })),
    'method-not-allowed': await nobody.get(client.tokenEndpoint),
  };
  const scope = await ask(form({ scope: 'https://vault.azure.net/.default' }));
  const records = auditRecords(kms);
  for (const [reason, { headers }] of Object.entries(refused)) {
    expect(records.find(({ requestId }) => requestId === headers['x-request-id'])).toMatchObject({ event: 'request.refused', result: 'refused', reason, source: expect.any(String) });
  }
  expect(records.find(({ requestId }) => requestId === scope.headers['x-request-id'])).toMatchObject({
    event: 'token.issue', result: 'refused', reason: 'invalid-field', credential: client.clientId, principal: { method: 'client-secret', subject: 'job' },
  });
});

test('neither log nor audit holds a secret or a token', async () => {
  const { json } = await ask(form());
  await ask(form({ client_secret: 'wrongwrongwrong' }));
  await ask({ grant_type: 'client_credentials', scope: 'x' }, { authorization: basic(client.clientId, client.clientSecret) });
  const told = `${kms.output}${kms.auditText().join('\n')}`;
  expect(told).toContain('token.issue');
  const encoded = basic(client.clientId, client.clientSecret).slice(6);
  for (const secret of [client.clientSecret, 'wrongwrongwrong', encoded, (json as { access_token: string }).access_token.split('.')[2] ?? '']) expect(told).not.toContain(secret);
});

test('discovery names the issuer, its keys and this endpoint', async () => {
  const url = `${authority}/v2.0/.well-known/openid-configuration`;
  const { status, json } = await nobody.get(url);
  expect([status, json]).toEqual([200, {
    issuer: `${authority}/v2.0`, token_endpoint: client.tokenEndpoint, jwks_uri: `${authority}/discovery/v2.0/keys`,
    authorization_endpoint: `${authority}/oauth2/v2.0/authorize`, grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
    response_types_supported: [], subject_types_supported: ['public'], id_token_signing_alg_values_supported: ['ES256'],
  }]);
  expect(await keySet()).toEqual({ keys: [{ kty: 'EC', crv: 'P-256', x: expect.any(String), y: expect.any(String), kid: expect.any(String), alg: 'ES256', use: 'sig' }] });
  for (const path of [url, `${authority}/discovery/v2.0/keys`]) {
    const answer = await nobody.call('POST', path, {});
    expectError(answer, 405, 'invalid_request', 'POST');
    expect(answer.headers['allow']).toBe('GET, HEAD');
    expect((await nobody.get(path.replace(client.tenantId, 'common'))).status).toBe(404);
    expect((await nobody.get(path.replace(`:${kms.port}/`, `:${kms.publicPort}/`))).status).toBe(404);
  }
});
