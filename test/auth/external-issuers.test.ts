// Access tokens of configured issuers (security S-12): their own key sets, fixed algorithms, exact claims; groups and roles.

import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { SignJWT, UnsecuredJWT } from 'jose';
import { type Answer, type Client, Installation } from '../support/installation.ts';
import { KeySetServer } from '../support/key-set-server.ts';
import { OwnCa, SERVER_AUTH } from '../support/own-ca.ts';
import { eventually } from '../support/wait.ts';

const ISS = 'https://login.example/tenant/v2.0';
/** In which an issuer is asked for keys once at most. */
const COOLDOWN_SECONDS = 2;
const FILE_ISS = 'https://file.example/';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = (key: KeyObject, kid: string): object => ({ ...key.export({ format: 'jwk' }), kid, use: 'sig' });

let kms: Installation;
let server: KeySetServer;
let nobody: Client;

beforeAll(async () => {
  const ca = await OwnCa.make('web');
  const tls = await ca.issue({ cn: 'localhost', san: [{ type: 'dns', value: 'localhost' }], usages: [SERVER_AUTH] });
  server = await KeySetServer.start(tls);
  server.keys = [jwk(rsa.publicKey, 'one')];
  const issuers = [
    {
      name: 'entra', issuer: ISS, audiences: ['api://kms'], algorithms: ['RS256'], jwksUrl: server.url, caFile: 'web.pem', cooldownSeconds: COOLDOWN_SECONDS,
      subjectClaim: 'oid', idClaim: 'uti', requiredClaims: { tid: 'tenant' },
    },
    { name: 'file', issuer: FILE_ISS, algorithms: ['ES256'], jwksFile: 'keys.json' },
  ];
  kms = await Installation.make({ KMS_ACCESS_ISSUERS: JSON.stringify(issuers), KMS_SERVER_PROCESSES: '1' });
  writeFileSync(join(kms.home, 'web.pem'), ca.certificate);
  writeFileSync(join(kms.home, 'keys.json'), JSON.stringify({ keys: [jwk(ec.publicKey, 'file-one')] }));
  const reader = ['--role', 'key-vault-reader', '--vault', 'dev'];
  await kms.command('role', 'assign', '--token', 'alice', '--issuer', 'entra', ...reader);
  await kms.command('role', 'assign', '--group', 'g-ops', '--issuer', 'entra', ...reader);
  await kms.command('role', 'assign', '--app-role', 'Kms.Read', '--issuer', 'entra', ...reader);
  await kms.command('role', 'assign', '--token', 'alice', '--issuer', 'file', ...reader);
  await kms.start();
  nobody = kms.client(null);
});

afterAll(async () => {
  await nobody.close();
  await kms.remove();
  await server.close();
});

const now = (): number => Math.floor(Date.now() / 1000);

interface Made {
  readonly claims?: object;
  readonly header?: object;
  readonly key?: KeyObject;
}

/** @param claims, header: undefined members are left out */
function token({ claims = {}, header = {}, key = rsa.privateKey }: Made = {}): Promise<string> {
  const payload = { iss: ISS, aud: 'api://kms', oid: 'alice', uti: 'u', tid: 'tenant', nbf: now() - 5, iat: now() - 5, exp: now() + 300, ...claims };
  return new SignJWT(JSON.parse(JSON.stringify(payload)) as object as Record<string, never>)
    .setProtectedHeader({ alg: 'RS256', kid: 'one', ...header }).sign(key);
}

function ask(text: string): Promise<Answer> {
  return nobody.call('GET', `https://localhost:${kms.port}/keys?api-version=7.4`, undefined, { authorization: `Bearer ${text}` });
}

const status = async (made?: Made): Promise<number> => (await ask(await token(made))).status;

/** Once the keys that it knows are those that it should know by now. */
async function expectSoon(wanted: number, made: Made): Promise<void> {
  const text = await token(made);
  await eventually(`${wanted} for ${String((made.header as { kid?: string }).kid)}`, async () => (await ask(text)).status === wanted);
}

test('who it speaks for is the configured claim; groups and roles give theirs', async () => {
  expect(await status()).toBe(200);
  expect(await status({ claims: { oid: 'bob' } })).toBe(403);
  expect(await status({ claims: { oid: 'bob', groups: ['g-web', 'g-ops'] } })).toBe(200);
  expect(await status({ claims: { oid: 'bob', groups: ['g-web'] } })).toBe(403);
  expect(await status({ claims: { oid: 'bob', roles: ['Kms.Read'] } })).toBe(200);
  expect(await status({ claims: { oid: 'bob', roles: 'Kms.Read' } })).toBe(200);
  // The names of one claim mean nothing in another.
  expect(await status({ claims: { oid: 'bob', groups: ['Kms.Read'], roles: ['g-ops'] } })).toBe(403);
  expect(await status({ claims: { oid: 'g-ops' } })).toBe(403);
  expect(await status({ claims: { oid: 'bob', groups: Array.from({ length: 201 }, (_, n) => `g${n}`) } })).toBe(401);
});

test('an issuer is asked for its own keys alone', async () => {
  const endpoint = `https://localhost:${kms.port}`;
  const claims = { iss: FILE_ISS, aud: endpoint, sub: 'alice' };
  expect(await status({ claims, header: { alg: 'ES256', kid: 'file-one' }, key: ec.privateKey })).toBe(200);
  expect(await status({ claims, header: { kid: 'one' } })).toBe(401);
  expect(await status({ header: { alg: 'ES256', kid: 'file-one' }, key: ec.privateKey })).toBe(401);
  expect(await status({ claims: { ...claims, aud: 'api://kms' }, header: { alg: 'ES256', kid: 'file-one' }, key: ec.privateKey })).toBe(401);
  const next = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(join(kms.home, 'keys.json'), JSON.stringify({ keys: [jwk(next.publicKey, 'file-two')] }));
  await expectSoon(200, { claims, header: { alg: 'ES256', kid: 'file-two' }, key: next.privateKey });
  expect(await status({ claims, header: { alg: 'ES256', kid: 'file-one' }, key: ec.privateKey })).toBe(401);
});

