/** The life of a key at the Key Vault door by hand: defaults, attributes, versions, changes, deletion (azure-keyvault-keys-api §1, §5). */

import { afterAll, describe, expect, test } from '@jest/globals';
import { runKms } from '../../support/files.ts';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { objectsOnToken } from '../okms/support.ts';
import { b64, type Bundle, expectOk, expectRefusal, KeyVault, versionOf } from './support.ts';

let kms: Installation;
let nobody: Client;
let dev: KeyVault;
let premium: KeyVault;

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
  premium = await KeyVault.of(nobody, kms, 'dev-premium');
});

afterAll(() => nobody.close());

const RSA_OPS = ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
const now = (): number => Math.floor(Date.now() / 1000);

describe('what is made when little is said', () => {
  test.each([
    ['RSA', { kty: 'RSA' }, { kty: 'RSA-HSM', key_ops: RSA_OPS, e: 'AQAB', n: expect.stringMatching(/^[\w-]{342}$/) }],
    ['EC', { kty: 'EC' }, { kty: 'EC-HSM', key_ops: ['sign', 'verify'], crv: 'P-256' }],
    ['oct', { kty: 'oct' }, { kty: 'oct-HSM', key_ops: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] }],
    ['SECP256K1', { kty: 'EC-HSM', crv: 'SECP256K1' }, { kty: 'EC-HSM', crv: 'P-256K' }],
    ['null for what is absent', { kty: 'EC', crv: null, key_ops: null, attributes: null, tags: null }, { crv: 'P-256' }],
    ['an empty list of operations', { kty: 'EC', key_ops: [] }, { key_ops: ['sign', 'verify'] }],
  ])('%s', async (name, body, key) => {
    const before = now();
    const made = await dev.create(`default-${name.replaceAll(' ', '-')}`, body);
    expect(made.key).toMatchObject(key);
    expect(made).not.toHaveProperty('tags');
    expect(made.attributes).toEqual({
      enabled: true, created: expect.any(Number), updated: made.attributes['created'], recoveryLevel: 'Recoverable+Purgeable',
      recoverableDays: 90, exportable: false, hsmPlatform: '0',
    });
    expect(made.attributes['created']).toBeGreaterThanOrEqual(before);
    expect(made.attributes['created']).toBeLessThanOrEqual(now());
    if (made.key.kty === 'oct-HSM') expect(made.key).not.toHaveProperty('k');
  });

  test('the first spelling of a name stays', async () => {
    await dev.create('Camel-Case', { kty: 'EC' });
    const { key } = await dev.create('CAMEL-CASE', { kty: 'EC' });
    expect(key.kid).toContain('/keys/Camel-Case/');
  });
});

