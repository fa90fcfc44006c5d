/** What the published clients of Key Vault rely on besides the operations: versions of the service, errors, credentials, retries (§2.3, §7). */

import { execFile } from 'node:child_process';
import { createDecipheriv, createHash, createPublicKey, generateKeyPairSync, publicEncrypt, randomBytes, randomUUID, verify } from 'node:crypto';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { CompactEncrypt, CompactSign, compactVerify, importJWK } from 'jose';
import { inTurns } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { issueToken } from '../support/bearer.ts';
import { FULL } from '../support/form.ts';
import type { Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { addTokenClient } from '../support/token-client.ts';
import { connect, type Connected, type SdkVersion } from './keyvault-sdk.ts';

let kms: Installation;
serve((served) => { kms = served.kms; });

const ALL_VERSIONS: readonly (readonly [SdkVersion, string])[] = [
  ...['7.0', '7.1', '7.2', '7.3', '7.4', '7.5', '7.6', '2025-07-01'].map((version) => ['4.10.2', version] as const),
  ...['7.0', '7.3', '7.5'].map((version) => ['4.9.0', version] as const),
  ['4.8.0', '7.4'], ['4.7.2', '7.2'], ['4.7.2', '7.4'],
];
/** In the short form the newest that each client knows, and the oldest that there is. */
const SERVICE_VERSIONS = FULL ? ALL_VERSIONS : ALL_VERSIONS.filter(([sdk, version], index) =>
  version === '7.0' ? sdk === '4.10.2' : ALL_VERSIONS[index + 1]?.[0] !== sdk);

test.each(SERVICE_VERSIONS)('client %s with the service version %s', async (sdk, serviceVersion) => {
  const at = await connect(kms, sdk, 'dev', { serviceVersion });
  try {
    const name = `v-${sdk}-${serviceVersion}`.replaceAll('.', '-');
    const key = await at.client.createEcKey(name, { curve: 'P-256', notBefore: new Date('2020-01-01'), tags: { v: serviceVersion } });
    expect(key.properties).toMatchObject({ notBefore: new Date('2020-01-01'), tags: { v: serviceVersion } });
    const message = randomBytes(20);
    const digest = createHash('sha256').update(message).digest();
    const { result } = await at.cryptography(key).sign('ES256', digest);
    expect((await at.cryptography(key.id!).verify('ES256', digest, result)).result).toBe(true);
    const names = [];
    for await (const page of at.client.listPropertiesOfKeys().byPage({ maxPageSize: 1 })) names.push(...page.map((of) => of.name));
    expect(names).toContain(name);
    const deleted = await (await at.client.beginDeleteKey(name, { intervalInMs: 20 })).pollUntilDone();
    expect(deleted.properties.recoveryId).toBeDefined();
    await at.client.purgeDeletedKey(name);
  } finally {
    at.close();
  }
});

describe('in a vault of the premium flavour', () => {
  let at: Connected;
  beforeAll(async () => { at = await connect(kms, '4.10.2', 'dev-premium'); });
  afterAll(() => { at.close(); });

  test('types are as they were asked for, and hsm is an option', async () => {
    expect((await at.client.createRsaKey('plain', { hsm: false })).keyType).toBe('RSA');
    expect((await at.client.createRsaKey('in-hsm', { hsm: true })).keyType).toBe('RSA-HSM');
    expect((await at.client.createEcKey('ec-hsm', { hsm: true })).keyType).toBe('EC-HSM');
    expect((await at.client.createOctKey('oct', { hsm: true })).keyType).toBe('oct-HSM');
    await expect(at.client.createOctKey('oct-soft', { hsm: false })).rejects.toMatchObject({ code: 'BadParameter', statusCode: 400 });
  });

  test('imports keep their type, and take an HSM by option', async () => {
    const jwk = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ format: 'jwk' });
    const bytes = (member: unknown): Uint8Array => Buffer.from(String(member), 'base64url');
    const key = { crv: 'P-384', x: bytes(jwk.x), y: bytes(jwk.y), d: bytes(jwk.d) };
    expect((await at.client.importKey('imported', { kty: 'EC', ...key })).keyType).toBe('EC');
    expect((await at.client.importKey('imported-hsm', { kty: 'EC', ...key }, { hardwareProtected: true })).keyType).toBe('EC-HSM');
    await expect(at.client.importKey('imported-bad', { kty: 'EC', ...key, d: randomBytes(48) })).rejects.toMatchObject({ code: 'BadParameter' });
  });

  test('what it cannot do here says so: random bytes, CBC', async () => {
    await expect(at.client.getRandomBytes(8)).rejects.toMatchObject({ statusCode: 404 });
    const key = await at.client.createOctKey('no-cbc', { hsm: true, keySize: 256 });
    await expect(at.cryptography(key).encrypt({ algorithm: 'A256CBCPAD', plaintext: Buffer.from('x'), iv: randomBytes(16) }))
      .rejects.toMatchObject({ code: 'BadParameter', message: expect.stringContaining('switched off') });
  });
});

