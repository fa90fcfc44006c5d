// The life of keys of every kind on both base paths, as a client sees it that knows the published wire and nothing else.

import { createHash, createPublicKey, type JsonWebKey, randomBytes, randomUUID, verify as verifyOutside } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { compactVerify, importJWK, jwtVerify, type JWK } from 'jose';
import { Installation } from '../support/installation.ts';
import { Refusal, WireClient } from './wire-client.ts';

const MESSAGE = Buffer.from('the life of a key');
const CATEGORY = { argument: 2, notFound: 5, conflict: 10 } as const;

let kms: Installation;
let client: WireClient;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
});

afterAll(async () => {
  await kms.remove();
});

async function refusal(asked: Promise<unknown>): Promise<[status: number, category: number]> {
  const error = await asked.then(() => undefined, (thrown: unknown) => thrown);
  if (!(error instanceof Refusal)) throw new Error(`expected a refusal, got ${String(error)}`);
  expect(error.requestId).not.toBe('');
  return [error.status, error.category];
}

async function publicJwk(id: string): Promise<JWK & JsonWebKey> {
  const { keys } = await client.get(id, { format: 'jwk' });
  const { key_ops: operations, ...jwk } = (keys ?? [{}])[0] as JWK & JsonWebKey;
  expect([jwk.kid, operations]).toEqual([id, ['sign', 'verify']]);
  return jwk;
}