describe('attributes', () => {
  test('come back as they were given, also times of long ago, of 2038 and wrapped ones', async () => {
    for (const [nbf, exp] of [[1_546_300_800, 1_577_836_800], [2_147_483_647, 4_102_444_800], [-2_147_483_648, -1]]) {
      const { attributes } = await dev.create('times', { kty: 'EC', attributes: { nbf, exp, enabled: false } });
      expect(attributes).toMatchObject({ nbf, exp, enabled: false });
    }
  });

  test('a change leaves what it does not name, replaces tags and operations, and is of one version', async () => {
    const first = await dev.create('changing', { kty: 'RSA', attributes: { nbf: 1, exp: 4_000_000_000 }, tags: { a: '1', b: '2' } });
    const second = expectOk(await dev.post('/keys/changing/rotate')) as Bundle;
    const id = versionOf(first.key.kid);
    const changed = expectOk(await dev.patch(`/keys/changing/${id}`, { attributes: { exp: 4_100_000_000 }, key_ops: ['sign', 'verify'] })) as Bundle;
    expect(changed).toMatchObject({ tags: { a: '1', b: '2' }, attributes: { nbf: 1, exp: 4_100_000_000, enabled: true }, key: { kid: first.key.kid, key_ops: ['sign', 'verify'] } });
    expect(Number(changed.attributes['updated'])).toBeGreaterThanOrEqual(Number(first.attributes['updated']));
    expect(expectOk(await dev.get('/keys/changing'))).toEqual(second);
    expect(expectOk(await dev.patch(`/keys/changing/${id}`, { tags: { c: '3' } }))).toMatchObject({ tags: { c: '3' } });
    expect(expectOk(await dev.patch(`/keys/changing/${id}`, { tags: {} }))).not.toHaveProperty('tags');
    expect(expectOk(await dev.patch(`/keys/changing/${id.toUpperCase()}`, { key_ops: RSA_OPS }))).toMatchObject({ key: { key_ops: RSA_OPS } });
    expect(expectOk(await dev.patch('/keys/changing', {}))).toMatchObject({ key: second.key });
    // None at all: it serves nothing until they come back.
    expectOk(await dev.patch('/keys/changing', { key_ops: [] }));
    expectRefusal(await dev.post('/keys/changing/sign', { alg: 'RS256', value: b64(Buffer.alloc(32)) }), { status: 403, code: 'Forbidden', inner: 'KeyOperationForbidden', words: 'sign' });
  });

  test('changes of a disabled version are taken', async () => {
    await dev.create('disabled', { kty: 'EC', attributes: { enabled: false } });
    expect(expectOk(await dev.patch('/keys/disabled', { tags: { still: 'there' } }))).toMatchObject({ attributes: { enabled: false }, tags: { still: 'there' } });
  });

  test('fifteen tags of the greatest length, and names that look dangerous', async () => {
    const tags = Object.fromEntries(Array.from({ length: 13 }, (_, n) => [`${n}`.padEnd(256, 'x'), 'y'.repeat(256)]));
    const all = { ...tags, constructor: '', 'Ünï "code"': '🔑' };
    expect((await dev.create('tagged', { kty: 'EC', tags: all })).tags).toEqual(all);
    expectRefusal(await dev.call('POST', '/keys/tagged/create', '{"kty":"EC","tags":{"__proto__":"x"}}'), { status: 400, code: 'BadParameter', words: '__proto__' });
  });
});

describe('versions', () => {
  test('a create on a live name adds one, with operations and tags of its own; older ones go on', async () => {
    const first = await dev.create('many', { kty: 'RSA', tags: { of: 'first' } });
    const signed = expectOk(await dev.post('/keys/many/sign', { alg: 'RS256', value: b64(Buffer.alloc(32)) })) as { kid: string; value: string };
    const second = await dev.create('many', { kty: 'RSA', key_ops: ['sign', 'verify'] });
    expect(second.key['n']).not.toBe(first.key['n']);
    expect(second.key.key_ops).toEqual(['sign', 'verify']);
    expect(second).not.toHaveProperty('tags');
    expect(expectOk(await dev.get(`/keys/many/${versionOf(first.key.kid)}`))).toEqual(first);
    const verify = { alg: 'RS256', digest: b64(Buffer.alloc(32)), value: signed.value };
    expect(expectOk(await dev.post(`/keys/many/${versionOf(first.key.kid)}/verify`, verify))).toEqual({ value: true });
    expect(expectOk(await dev.post('/keys/many/verify', verify))).toEqual({ value: false });
    // The older one still encrypts when it is named, though the newest cannot.
    expectOk(await dev.post(`/keys/many/${versionOf(first.key.kid)}/encrypt`, { alg: 'RSA-OAEP', value: 'AAAA' }));
    expectRefusal(await dev.post('/keys/many/encrypt', { alg: 'RSA-OAEP', value: 'AAAA' }), { status: 403, code: 'Forbidden', inner: 'KeyOperationForbidden', words: 'encrypt' });
  });

  test('ten creates of one name at once make one key with ten versions', async () => {
    const before = objectsOnToken(kms);
    const made = await Promise.all(Array.from({ length: 10 }, () => dev.post('/keys/race/create', { kty: 'EC' })));
    const kids = made.map((answer) => (expectOk(answer) as Bundle).key.kid);
    expect(new Set(kids).size).toBe(10);
    const { value } = expectOk(await dev.get('/keys/race/versions')) as { value: { kid: string }[] };
    expect(value.map(({ kid }) => kid).toSorted()).toEqual(kids.toSorted());
    expect(objectsOnToken(kms) - before).toBe(20);
  });

  test('rotation carries operations and tags on, and no time window', async () => {
    await dev.create('turning', { kty: 'oct', key_size: 192, key_ops: ['encrypt', 'decrypt'], tags: { a: 'b' }, attributes: { exp: 4_000_000_000, enabled: false } });
    const rotated = expectOk(await dev.call('POST', '/keys/turning/rotate')) as Bundle;
    expect(rotated).toMatchObject({ key: { key_ops: ['encrypt', 'decrypt'] }, tags: { a: 'b' }, attributes: { enabled: true } });
    expect(rotated.attributes).not.toHaveProperty('exp');
    expectOk(await dev.post('/keys/turning/encrypt', { alg: 'A192GCM', value: 'AAAA' }));
  });
});