describe('errors', () => {
  let at: Connected;
  beforeAll(async () => { at = await connect(kms, '4.10.2', 'dev'); });
  afterAll(() => { at.close(); });

  test('have code, status and inner code', async () => {
    await expect(at.client.getKey('nowhere')).rejects.toMatchObject({ code: 'KeyNotFound', statusCode: 404, message: expect.stringContaining('nowhere') });
    await at.client.createRsaKey('sealed', { enabled: false });
    const crypto = at.cryptography(`${at.url}/keys/sealed/${(await at.client.getKey('sealed')).properties.version!}`);
    await expect(crypto.sign('RS256', randomBytes(32))).rejects.toMatchObject({
      code: 'Forbidden', statusCode: 403, details: { error: { innerError: { code: 'KeyDisabled' } } },
    });
    await expect(at.client.backupKey('sealed')).rejects.toMatchObject({ code: 'NotImplemented', statusCode: 501 });
    await expect(at.client.getKeyRotationPolicy('sealed')).rejects.toMatchObject({ statusCode: 501 });
    await expect(at.client.releaseKey('sealed', 'token')).rejects.toMatchObject({ statusCode: 501 });
  });

  test('401 for a token that does not hold, after one challenge', async () => {
    const stranger = await connect(kms, '4.10.2', 'dev', { token: 'a.b.c' });
    await expect(stranger.client.getKey('sealed')).rejects.toMatchObject({ statusCode: 401, code: 'Unauthorized' });
    stranger.close();
  });

  test('a caller who may not read a key is refused, and asks the service for each operation', async () => {
    const { id } = await at.client.createEcKey('not-for-all');
    const token = await issueToken(kms, '--subject', 'releaser', '--role', 'Key Vault Crypto Service Release User', '--vault', 'dev');
    const other = await connect(kms, '4.10.2', 'dev', { token });
    await expect(other.client.getKey('not-for-all')).rejects.toMatchObject({ statusCode: 403, code: 'Forbidden' });
    await expect(other.cryptography(id!).sign('ES256', randomBytes(32))).rejects.toMatchObject({ statusCode: 403, code: 'Forbidden' });
    const asked = auditRecords(kms).filter(({ event, result }) => event === 'key.sign' && result === 'refused');
    expect(asked.at(-1)).toMatchObject({ reason: 'forbidden' });
    other.close();
  });
});

test('429 with Retry-After is waited for and tried again, by the client itself', async () => {
  const hasty = await connect(kms, '4.10.2', 'dev');
  const patient = await connect(kms, '4.10.2', 'dev', { maxRetries: 3 });
  try {
    const { key, id } = await hasty.client.createRsaKey('throttled');
    const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('base64url');
    const publicKey = createPublicKey({ key: { kty: 'RSA', n: text(key!.n), e: text(key!.e) }, format: 'jwk' });
    const crypto = hasty.cryptography(id!);
    const fail = (): Promise<number | undefined> => crypto.decrypt({ algorithm: 'RSA-OAEP', ciphertext: Buffer.alloc(256, 1) })
      .then(() => 200, (error: unknown) => (error as { statusCode?: number }).statusCode);
    await inTurns(Array.from({ length: 100 }), async () => { expect(await fail()).toBe(400); }, 8);
    // Three more, each when it may: then the delay is eight seconds.
    for (let more = 0; more < 3;) if ((await fail()) === 400) more += 1;
    const sealed = publicEncrypt({ key: publicKey, oaepHash: 'sha1' }, Buffer.from('in the end'));
    expect(await fail()).toBe(429);
    const { result } = await patient.cryptography(id!).decrypt({ algorithm: 'RSA-OAEP', ciphertext: sealed });
    expect(Buffer.from(result).toString()).toBe('in the end');
  } finally {
    hasty.close();
    patient.close();
  }
});

describe('one key, two doors, with the client', () => {
  let at: Connected;
  let admin: Client;
  beforeAll(async () => {
    at = await connect(kms, '4.10.2', 'dev');
    admin = kms.client();
  });
  afterAll(async () => {
    at.close();
    await admin.close();
  });
  const message = Buffer.from('through either door');
  const digest = createHash('sha256').update(message).digest();

  test('made through OKMS, it signs and verifies through the client', async () => {
    const { json } = await admin.post('/servicekey', { name: 'from OKMS', type: 'RSA', size: 3072, operations: ['sign', 'verify'] });
    const key = await at.client.getKey(json.id as string);
    expect(key).toMatchObject({ keyType: 'RSA-HSM', keyOperations: ['sign', 'verify'] });
    const { result } = await at.cryptography(key).sign('PS256', digest);
    const verified = await admin.post(`/servicekey/${json.id as string}/verify`, { alg: 'PS256', message: message.toString('base64'), signature: Buffer.from(result).toString('base64') });
    expect(verified.json).toMatchObject({ result: true });
  });

  test('made through the client, it signs through OKMS', async () => {
    const name = randomUUID();
    const key = await at.client.createEcKey(name, { curve: 'P-521' });
    const { json } = await admin.post(`/servicekey/${name}/sign`, { alg: 'ES512', message: message.toString('base64') });
    const signed = Buffer.from(json.signature as string, 'base64');
    const sha512 = createHash('sha512').update(message).digest();
    expect((await at.cryptography(key).verify('ES512', sha512, signed)).result).toBe(true);
    await at.client.updateKeyProperties(name, { enabled: false });
    expect((await admin.post(`/servicekey/${name}/sign`, { alg: 'ES512', message: 'AAAA' })).status).toBe(400);
  });
});

