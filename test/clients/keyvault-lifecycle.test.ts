/** The life of a key through the published clients of Key Vault (azure-keyvault-keys-api §7), in each of their versions. */

import { createHash, createPublicKey, generateKeyPairSync, privateDecrypt, publicEncrypt, randomBytes, verify } from 'node:crypto';
import { constants } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { rows } from '../support/form.ts';
import type { Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { connect, type Connected, SDKS, type SdkVersion } from './keyvault-sdk.ts';

let kms: Installation;
serve((served) => { kms = served.kms; });

/** In the short form the newest and the oldest: the acceptance tests have all of them. */
const VERSIONS = rows(Object.keys(SDKS) as SdkVersion[], 3);

describe.each(VERSIONS)('@azure/keyvault-keys %s', (version) => {
  let at: Connected;
  const named = (text: string): string => `${text}-${version.replaceAll('.', '-')}`;
  beforeAll(async () => { at = await connect(kms, version, 'dev'); });
  afterAll(() => { at.close(); });

  test('a key is created, read, listed, changed, rotated, deleted, recovered and purged', async () => {
    const { client, url } = at;
    const name = named('life');
    const made = await client.createRsaKey(name, { keySize: 2048, tags: { a: 'b' }, expiresOn: new Date('2031-01-01') });
    expect(made).toMatchObject({ name, keyType: 'RSA-HSM', properties: { version: expect.stringMatching(/^[0-9a-f]{32}$/), vaultUrl: url, tags: { a: 'b' }, enabled: true } });
    expect(made.id).toBe(`${url}/keys/${name}/${made.properties.version!}`);
    expect(made.properties.expiresOn).toEqual(new Date('2031-01-01'));
    expect(await client.getKey(name)).toEqual(made);
    expect(await client.getKey(name, { version: made.properties.version! })).toEqual(made);
    const changed = await client.updateKeyProperties(name, { enabled: false, tags: { c: 'd' } });
    expect(changed.properties).toMatchObject({ enabled: false, tags: { c: 'd' } });
    expect((await client.updateKeyProperties(name, made.properties.version!, { enabled: true })).properties).toMatchObject({ enabled: true, tags: { c: 'd' } });
    const rotated = await client.rotateKey(name);
    expect(rotated.properties.version).not.toBe(made.properties.version);
    expect(rotated.properties).toMatchObject({ tags: { c: 'd' }, enabled: true });
    expect(rotated.properties.expiresOn).toBeUndefined();
    const versions = [];
    for await (const page of client.listPropertiesOfKeyVersions(name).byPage({ maxPageSize: 1 })) versions.push(...page);
    expect(versions.map((of) => of.version).toSorted()).toEqual([made.properties.version, rotated.properties.version].toSorted());
    const names = [];
    for await (const of of client.listPropertiesOfKeys()) names.push(of.name);
    expect(names).toContain(name);
    const deleting = await client.beginDeleteKey(name, { intervalInMs: 50 });
    const deleted = await deleting.pollUntilDone();
    expect(deleted.properties.recoveryId).toBe(`${url}/deletedkeys/${name}`);
    expect(deleted.properties.scheduledPurgeDate!.getTime() - deleted.properties.deletedOn!.getTime()).toBe(90 * 86_400_000);
    await expect(client.getKey(name)).rejects.toMatchObject({ code: 'KeyNotFound', statusCode: 404 });
    expect((await client.getDeletedKey(name)).name).toBe(name);
    const gone = [];
    for await (const of of client.listDeletedKeys()) gone.push(of.name);
    expect(gone).toContain(name);
    await expect(client.createEcKey(name)).rejects.toMatchObject({ code: 'Conflict', statusCode: 409 });
    const recovering = await client.beginRecoverDeletedKey(name, { intervalInMs: 50 });
    expect((await recovering.pollUntilDone()).properties.version).toBe(rotated.properties.version);
    await (await client.beginDeleteKey(name, { intervalInMs: 50 })).pollUntilDone();
    await client.purgeDeletedKey(name);
    await expect(client.getDeletedKey(name)).rejects.toMatchObject({ statusCode: 404 });
    expect((await client.createEcKey(name, { curve: 'P-384' })).keyType).toBe('EC-HSM');
  });

  test('RSA: sealed here and opened there, both ways; signed there and verified here', async () => {
    const { client, cryptography } = at;
    const key = await client.createKey(named('rsa'), 'RSA', { keySize: 2048 });
    const publicKey = createPublicKey({ key: { kty: 'RSA', n: b64(key.key!.n), e: b64(key.key!.e) }, format: 'jwk' });
    const crypto = cryptography(key);
    const plaintext = randomBytes(100);
    for (const [alg, oaepHash] of [['RSA-OAEP', 'sha1'], ['RSA-OAEP-256', 'sha256']] as const) {
      const sealed = publicEncrypt({ key: publicKey, oaepHash, padding: constants.RSA_PKCS1_OAEP_PADDING }, plaintext);
      expect(Buffer.from((await crypto.decrypt({ algorithm: alg, ciphertext: sealed })).result)).toEqual(plaintext);
      const { result } = await crypto.encrypt({ algorithm: alg, plaintext });
      expect(Buffer.from((await crypto.decrypt({ algorithm: alg, ciphertext: result })).result)).toEqual(plaintext);
      const wrapped = await crypto.wrapKey(alg, plaintext);
      expect(Buffer.from((await crypto.unwrapKey(alg, wrapped.result)).result)).toEqual(plaintext);
    }
    const message = Buffer.from('signed there');
    for (const alg of ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const) {
      const hash = `sha${alg.slice(2)}`;
      const digest = createHash(hash).update(message).digest();
      const { result } = await crypto.sign(alg, digest);
      const pss = alg.startsWith('PS') ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: digest.length } : {};
      expect(verify(hash, message, { key: publicKey, ...pss }, result)).toBe(true);
      expect((await crypto.verify(alg, digest, result)).result).toBe(true);
      expect((await crypto.verify(alg, digest, result.map((byte, index) => (index === 9 ? byte ^ 1 : byte)))).result).toBe(false);
    }
  });

  test.each([['P-256', 'ES256'], ['P-384', 'ES384'], ['P-521', 'ES512'], ['P-256K', 'ES256K']] as const)('EC on %s: %s', async (curve, alg) => {
    const { client, cryptography } = at;
    const key = await client.createEcKey(named(`ec-${curve}`), { curve });
    expect(key.key!.crv).toBe(curve);
    const crv = curve === 'P-256K' ? 'secp256k1' : curve;
    const publicKey = createPublicKey({ key: { kty: 'EC', crv, x: b64(key.key!.x), y: b64(key.key!.y) }, format: 'jwk' });
    const hash = { ES256: 'sha256', ES384: 'sha384', ES512: 'sha512', ES256K: 'sha256' }[alg];
    const message = randomBytes(77);
    const digest = createHash(hash).update(message).digest();
    const { result } = await cryptography(key).sign(alg, digest);
    expect(verify(hash, message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, result)).toBe(true);
    expect((await cryptography(key).verify(alg, digest, result)).result).toBe(true);
  });

  test('AES: GCM with an IV of the HSM, CBC with padding, key wrap', async () => {
    const { client, cryptography } = at;
    for (const bits of [128, 192, 256] as const) {
      const key = await client.createOctKey(named(`oct-${bits}`), { keySize: bits, hsm: true });
      expect(key.keyType).toBe('oct-HSM');
      const crypto = cryptography(key);
      const plaintext = randomBytes(41);
      const aad = Buffer.from('bound');
      const gcm = await crypto.encrypt({ algorithm: `A${bits}GCM`, plaintext, additionalAuthenticatedData: aad });
      expect([gcm.iv?.length, gcm.authenticationTag?.length]).toEqual([12, 16]);
      const opened = await crypto.decrypt({
        algorithm: `A${bits}GCM`, ciphertext: gcm.result, iv: gcm.iv!, authenticationTag: gcm.authenticationTag!, additionalAuthenticatedData: aad,
      });
      expect(Buffer.from(opened.result)).toEqual(plaintext);
      const iv = randomBytes(16);
      const cbc = await crypto.encrypt({ algorithm: `A${bits}CBCPAD`, plaintext, iv });
      expect(Buffer.from((await crypto.decrypt({ algorithm: `A${bits}CBCPAD`, ciphertext: cbc.result, iv })).result)).toEqual(plaintext);
      const wrapped = await crypto.wrapKey(`A${bits}KW`, randomBytes(32));
      expect((await crypto.unwrapKey(`A${bits}KW`, wrapped.result)).result).toHaveLength(32);
    }
  });

  test('import, and use on both sides', async () => {
    const { client, cryptography } = at;
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const jwk = privateKey.export({ format: 'jwk' });
    const binary = (member: unknown): Uint8Array => Buffer.from(String(member), 'base64url');
    const members = Object.fromEntries((['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] as const).map((member) => [member, binary(jwk[member])]));
    const key = await client.importKey(named('imported'), { kty: 'RSA-HSM', ...members });
    const crypto = cryptography(key);
    const digest = createHash('sha256').update('x').digest();
    const { result } = await crypto.sign('RS256', digest);
    expect(verify('sha256', Buffer.from('x'), publicKey, result)).toBe(true);
    const { result: sealed } = await crypto.encrypt({ algorithm: 'RSA-OAEP-256', plaintext: Buffer.from('to the outside') });
    expect(privateDecrypt({ key: privateKey, oaepHash: 'sha256' }, sealed).toString()).toBe('to the outside');
  });

  test('random bytes', async () => {
    expect(await at.client.getRandomBytes(32)).toHaveLength(32);
  });
});

function b64(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('base64url');
}