describe('deletion', () => {
  test('takes all versions away, gives them back as they were, and destroys them for good', async () => {
    await premium.create('doomed', { kty: 'EC', attributes: { enabled: false } });
    const newest = await premium.create('doomed', { kty: 'EC', tags: { a: 'b' } });
    const deleted = expectOk(await premium.delete('/keys/doomed')) as Bundle & Record<string, unknown>;
    expect(deleted).toEqual({
      ...newest, recoveryId: `${premium.origin}/deletedkeys/doomed`, deletedDate: expect.any(Number), scheduledPurgeDate: Number(deleted['deletedDate']) + 90 * 86_400,
    });
    expect(expectOk(await premium.get('/deletedkeys/doomed'))).toEqual(deleted);
    const { value } = expectOk(await premium.get('/deletedkeys')) as { value: object[] };
    expect(value).toContainEqual({
      kid: `${premium.origin}/keys/doomed`, attributes: newest.attributes, tags: { a: 'b' }, recoveryId: deleted['recoveryId'],
      deletedDate: deleted['deletedDate'], scheduledPurgeDate: deleted['scheduledPurgeDate'],
    });
    for (const answer of [await premium.get('/keys/doomed'), await premium.get('/keys/doomed/versions'), await premium.delete('/keys/doomed'), await premium.patch('/keys/doomed', {})]) {
      expectRefusal(answer, { status: 404, code: 'KeyNotFound', words: 'doomed was not found' });
    }
    expect(expectOk(await premium.call('POST', '/deletedkeys/doomed/recover'))).toEqual(newest);
    expect((expectOk(await premium.get('/keys/doomed/versions')) as { value: object[] }).value).toHaveLength(2);
    expectOk(await premium.delete('/keys/doomed'));
    const before = objectsOnToken(kms);
    const purged = await premium.delete('/deletedkeys/doomed');
    expect([purged.status, purged.text, purged.headers['content-type']]).toEqual([204, '', undefined]);
    expect(before - objectsOnToken(kms)).toBe(4);
    for (const answer of [await premium.get('/deletedkeys/doomed'), await premium.call('POST', '/deletedkeys/doomed/recover'), await premium.delete('/deletedkeys/doomed')]) {
      expectRefusal(answer, { status: 404, code: 'KeyNotFound', words: 'Deleted Key not found: doomed' });
    }
    expect((await premium.create('doomed', { kty: 'oct-HSM' })).key.kty).toBe('oct-HSM');
  });
});

test('a key that is deleted softly is no stranger to the comparison of store and token', async () => {
  await dev.create('kept-aside', { kty: 'RSA' });
  expectOk(await dev.delete('/keys/kept-aside'));
  const { code, stdout } = await runKms(kms.environment, 'reconcile', '--report');
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.not.stringContaining('unknown') });
  expectOk(await dev.call('POST', '/deletedkeys/kept-aside/recover'));
  expectOk(await dev.post('/keys/kept-aside/sign', { alg: 'PS256', value: b64(Buffer.alloc(32)) }));
});

test('random bytes of each length, not twice the same', async () => {
  const ask = async (count: number): Promise<string> => (expectOk(await dev.post('/rng', { count })) as { value: string }).value;
  for (const count of [1, 16, 128]) expect(Buffer.from(await ask(count), 'base64url')).toHaveLength(count);
  expect(await ask(32)).not.toBe(await ask(32));
});