describe('with jose', () => {
  let at: Connected;
  beforeAll(async () => { at = await connect(kms, '4.10.2', 'dev'); });
  afterAll(() => { at.close(); });
  const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('base64url');

  test('a JWE for the public key opens with the private key in the HSM', async () => {
    const { key, id } = await at.client.createRsaKey('for-jose', { keySize: 2048 });
    for (const alg of ['RSA-OAEP', 'RSA-OAEP-256'] as const) {
      const jwk = await importJWK({ kty: 'RSA', n: text(key!.n), e: text(key!.e) }, alg);
      const jwe = await new CompactEncrypt(Buffer.from('for the HSM')).setProtectedHeader({ alg, enc: 'A256GCM' }).encrypt(jwk);
      const [header = '', wrapped = '', iv = '', content = '', tag = ''] = jwe.split('.');
      const { result } = await at.cryptography(id!).unwrapKey(alg, Buffer.from(wrapped, 'base64url'));
      const opener = createDecipheriv('aes-256-gcm', result, Buffer.from(iv, 'base64url')).setAAD(Buffer.from(header)).setAuthTag(Buffer.from(tag, 'base64url'));
      expect(Buffer.concat([opener.update(Buffer.from(content, 'base64url')), opener.final()]).toString()).toBe('for the HSM');
    }
  });

  test.each(['RS256', 'PS384', 'PS512', 'RS512'] as const)('a JWS that the client signs with %s verifies in jose, and the reverse', async (alg) => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = privateKey.export({ format: 'jwk' });
    const members = Object.fromEntries((['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] as const).map((member) => [member, Buffer.from(String(jwk[member]), 'base64url')]));
    const key = await at.client.importKey(`jws-${alg}`, { kty: 'RSA', ...members });
    const hash = `sha${alg.slice(2)}`;
    const input = `${b64Header({ alg })}.${Buffer.from('signed').toString('base64url')}`;
    const { result } = await at.cryptography(key).sign(alg, createHash(hash).update(input).digest());
    expect(Buffer.from((await compactVerify(`${input}.${text(result)}`, publicKey)).payload).toString()).toBe('signed');
    const made = await new CompactSign(Buffer.from('signed outside')).setProtectedHeader({ alg }).sign(privateKey);
    const [header, payload, signature = ''] = made.split('.');
    const digest = createHash(hash).update(`${header}.${payload}`).digest();
    expect((await at.cryptography(key.id!).verify(alg, digest, Buffer.from(signature, 'base64url'))).result).toBe(true);
  });

  test('signData and verifyData hash by themselves', async () => {
    const key = await at.client.createEcKey('data', { curve: 'P-384' });
    const data = randomBytes(500);
    const { result } = await at.cryptography(key).signData('ES384', data);
    expect((await at.cryptography(key).verifyData('ES384', data, result)).result).toBe(true);
    expect((await at.cryptography(key).verifyData('ES384', randomBytes(500), result)).result).toBe(false);
  });
});

function b64Header(header: object): string {
  return Buffer.from(JSON.stringify(header)).toString('base64url');
}

test('ClientSecretCredential with its authority and the CA as only settings opens the vault', async () => {
  const client = await addTokenClient(kms, '--subject', 'sdk-program', '--role', 'Key Vault Crypto Officer', '--vault', 'dev');
  const environment = {
    PATH: process.env['PATH'],
    NODE_EXTRA_CA_CERTS: kms.admin.ca,
    CLIENT: JSON.stringify({ ...client, authorityHost: `https://localhost:${kms.port}`, vaultUrl: `https://dev.localhost:${kms.port}` }),
  };
  const { stdout } = await promisify(execFile)(process.execPath, [resolve('test/clients/keyvault-credential.mjs')], { env: environment });
  const { name, x, y, digest, signature } = JSON.parse(stdout) as Record<string, string>;
  expect(name).toBe('by-secret');
  const key = { key: { kty: 'EC', crv: 'P-256', x: x!, y: y! }, format: 'jwk', dsaEncoding: 'ieee-p1363' } as const;
  expect(verify('sha256', Buffer.from('by a program'), key, Buffer.from(signature!, 'base64url'))).toBe(true);
  expect(createHash('sha256').update('by a program').digest('base64url')).toBe(digest);
});