describe.each(['/v1', '/api/{okmsId}/v1/'])('under %s', (path) => {
  beforeAll(() => {
    const { ca, cert, key, okmsId } = kms.admin;
    const read = (file: string): string => readFileSync(file, 'utf8');
    client = new WireClient(`https://localhost:${kms.port}${path.replace('{okmsId}', okmsId)}`, { ca: read(ca), cert: read(cert), key: read(key) });
  });

  afterAll(async () => {
    await client.close();
  });

  test('a secret key: made, used, renamed, deactivated, compromised, deleted', async () => {
    const id = randomUUID();
    const spec = { name: 'a life', id, type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'], context: 'a life' };
    expect(await client.create(spec)).toMatchObject({ id, name: 'a life', type: 'oct', size: 256, attributes: { state: 'active' } });
    expect(await refusal(client.create(spec))).toEqual([409, CATEGORY.conflict]);
    const [plain, bound] = [await client.encrypt(id, MESSAGE), await client.encrypt(id, MESSAGE, 'order 7')];
    expect(await client.decrypt(id, plain)).toEqual(MESSAGE);
    expect(await client.decrypt(id, bound, 'order 7')).toEqual(MESSAGE);
    for (const wrong of [client.decrypt(id, bound), client.decrypt(id, bound, 'order 8'), client.decrypt(id, plain, 'order 7')]) {
      expect(await refusal(wrong)).toEqual([400, CATEGORY.argument]);
    }
    const { plaintext, sealed } = await client.dataKey(id, 'of a life', 512);
    expect([plaintext.length, await client.openDataKey(id, sealed)]).toEqual([64, plaintext]);
    expect(await refusal(client.decrypt(id, sealed))).toEqual([400, CATEGORY.argument]);
    expect((await client.rename(id, 'another life')).name).toBe('another life');
    expect(await refusal(client.delete(id))).toEqual([400, CATEGORY.argument]);

    await client.deactivate(id, 'superseded');
    expect(await refusal(client.encrypt(id, MESSAGE))).toEqual([400, CATEGORY.argument]);
    expect(await refusal(client.decrypt(id, plain))).toEqual([400, CATEGORY.argument]);
    expect((await client.get(id)).attributes['deactivation_date']).toEqual(expect.any(String));
    await client.activate(id);
    expect(await client.decrypt(id, plain)).toEqual(MESSAGE);
    await client.deactivate(id, 'key_compromise');
    const compromised = await client.get(id);
    expect([compromised.attributes['state'], compromised.attributes['compromise_date']]).toEqual(['compromised', expect.any(String)]);
    await client.activate(id);
    expect((await client.get(id)).attributes['compromise_date']).toBeUndefined();
    await client.deactivate(id, 'key_compromise');
    await client.delete(id);
    for (const gone of [client.get(id), client.decrypt(id, plain), client.activate(id), client.delete(id)]) {
      expect(await refusal(gone)).toEqual([404, CATEGORY.notFound]);
    }
    expect((await client.list()).map((key) => key.id)).not.toContain(id);
    expect((await client.list({ state: 'all' })).find((key) => key.id === id)).toMatchObject({ name: 'another life', attributes: { state: 'destroyed_compromised' } });
    expect(await refusal(client.create(spec))).toEqual([409, CATEGORY.conflict]);
  });

  test.each([
    ['RSA', { size: 2048 }, 'PS256', 'sha256'], ['EC', { curve: 'P-256' }, 'ES256', 'sha256'], ['EC', { curve: 'P-384' }, 'ES384', 'sha384'],
  ])('a key pair of type %s %j: what it signs is verified outside', async (type, shape, alg, hash) => {
    const { id } = await client.create({ name: 'a signer', type, ...shape, operations: ['sign', 'verify'] });
    const jwk = await publicJwk(id);
    const digest = createHash(hash).update(MESSAGE).digest();
    const signature = await client.sign(id, alg, digest, true);
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const options = type === 'RSA' ? { padding: 6, saltLength: 32 } : { dsaEncoding: 'ieee-p1363' as const };
    expect(verifyOutside(hash, MESSAGE, { key, ...options }, Buffer.from(signature, 'base64'))).toBe(true);
    expect(await client.verify(id, { signature, message: MESSAGE, alg })).toBe(true);
    expect(await client.verify(id, { signature, message: digest, alg, isdigest: true })).toBe(true);
    expect(await client.verify(id, { signature, message: Buffer.from('another'), alg })).toBe(false);

    const jws = await client.sign(id, alg, MESSAGE, false, 'jws');
    const verified = await compactVerify(jws, await importJWK(jwk, alg));
    expect([Buffer.from(verified.payload), verified.protectedHeader.kid]).toEqual([MESSAGE, id]);
    const jwt = await client.sign(id, alg, Buffer.from('{"sub":"me"}'), false, 'jwt');
    expect((await jwtVerify(jwt, await importJWK(jwk, alg))).payload).toEqual({ sub: 'me' });
    expect([await client.verify(id, { signature: jws }), await client.verify(id, { signature: jwt, alg })]).toEqual([true, true]);

    await client.deactivate(id, 'cessation_of_operation');
    expect(await refusal(client.sign(id, alg, digest, true))).toEqual([400, CATEGORY.argument]);
    await client.delete(id);
    expect(await refusal(client.get(id))).toEqual([404, CATEGORY.notFound]);
  });

  test('an imported key does the work of the original', async () => {
    const value = randomBytes(32);
    const made = await client.create({ name: 'imported', keys: [{ kty: 'oct', kid: 'mine', k: value.toString('base64url'), key_ops: ['encrypt', 'decrypt'] }] }, { format: 'jwk' });
    expect(made.keys).toEqual([{ kid: made.id, kty: 'oct', key_ops: ['encrypt', 'decrypt'] }]);
    expect(await client.decrypt(made.id, await client.encrypt(made.id, MESSAGE))).toEqual(MESSAGE);
  });

  test('every key is listed once, in pages', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 12; n += 1) ids.push((await client.create({ name: `listed ${n}`, type: 'oct', size: 128 })).id);
    const listed = (await client.list({ max: '10', state: 'active' })).map(({ id }) => id);
    expect(listed.filter((id) => ids.includes(id))).toEqual(ids);
    expect(new Set(listed).size).toBe(listed.length);
  });

  test('random bytes', async () => {
    const [one, other] = [await client.random(4096), await client.random(4096)];
    expect([one.length, one.equals(other)]).toEqual([4096, false]);
  });
});
