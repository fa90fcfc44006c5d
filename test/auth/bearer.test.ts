// Access tokens at the door: issued by `kms token issue`, used as a bearer, with and without a client certificate beside.

import { createPublicKey } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { decodeProtectedHeader, jwtVerify } from 'jose';
import { EC, expectRefusal, makeKey, OCT } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { asBearer, baseOf, issueToken } from '../support/bearer.ts';
import { runKms } from '../support/files.ts';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { eventually } from '../support/wait.ts';

let kms: Installation;
let admin: Client;
let nobody: Client;
let key: string;
let premium: string;
/** Of a second, which has long begun when a test waits for its end. */
let brief: string;

serve(async (served) => {
  ({ kms, admin } = served);
  nobody = kms.client(null);
  brief = await issue('--subject', 'alice', '--lifetime', '1');
  key = await makeKey(admin, OCT);
  premium = `${await baseOf(kms, 'dev-premium')}/servicekey`;
});

afterAll(() => nobody.close());

const issue = (...args: readonly string[]): Promise<string> => issueToken(kms, ...args);

const ask = (token: string, path: string, body?: object, client = nobody): Promise<Answer> =>
  asBearer(client, token, body === undefined ? 'GET' : 'POST', path, body);

test('a token with a role does what the role allows, in its vault', async () => {
  const token = await issue('--subject', 'alice', '--role', 'Key Vault Crypto User');
  expect((await ask(token, `/servicekey/${key}`)).status).toBe(200);
  const { status, json } = await ask(token, `/servicekey/${key}/encrypt`, { plaintext: 'AAAA' });
  expect(status).toBe(200);
  expect((await ask(token, `/servicekey/${key}/decrypt`, json as object)).json).toEqual({ plaintext: 'AAAA' });
  expect((await ask(token, '/servicekey')).json.objects_list).toHaveLength(1);
  expectRefusal(await ask(token, '/servicekey', { name: 'mine', ...EC }), 'forbidden', 'key/create');
  expectRefusal(await ask(token, `/servicekey/${key}/deactivate`, {}), 'forbidden', 'key/deactivate');
});

test.each<[string, readonly string[], readonly string[]]>([
  ['owner', ['get', 'create', 'encrypt', 'datakey'], []],
  ['key-vault-crypto-officer', ['get', 'create', 'encrypt', 'datakey'], []],
  ['12338af0-0e69-4776-bea7-57ae8d297424', ['get', 'encrypt', 'datakey'], ['create']],
  ['Key Vault Crypto Service Encryption User', ['get', 'datakey'], ['create', 'encrypt']],
  ['key vault reader', ['get'], ['create', 'encrypt', 'datakey']],
])('the role %s', async (role, may, mayNot) => {
  const token = await issue('--subject', `has ${role}`, '--role', role);
  const calls: Readonly<Record<string, () => Promise<Answer>>> = {
    get: () => ask(token, `/servicekey/${key}`),
    create: () => ask(token, '/servicekey', { name: 'theirs', ...EC }),
    encrypt: () => ask(token, `/servicekey/${key}/encrypt`, { plaintext: 'AAAA' }),
    datakey: () => ask(token, `/servicekey/${key}/datakey`, { size: 256 }),
  };
  for (const name of may) expect([name, (await calls[name]!()).status < 300]).toEqual([name, true]);
  for (const name of mayNot) expectRefusal(await calls[name]!(), 'forbidden');
});

test('without a role there are no rights; a role that is given later counts for the same token', async () => {
  const token = await issue('--subject', 'bob');
  expectRefusal(await ask(token, `/servicekey/${key}`), 'forbidden', 'key/get');
  expectRefusal(await ask(token, '/servicekey'), 'forbidden');
  await issue('--subject', 'bob', '--role', 'key-vault-reader');
  expect((await ask(token, `/servicekey/${key}`)).status).toBe(200);
});

test('a role counts in its vault alone', async () => {
  const token = await issue('--subject', 'carol', '--role', 'owner', '--vault', 'dev-premium');
  expectRefusal(await ask(token, `/servicekey/${key}`), 'forbidden');
  expect((await ask(token, premium, { name: 'hers', ...EC })).status).toBe(201);
  expect((await ask(token, premium)).json.objects_list).toHaveLength(1);
});

test('the older path names no vault: a token alone is not enough, and beside a certificate it decides', async () => {
  const token = await issue('--subject', 'dave', '--role', 'key-vault-reader');
  const path = `https://localhost:${kms.port}/v1/servicekey/${key}`;
  expectRefusal(await ask(token, path), 'unauthenticated', 'vault');
  expect((await ask(token, path, undefined, admin)).status).toBe(200);
  expectRefusal(await ask(token, `${path}/encrypt`, { plaintext: 'AAAA' }, admin), 'forbidden');
});

