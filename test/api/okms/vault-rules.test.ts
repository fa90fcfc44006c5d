// What a vault forbids whatever its callers may do: the profile `fips`, and purge protection.

import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { CompactEncrypt } from 'jose';
import { auditRecords } from '../../support/audit-records.ts';
import { asBearer, baseOf, issueToken } from '../../support/bearer.ts';
import { runKms } from '../../support/files.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
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

test('purge protection: a key cannot be deleted, is whole after the attempt, and can be used again', async () => {
  const { ask } = await ownerOf('kept', '--purge-protection');
  const { json } = await ask('POST', '/servicekey', { name: 'k', ...OCT });
  const key = `/servicekey/${json.id as string}`;
  const { ciphertext } = (await ask('POST', `${key}/encrypt`, { plaintext: 'AAAA' })).json as { ciphertext: string };
  expect((await ask('POST', `${key}/deactivate`, { reason: 'superseded' })).status).toBe(204);
  const before = objectsOnToken(kms);
  expectRefusal(await ask('DELETE', key), 'not-implemented', 'purge protection');
  expect(objectsOnToken(kms)).toBe(before);
  expect((await ask('GET', key)).json).toMatchObject({ attributes: { state: 'deactivated' } });
  expect((await ask('POST', `${key}/activate`)).status).toBe(204);
  expect((await ask('POST', `${key}/decrypt`, { ciphertext })).json).toEqual({ plaintext: 'AAAA' });
});
