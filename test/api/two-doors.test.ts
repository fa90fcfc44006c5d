/** One key, two doors: what is made, restricted or rotated at one holds at the other (design §3, cell by cell). */

import { createDecipheriv, createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { flattenedDecrypt } from 'jose';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { b64, type Bundle, expectOk, expectRefusal, KeyVault, unb64, versionOf } from './keyvault/support.ts';

let kms: Installation;
let admin: Client;
let nobody: Client;
let dev: KeyVault;

serve(async (served) => {
  ({ kms, admin } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
});

afterAll(() => nobody.close());

const MESSAGE = Buffer.from('one key, two doors');
const DIGEST = createHash('sha256').update(MESSAGE).digest();

async function okms(body: object): Promise<string> {
  const made = await admin.post('/servicekey', { name: 'shared', ...body });
  expect(made.status).toBe(201);
  return made.json.id as string;
}

/** The OKMS id of a key made at the other door: its context is the newest of the list. */
async function idOf(label: string): Promise<string> {
  const { objects_list: keys } = (await admin.get('/servicekey?max=500&state=all')).json as { objects_list: { id: string; name: string }[] };
  return keys.find(({ name }) => name === label)!.id;
}

describe('made at one door and used at the other', () => {
  test('an EC key of OKMS signs at the Key Vault door, under its id as name', async () => {
    const id = await okms({ type: 'EC', curve: 'P-256', operations: ['sign', 'verify'] });
    const { key } = expectOk(await dev.get(`/keys/${id.toUpperCase()}`)) as Bundle;
    expect(key).toMatchObject({ kid: expect.stringMatching(new RegExp(`/keys/${id}/[0-9a-f]{32}$`)), kty: 'EC-HSM', key_ops: ['sign', 'verify'], crv: 'P-256' });
    const { value } = expectOk(await dev.post(`/keys/${id}/sign`, { alg: 'ES256', value: b64(DIGEST) })) as { value: string };
    const publicKey = createPublicKey({ key: { kty: 'EC', crv: 'P-256', x: String(key['x']), y: String(key['y']) }, format: 'jwk' });
    expect(verify('sha256', MESSAGE, { key: publicKey, dsaEncoding: 'ieee-p1363' }, unb64(value))).toBe(true);
    const verified = await admin.post(`/servicekey/${id}/verify`, { alg: 'ES256', message: MESSAGE.toString('base64'), signature: unb64(value).toString('base64') });
    expect(verified.json).toMatchObject({ result: true });
  });

  test('and the reverse', async () => {
    await dev.create('from-kv', { kty: 'RSA', key_size: 2048 });
    const id = await idOf('from-kv');
    const shown = (await admin.get(`/servicekey/${id}`)).json;
    expect(shown).toMatchObject({ name: 'from-kv', type: 'RSA', size: 2048, attributes: { state: 'active', never_extractable: true } });
    const signed = await admin.post(`/servicekey/${id}/sign`, { alg: 'PS256', message: MESSAGE.toString('base64') });
    expect(signed.status).toBe(200);
    const value = b64(Buffer.from(signed.json.signature as string, 'base64'));
    expect(expectOk(await dev.post('/keys/from-kv/verify', { alg: 'PS256', digest: b64(DIGEST), value }))).toEqual({ value: true });
  });

  test('a name that is a UUID is the id at both doors, until only a tombstone has it', async () => {
    const id = '01234567-89ab-4cde-8f01-23456789abcd';
    await dev.create(id.toUpperCase(), { kty: 'oct', key_size: 128 });
    expect((await admin.get(`/servicekey/${id}`)).json).toMatchObject({ id, type: 'oct', size: 128 });
    const taken = await admin.post('/servicekey', { name: 'x', type: 'oct', size: 128, id });
    expect(taken.status).toBe(409);
    expectOk(await dev.delete(`/keys/${id}`));
    expect((await dev.delete(`/deletedkeys/${id}`)).status).toBe(204);
    expect((await admin.post('/servicekey', { name: 'x', type: 'oct', size: 128, id })).status).toBe(409);
    const { key } = await dev.create(id, { kty: 'EC' });
    expect(key.kid).toContain(`/keys/${id}/`);
    expect((await admin.get(`/servicekey/${id}`)).status).toBe(404);
  });

  test('what OKMS cannot express it shows truthfully, and refuses', async () => {
    await dev.create('express-k1', { kty: 'EC', crv: 'P-256K' });
    await dev.create('express-mac', { kty: 'oct', key_ops: ['sign', 'verify'] });
    const k1 = await idOf('express-k1');
    expect((await admin.get(`/servicekey/${k1}`)).json).toMatchObject({ type: 'EC', curve: 'P-256K' });
    expect((await admin.post(`/servicekey/${k1}/sign`, { alg: 'ES256', message: 'AAAA' })).status).toBe(400);
    const mac = await idOf('express-mac');
    expect((await admin.get(`/servicekey/${mac}`)).json).toMatchObject({ type: 'oct', operations: ['sign', 'verify'] });
    expect((await admin.post(`/servicekey/${mac}/encrypt`, { plaintext: 'AAAA' })).status).toBe(400);
    expect((await admin.post(`/servicekey/${mac}/sign`, { alg: 'ES256', message: 'AAAA' })).status).toBe(400);
  });
});

test('rotated at the Key Vault door: old OKMS ciphertext still opens, new ciphertext names the new version', async () => {
  const id = await okms({ type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] });
  const seal = async (): Promise<string> => (await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA', context: 'c' })).json.ciphertext as string;
  const ordinalOf = (jwe: string): unknown => (JSON.parse(unb64(jwe.split('.')[0]).toString()) as Record<string, unknown>)['x-key-ver'];
  const before = await seal();
  const dataKey = (await admin.post(`/servicekey/${id}/datakey`, { size: 256 })).json as { key: string; plaintext: string };
  const { key } = expectOk(await dev.post(`/keys/${id}/rotate`)) as Bundle;
  expect(key.key_ops).toEqual(['encrypt', 'decrypt', 'wrapKey', 'unwrapKey']);
  const after = await seal();
  expect([ordinalOf(before), ordinalOf(after)]).toEqual([0, 1]);
  for (const ciphertext of [before, after]) {
    expect((await admin.post(`/servicekey/${id}/decrypt`, { ciphertext, context: 'c' })).json).toEqual({ plaintext: 'AAAA' });
  }
  expect((await admin.post(`/servicekey/${id}/datakey/decrypt`, { key: dataKey.key })).json).toMatchObject({ plaintext: dataKey.plaintext });
});

describe('data keys stay closed to the Key Vault door', () => {
  /** @returns every way of the other door into what is sealed in a compact JWE */
  async function attempts(id: string, jwe: string): Promise<Answer[]> {
    const [header = '', , iv = '', value = '', tag = ''] = jwe.split('.');
    const body = { alg: 'A256GCM', value, iv, tag };
    return [
      await dev.post(`/keys/${id}/decrypt`, { ...body, aad: b64(header) }),
      await dev.post(`/keys/${id}/decrypt`, { ...body, aad: b64(`${header}~datakey`) }),
      await dev.post(`/keys/${id}/unwrapkey`, { ...body, aad: b64(`${header}~datakey`) }),
      await dev.post(`/keys/${id}/decrypt`, body),
      await dev.post(`/keys/${id}/unwrapkey`, { alg: 'A256KW', value }),
    ];
  }
  const ALL = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];

  test('of a generated key', async () => {
    const id = await okms({ type: 'oct', size: 256, operations: ALL });
    const { key } = (await admin.post(`/servicekey/${id}/datakey`, { size: 256 })).json as { key: string };
    for (const answer of await attempts(id, key)) expect([answer.status, answer.json.error?.code]).toEqual([400, 'BadParameter']);
  });

  test('of an imported key, whose objects all hold the one value', async () => {
    const k = randomBytes(32);
    const id = await okms({ keys: [{ kty: 'oct', k: b64(k), key_ops: ALL }] });
    const { key, plaintext } = (await admin.post(`/servicekey/${id}/datakey`, { size: 256 })).json as { key: string; plaintext: string };
    const [header = '', , iv, value, tag] = key.split('.');
    // It would open: whoever holds the key outside can.
    const opener = createDecipheriv('aes-256-gcm', k, unb64(iv)).setAAD(Buffer.from(`${header}~datakey`)).setAuthTag(unb64(tag));
    expect(Buffer.concat([opener.update(unb64(value)), opener.final()]).toString('base64')).toBe(plaintext);
    const [, reserved] = await attempts(id, key);
    expectRefusal(reserved!, { status: 400, code: 'BadParameter', words: 'aad: ends in a suffix that is reserved' });
    for (const answer of await attempts(id, key)) expect([answer.status, answer.json.error?.code]).toEqual([400, 'BadParameter']);
    expectRefusal(await dev.post(`/keys/${id}/encrypt`, { alg: 'A256GCM', value: 'AAAA', aad: b64('anything~datakey') }), { status: 400, code: 'BadParameter', words: 'reserved' });
    // A ciphertext without context is a plain JWE, and both doors and a JOSE library open it.
    const { ciphertext } = (await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' })).json as { ciphertext: string };
    const [protectedHeader = '', , jweIv = '', content = '', jweTag = ''] = ciphertext.split('.');
    const { plaintext: opened } = await flattenedDecrypt({ protected: protectedHeader, iv: jweIv, ciphertext: content, tag: jweTag }, k);
    expect(Buffer.from(opened).toString('base64')).toBe('AAAA');
    const atKeyVault = expectOk(await dev.post(`/keys/${id}/decrypt`, { alg: 'A256GCM', value: content, iv: jweIv, tag: jweTag, aad: b64(protectedHeader) })) as { value: string };
    expect(unb64(atKeyVault.value).toString('base64')).toBe('AAAA');
  });
});

/** A key with what it sealed while it was active, so that each operation of each door can be tried in each state. */
interface Subject {
  readonly id: string;
  readonly version: string;
  readonly jwe: string;
  readonly gcm: Readonly<Record<string, string>>;
}

async function subject(): Promise<Subject> {
  const id = await okms({ type: 'oct', size: 256, operations: ['encrypt', 'decrypt'] });
  const { ciphertext } = (await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' })).json as { ciphertext: string };
  const gcm = expectOk(await dev.post(`/keys/${id}/encrypt`, { alg: 'A256GCM', value: 'AAAA' })) as Record<string, string>;
  return { id, jwe: ciphertext, gcm, version: versionOf(gcm['kid']!) };
}

/** Statuses of: OKMS state shown, OKMS protect and process; Key Vault enabled shown, protect and process. */
async function cells({ id, jwe, gcm }: Subject): Promise<unknown[]> {
  const shown = await admin.get(`/servicekey/${id}`);
  const bundle = await dev.get(`/keys/${id}`);
  const { value, iv, tag } = gcm;
  return [
    shown.status === 200 ? (shown.json.attributes as { state: string }).state : shown.status,
    (await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' })).status,
    (await admin.post(`/servicekey/${id}/decrypt`, { ciphertext: jwe })).status,
    bundle.status === 200 ? (bundle.json as Bundle).attributes['enabled'] : bundle.status,
    (await dev.post(`/keys/${id}/encrypt`, { alg: 'A256GCM', value: 'AAAA' })).status,
    (await dev.post(`/keys/${id}/decrypt`, { alg: 'A256GCM', value, iv, tag })).status,
  ];
}

const state = async (id: string, call: 'activate' | 'deactivate', body?: object): Promise<number> => (await admin.post(`/servicekey/${id}/${call}`, body)).status;
const set = async (id: string, attributes: object): Promise<number> => (await dev.patch(`/keys/${id}`, { attributes })).status;
const PAST = 1_000_000_000;
const FUTURE = 4_000_000_000;

describe('the table of states', () => {
  const ROWS: readonly (readonly [string, (id: string) => Promise<unknown>, readonly unknown[]])[] = [
    ['active, enabled, inside its window', () => Promise.resolve(), ['active', 200, 200, true, 200, 200]],
    ['active, before its window', (id) => set(id, { nbf: FUTURE }), ['active', 400, 200, true, 403, 200]],
    ['active, after its window', (id) => set(id, { exp: PAST }), ['active', 400, 200, true, 403, 200]],
    ['active, its version disabled', (id) => set(id, { enabled: false }), ['deactivated', 400, 400, false, 403, 403]],
    ['deactivated', (id) => state(id, 'deactivate'), ['deactivated', 400, 400, false, 403, 403]],
    ['compromised', (id) => state(id, 'deactivate', { reason: 'key_compromise' }), ['compromised', 400, 400, false, 403, 403]],
    ['deleted softly', (id) => dev.delete(`/keys/${id}`), [404, 404, 404, 404, 404, 404]],
    ['destroyed at the OKMS door', async (id) => { await state(id, 'deactivate'); return admin.call('DELETE', `/servicekey/${id}`); }, [404, 404, 404, 404, 404, 404]],
    ['purged at the Key Vault door', async (id) => { await dev.delete(`/keys/${id}`); return dev.delete(`/deletedkeys/${id}`); }, [404, 404, 404, 404, 404, 404]],
  ];
  test.each(ROWS)('%s', async (_name, bring, expected) => {
    const key = await subject();
    await bring(key.id);
    expect(await cells(key)).toEqual(expected);
  });

  const listed = async (id: string, query: string): Promise<string | undefined> => {
    const { objects_list: keys } = (await admin.get(`/servicekey?max=500&${query}`)).json as { objects_list: { id: string; attributes: { state: string } }[] };
    return keys.find((of) => of.id === id)?.attributes.state;
  };

  test('what is deleted softly is hidden at the OKMS door, and listed as destroyed', async () => {
    const { id } = await subject();
    expectOk(await dev.delete(`/keys/${id}`));
    expect(await listed(id, '')).toBeUndefined();
    for (const filter of ['all', 'destroyed']) expect(await listed(id, `state=${filter}`)).toBe('destroyed');
    for (const filter of ['active', 'deactivated', 'destroyed_compromised']) expect(await listed(id, `state=${filter}`)).toBeUndefined();
  });
});

describe('neither door undoes what the other restricted', () => {
  test.each([['deactivated', undefined], ['compromised', { reason: 'key_compromise' }]])('%s: the Key Vault door enables, creates, imports and rotates nothing', async (_state, body) => {
    const key = await subject();
    await state(key.id, 'deactivate', body);
    const before = await cells(key);
    const conflict = { status: 409, code: 'Conflict', words: String(before[0]) } as const;
    expectRefusal(await dev.patch(`/keys/${key.id}`, { attributes: { enabled: true } }), conflict);
    expectRefusal(await dev.post(`/keys/${key.id}/create`, { kty: 'oct', key_size: 256 }), conflict);
    expectRefusal(await dev.put(`/keys/${key.id}`, { key: { kty: 'oct', k: b64(randomBytes(32)) } }), conflict);
    expectRefusal(await dev.call('POST', `/keys/${key.id}/rotate`), conflict);
    expect(await cells(key)).toEqual(before);
    // What restricts further is taken, and holds when the OKMS door activates the key again.
    expect(await set(key.id, { enabled: false })).toBe(200);
    expect(await state(key.id, 'activate')).toBe(400);
  });

  test('a disabled version: OKMS activate says so; only the Key Vault door enables it', async () => {
    const key = await subject();
    await set(key.id, { enabled: false });
    const answer = await admin.post(`/servicekey/${key.id}/activate`);
    expect([answer.status, answer.json.errors]).toEqual([400, [expect.stringContaining('disabled')]]);
    expect((await cells(key))[0]).toBe('deactivated');
    expect(await set(key.id, { enabled: true })).toBe(200);
    expect(await cells(key)).toEqual(['active', 200, 200, true, 200, 200]);
  });

  test('recovery restores the state that was there before', async () => {
    for (const [bring, expected] of [
      [() => Promise.resolve(200), ['active', 200, 200, true, 200, 200]],
      [(id: string) => state(id, 'deactivate', { reason: 'key_compromise' }), ['compromised', 400, 400, false, 403, 403]],
      [(id: string) => set(id, { enabled: false }), ['deactivated', 400, 400, false, 403, 403]],
    ] as const) {
      const key = await subject();
      await bring(key.id);
      expectOk(await dev.delete(`/keys/${key.id}`));
      expectOk(await dev.call('POST', `/deletedkeys/${key.id}/recover`));
      expect(await cells(key)).toEqual(expected);
    }
  });

  test('an older version that is disabled opens nothing, the newest goes on', async () => {
    const key = await subject();
    expectOk(await dev.post(`/keys/${key.id}/rotate`));
    expectOk(await dev.patch(`/keys/${key.id}/${key.version}`, { attributes: { enabled: false } }));
    expect((await admin.post(`/servicekey/${key.id}/decrypt`, { ciphertext: key.jwe })).status).toBe(400);
    expect((await admin.post(`/servicekey/${key.id}/encrypt`, { plaintext: 'AAAA' })).status).toBe(200);
    const { value, iv, tag } = key.gcm;
    expectRefusal(await dev.post(`/keys/${key.id}/${key.version}/decrypt`, { alg: 'A256GCM', value, iv, tag }), { status: 403, code: 'Forbidden', inner: 'KeyDisabled', words: 'disabled' });
  });

  test('operations that the Key Vault door narrowed are gone at the OKMS door, and come back with it', async () => {
    const key = await subject();
    expectOk(await dev.patch(`/keys/${key.id}`, { key_ops: ['decrypt'] }));
    expect((await admin.get(`/servicekey/${key.id}`)).json).toMatchObject({ operations: ['decrypt'] });
    expect((await admin.post(`/servicekey/${key.id}/encrypt`, { plaintext: 'AAAA' })).status).toBe(400);
    expect((await admin.post(`/servicekey/${key.id}/decrypt`, { ciphertext: key.jwe })).status).toBe(200);
    expectOk(await dev.patch(`/keys/${key.id}`, { key_ops: ['encrypt', 'decrypt'] }));
    expect((await cells(key)).slice(0, 3)).toEqual(['active', 200, 200]);
  });
});