test('a certificate beside a token must belong to the vault', async () => {
  const token = await issue('--subject', 'erin', '--role', 'owner', '--vault', 'dev-premium');
  expect((await ask(token, premium)).status).toBe(200);
  expectRefusal(await ask(token, premium, undefined, admin), 'forbidden', 'domain');
});

describe('a header that is no token refuses the request, whatever certificate comes with it', () => {
  test.each(['Bearer', 'Bearer ', 'Bearer a.b.c', 'Bearer a b', 'Basic YWxpY2U6c2VjcmV0', 'Token x', 'bearer', '.'])('%j', async (authorization) => {
    for (const client of [nobody, admin]) {
      expectRefusal(await client.call('GET', `/servicekey/${key}`, undefined, { authorization }), 'unauthenticated', 'token');
    }
  });

  test('a token with one changed character', async () => {
    const token = await issue('--subject', 'alice', '--role', 'owner');
    const at = token.lastIndexOf('.') + 10;
    const changed = `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
    expectRefusal(await ask(changed, `/servicekey/${key}`), 'unauthenticated', 'token');
    expect((await ask(token, `/servicekey/${key}`)).status).toBe(200);
  });

  test('a token of a second ago, and then no more', async () => {
    const { exp } = JSON.parse(Buffer.from(brief.split('.')[1] ?? '', 'base64url').toString()) as { exp: number };
    // Five seconds belong to clocks that differ.
    await sleep(Math.max(0, (exp + 5) * 1000 - Date.now()));
    await eventually('the token is over', async () => (await ask(brief, `/servicekey/${key}`)).status === 401);
    expectRefusal(await ask(brief, `/servicekey/${key}`), 'unauthenticated', 'token');
  });
});

test('a token is a JWT that jose verifies with the public half, and says what it should', async () => {
  const token = await issue('--subject', 'frank', '--lifetime', '60');
  const { kid = '', alg, typ } = decodeProtectedHeader(token);
  expect({ alg, typ }).toEqual({ alg: 'ES256', typ: 'JWT' });
  const endpoint = `https://localhost:${kms.port}`;
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  const { spki } = db.prepare(`select public_key as spki from internal_key where name = 'token-issuer'`).get() as { spki: Buffer };
  db.close();
  const claims = (await jwtVerify<{ iat: number; tid: string }>(token, createPublicKey({ key: spki, format: 'der', type: 'spki' }))).payload;
  expect(claims).toEqual({
    iss: `${endpoint}/${claims.tid}/v2.0`, aud: endpoint, sub: 'frank', tid: expect.stringMatching(/^[0-9a-f-]{36}$/),
    jti: expect.stringMatching(/^[0-9a-f-]{36}$/), iat: expect.any(Number), nbf: claims.iat, exp: claims.iat + 60,
  });
  expect(kid).not.toBe('');
});

test('the audit names subject and token of each use, and holds no token', async () => {
  const token = await issue('--subject', 'grace', '--role', 'key-vault-reader');
  const { headers } = await ask(token, `/servicekey/${key}`);
  const { jti } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { jti: string };
  const records = auditRecords(kms);
  const used = records.find(({ requestId }) => requestId === headers['x-request-id']);
  expect(used).toMatchObject({ event: 'key.get', result: 'success', principal: { method: 'token', subject: 'grace' }, credential: jti });
  expect(records.filter(({ event }) => event === 'token.issue').at(-1)).toMatchObject({ result: 'success', detail: { jti: expect.any(String) } });
  expect(records.some(({ event, detail }) => event === 'role.assign' && detail?.['subject'] === 'grace' && detail['role'] === 'key-vault-reader')).toBe(true);
  const signature = token.split('.')[2] ?? '';
  expect(JSON.stringify(records)).not.toContain(signature);
  expect(kms.output).not.toContain(signature);
});

test.each<[string, readonly string[], string]>([
  ['no subject', ['issue'], '--subject'],
  ['an empty subject', ['issue', '--subject', ''], '--subject'],
  ['a subject with a line break', ['issue', '--subject', 'a\nb'], '--subject'],
  ['an unknown role', ['issue', '--subject', 'a', '--role', 'king'], 'key-vault-reader'],
  ['an unknown vault', ['issue', '--subject', 'a', '--vault', 'team-z'], 'team-z'],
  ['no life', ['issue', '--subject', 'a', '--lifetime', '0'], '3600'],
  ['more than an hour', ['issue', '--subject', 'a', '--lifetime', '3601'], '3600'],
])('kms token with %s is refused', async (_name, args, word) => {
  const { code, stdout, stderr } = await runKms(kms.environment, 'token', ...args);
  expect({ stdout, stderr, failed: code !== 0 }).toEqual({ stdout: '', stderr: expect.stringContaining(word), failed: true });
});
