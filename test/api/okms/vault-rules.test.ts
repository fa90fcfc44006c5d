// What a vault forbids whatever its callers may do: the profile `fips`, and purge protection.

import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { CompactEncrypt } from 'jose';
import { auditRecords } from '../../support/audit-records.ts';
import { asBearer, baseOf, issueToken } from '../../support/bearer.ts';
import { runKms } from '../../support/files.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { eventually } from '../../support/wait.ts';
import { serve } from '../../support/served.ts';
import { EC, expectRefusal, objectsOnToken, OCT, RSA } from './support.ts';

let kms: Installation;
let nobody: Client;

serve((served) => {
  ({ kms } = served);
  nobody = kms.client(null);
});

afterAll(() => nobody.close());

interface Owner {
  readonly base: string;
  readonly ask: (method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) => Promise<Answer>;
}

/** An owner of a vault that is made with these options. */
async function ownerOf(vault: string, ...options: readonly string[]): Promise<Owner> {
  const made = await runKms(kms.environment, 'vault', 'create', vault, '--flavour', 'managed-hsm', '--backup', 'never', ...options);
  expect(made).toMatchObject({ code: 0 });
  const token = await issueToken(kms, '--subject', 'owner', '--role', 'owner', '--vault', vault);
  const base = await baseOf(kms, vault);
  return { base, ask: (method, path, body) => asBearer(nobody, token, method, `${base}${path}`, body) };
}

describe('profile fips', () => {
  let owner: Promise<Owner> | undefined;
  const create = async (body: object): Promise<Answer> => (await (owner ??= ownerOf('strict', '--profile', 'fips'))).ask('POST', '/servicekey', { name: 'k', ...body });
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = (key: typeof pair.publicKey): JsonWebKey => key.export({ format: 'jwk' });

  test.each<[string, object]>([
    ['a secret', { keys: [{ kty: 'oct', k: randomBytes(32).toString('base64url') }] }],
    ['a private key', { keys: [jwk(pair.privateKey)] }],
  ])('%s that was in the clear does not come in', async (_name, body) => {
    await create(EC);
    const before = objectsOnToken(kms);
    expectRefusal(await create(body), 'forbidden', 'in the clear');
    expect(objectsOnToken(kms)).toBe(before);
  });

  test('nor does one that is wrapped as a JWE, and its wrapping is not even opened', async () => {
    const transport = await create({ ...RSA, operations: ['wrapKey', 'unwrapKey'] });
    expect(transport.status).toBe(201);
    const wrappingKeyId = transport.json.id as string;
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const ciphertext = await new CompactEncrypt(randomBytes(32)).setProtectedHeader({ alg: 'RSA-OAEP', enc: 'A256GCM' }).encrypt(publicKey);
    const answer = await create({ wrappedKeys: [{ keyFormatType: 'RAW', wrappingKeyId, ciphertext }] });
    expectRefusal(answer, 'forbidden', 'in the clear');
    const events = auditRecords(kms).filter(({ requestId }) => requestId === answer.headers['x-request-id']).map(({ event }) => event);
    expect(events).toEqual(['key.import']);
  });

  test('a public key alone is no secret, and comes in', async () => {
    expect((await create({ keys: [jwk(pair.publicKey)] })).json).toMatchObject({ class: 'PUBLIC_KEY' });
  });

  test('an RSA key signs, or it wraps, but not both', async () => {
    expectRefusal(await create({ ...RSA, operations: ['sign', 'unwrapKey'] }), 'forbidden', 'not both');
    expectRefusal(await create({ ...RSA, operations: ['sign', 'verify', 'wrapKey', 'unwrapKey'] }), 'forbidden', 'not both');
    for (const operations of [['sign'], ['sign', 'verify'], ['wrapKey', 'unwrapKey']]) {
      expect([operations, (await create({ ...RSA, operations })).status]).toEqual([operations, 201]);
    }
    expect((await create(OCT)).status).toBe(201);
  });
});

test('purge protection: a key that is deleted is listed as destroyed, and comes back deactivated when it is recovered', async () => {
  const { ask } = await ownerOf('kept', '--purge-protection', '--soft-delete-days', '7');
  const { json } = await ask('POST', '/servicekey', { name: 'k', ...OCT });
  const id = json.id as string;
  const key = `/servicekey/${id}`;
  const { ciphertext } = (await ask('POST', `${key}/encrypt`, { plaintext: 'AAAA' })).json as { ciphertext: string };
  expectRefusal(await ask('DELETE', key), 'wrong-state', 'deactivate it before deleting');
  expect((await ask('POST', `${key}/deactivate`, { reason: 'superseded' })).status).toBe(204);
  const before = objectsOnToken(kms);
  expect((await ask('DELETE', key)).status).toBe(204);
  expect(objectsOnToken(kms)).toBe(before);
  for (const refused of [await ask('GET', key), await ask('POST', `${key}/activate`), await ask('DELETE', key)]) {
    expectRefusal(refused, 'not-found', 'no such key');
  }
  const listed = async (query: string): Promise<{ id: string; attributes: object }[]> =>
    ((await ask('GET', `/servicekey${query}`)).json as { objects_list: { id: string; attributes: object }[] }).objects_list;
  expect(await listed('')).toEqual([]);
  expect(await listed('?state=deactivated')).toEqual([]);
  for (const state of ['all', 'destroyed']) {
    const [only] = await listed(`?state=${state}`);
    expect(only).toMatchObject({ id, attributes: { state: 'destroyed', scheduled_destruction: expect.stringMatching(/Z$/) } });
  }
  // Nothing of the OKMS API brings it back: the id is its name at the other door.
  const token = await issueToken(kms, '--subject', 'owner', '--role', 'owner', '--vault', 'kept');
  const vault = { host: `kept.localhost:${kms.port}`, authorization: `Bearer ${token}` };
  const keyVault = (method: 'POST' | 'DELETE', path: string): Promise<Answer> =>
    nobody.call(method, `https://localhost:${kms.port}/deletedkeys/${id}${path}?api-version=7.6`, undefined, vault);
  // The server certificate takes the name of a new vault by itself within a minute, and now when it is told.
  process.kill(kms.pid, 'SIGHUP');
  await eventually('the host is known', () => keyVault('DELETE', '').then(() => true, () => false));
  expect(await keyVault('DELETE', '')).toMatchObject({ status: 403, json: { error: { message: expect.stringContaining('purge protection') } } });
  expect((await keyVault('POST', '/recover')).json).toMatchObject({ attributes: { enabled: false, recoveryLevel: 'CustomizedRecoverable', recoverableDays: 7 } });
  expect((await ask('GET', key)).json).toMatchObject({ attributes: { state: 'deactivated' } });
  expect((await ask('POST', `${key}/activate`)).status).toBe(204);
  expect((await ask('POST', `${key}/decrypt`, { ciphertext })).json).toEqual({ plaintext: 'AAAA' });
});