describe('401, in the same words, for', () => {
  const refused: Record<string, (() => Promise<string>)> = {
    'alg none': () => Promise.resolve(new UnsecuredJWT({ iss: ISS, aud: 'api://kms', oid: 'alice' }).encode()),
    'HS256 with the public key': () => handMade(rsa.publicKey.export({ format: 'pem', type: 'spki' }) as string),
    'HS256 with no key': () => handMade(''),
    'another algorithm of the same key': () => token({ header: { alg: 'PS256' } }),
    'a key that it brings along': () => token({ header: { jwk: ec.publicKey.export({ format: 'jwk' }), alg: 'ES256', kid: undefined }, key: ec.privateKey }),
    'an address of keys': () => token({ header: { jku: server.url, kid: 'two' }, key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey }),
    'an address of a chain': () => token({ header: { x5u: server.url }, key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey }),
    'a kid that is a path': () => token({ header: { kid: '../../etc/passwd' } }),
    'a kid that is a question': () => token({ header: { kid: "' or 1=1 --" } }),
    'no kid': () => token({ header: { kid: undefined } }),
    'an unknown critical extension': async () => {
      const [, ...rest] = (await token()).split('.');
      return [Buffer.from(JSON.stringify({ alg: 'RS256', kid: 'one', crit: ['x'], x: 1 })).toString('base64url'), ...rest].join('.');
    },
    'an encrypted one': () => Promise.resolve('eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIiwiemlwIjoiREVGIn0..AAAA.AAAA.AAAA'),
    'more than 8 KiB': () => token({ claims: { more: 'x'.repeat(8000) } }),
    'no issuer': () => token({ claims: { iss: undefined } }),
    'another issuer': () => token({ claims: { iss: 'https://login.example/other/v2.0' } }),
    'no audience': () => token({ claims: { aud: undefined } }),
    'another audience': () => token({ claims: { aud: 'api://kms/' } }),
    'no end': () => token({ claims: { exp: undefined } }),
    'no beginning': () => token({ claims: { nbf: undefined } }),
    'an end a minute ago': () => token({ claims: { exp: now() - 61 } }),
    'a beginning in a minute': () => token({ claims: { nbf: now() + 61 } }),
    'no subject': () => token({ claims: { oid: undefined, sub: 'alice' } }),
    'no id': () => token({ claims: { uti: undefined } }),
    'another tenant': () => token({ claims: { tid: 'other' } }),
    'no tenant': () => token({ claims: { tid: undefined } }),
    'groups that are no names': () => token({ claims: { groups: [{ id: 'g-ops' }] } }),
  };
  test.each(Object.keys(refused))('%s', async (name) => {
    const answer = await ask(await refused[name]!());
    expect({ status: answer.status, code: answer.json.error.code }).toEqual({ status: 401, code: 'Unauthorized' });
    expect(String(answer.json.error.message).replace(/ \(Activity ID: .*\)$/, '')).toBe('AKV10000: the access token does not hold');
    expect(answer.headers['www-authenticate']).toMatch(/^Bearer authorization="/);
  });

  function handMade(secret: string): Promise<string> {
    const claims = { iss: ISS, aud: 'api://kms', oid: 'alice', uti: 'u', tid: 'tenant', nbf: now(), exp: now() + 300 };
    const input = [{ alg: 'HS256', kid: 'one' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return Promise.resolve(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`);
  }
});

test('a new key is fetched when a token names it, but not for each token that names one that nobody has', async () => {
  const next = generateKeyPairSync('rsa', { modulusLength: 2048 });
  server.keys = [jwk(rsa.publicKey, 'one'), jwk(next.publicKey, 'two')];
  await expectSoon(200, { header: { kid: 'two' }, key: next.privateKey });
  const [before, start] = [server.requests, performance.now()];
  for (let n = 0; n < 20; n += 1) expect(await status({ header: { kid: `none-${n}` } })).toBe(401);
  const cooldowns = Math.ceil((performance.now() - start) / (COOLDOWN_SECONDS * 1000));
  expect(server.requests - before).toBeLessThanOrEqual(cooldowns);
  // A key that was withdrawn is gone with the next fetch.
  server.keys = [jwk(next.publicKey, 'two')];
  const fetched = server.requests;
  await eventually('the keys are fetched', async () => {
    expect(await status({ header: { kid: 'none' } })).toBe(401);
    return server.requests > fetched;
  });
  expect(await status()).toBe(401);
  expect(await status({ header: { kid: 'two' }, key: next.privateKey })).toBe(200);
});

test('an issuer that does not answer: known keys go on, others are told to come back', async () => {
  const next = generateKeyPairSync('rsa', { modulusLength: 2048 });
  server.keys = [jwk(next.publicKey, 'four')];
  await expectSoon(200, { header: { kid: 'four' }, key: next.privateKey });
  server.status = 500;
  await expectSoon(503, { header: { kid: 'three' } });
  const answer = await ask(await token({ header: { kid: 'three' } }));
  expect({ status: answer.status, code: answer.json.error.code, retry: answer.headers['retry-after'] }).toEqual({ status: 503, code: 'ServiceUnavailable', retry: expect.any(String) });
  expect(await status({ header: { kid: 'four' }, key: next.privateKey })).toBe(200);
  server.status = 200;
  await expectSoon(401, { header: { kid: 'three' } });
});
