/** Import by unwrapping (pkcs11-lab §3): the key in the token does what the key in the clear does. */

import { constants, createHash, createHmac, createPublicKey, publicEncrypt, randomBytes, verify } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { signatureAlgorithm, wrapForImport } from '../../support/built.ts';
import { ec, newId, oct, objectOf, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';
import { type ClearPair, ecPair, ecPairs, rsaPair } from './node-keys.ts';

const MESSAGE = Buffer.from('signed by an imported key', 'utf8');
const HASHED = createHash('sha256').update(MESSAGE).digest();
const ES = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' } as const;

export function importSuite({ at, optional }: Contract): void {
  const signs = (pair: ClearPair, hash: string, signature: Uint8Array): boolean =>
    verify(hash, MESSAGE, { key: createPublicKey(pair.privateKey), dsaEncoding: 'ieee-p1363' }, signature);

  describe('import', () => {
    test.each([128, 192, 256] as const)('oct %d: every family holds the one value, unreadable', async (bits) => {
      const value = randomBytes(bits / 8);
      const { raw, engine } = at();
      const before = raw.count('token');
      const material = await at().import(oct(bits), ['gcm', 'dk', 'cbc', 'kw', 'mac'], Buffer.from(value));
      expect(raw.count('token')).toBe(before + 5);
      const sealed = await engine.encryptGcm(objectOf(material, 'gcm'), Buffer.alloc(0), value);
      expect(Buffer.from(await engine.decryptGcm(objectOf(material, 'dk'), Buffer.alloc(0), sealed))).toEqual(value);
      for (const { objectId, family } of material.objects) {
        const handle = raw.one(objectId, ck.CKO_SECRET_KEY);
        const flags = [ck.CKA_SENSITIVE, ck.CKA_PRIVATE, ck.CKA_EXTRACTABLE, ck.CKA_MODIFIABLE, ck.CKA_LOCAL].map((type) => raw.flag(handle, type));
        expect([family, ...flags]).toEqual([family, true, true, false, false, false]);
        expect(() => raw.attribute(handle, ck.CKA_VALUE)).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
      }
      await engine.destroy(material.objects.map(({ objectId }) => objectId));
      expect(raw.count('token')).toBe(before);
    });

    test('a generic secret of 64 bytes', async () => {
      const { token, importKey, profile } = at();
      const value = randomBytes(64);
      const wrapped = wrapForImport(present(importKey.publicKey), { type: 'secret', purpose: 'mac', bytes: value, publicKey: null }, profile);
      const objectId = newId();
      await token.importKey({ objectId: importKey.objectId, part: 'private' }, objectId, at().label(newId(), 'mac'), wrapped);
      const mac = await token.sign({ objectId, part: 'secret' }, { name: 'hmac', hash: 'sha512' }, MESSAGE, 64, 'fast');
      expect(Buffer.from(mac)).toEqual(createHmac('sha512', value).update(MESSAGE).digest());
      await token.destroy([objectId]);
    });

    test('RSA 2048: signs, opens, or both', async () => {
      const { engine, raw } = at();
      const rs256 = present(signatureAlgorithm('RS256'));
      for (const usages of [['sign', 'verify'], ['decrypt', 'encrypt'], ['sign', 'decrypt']] as const) {
        const pair = rsaPair();
        const shape = rsa(2048, ...usages);
        const material = await at().import(shape, ['private', 'public'], Buffer.from(pair.pkcs8), pair.spki);
        const key = objectOf(material, 'private');
        if ((usages as readonly string[]).includes('sign')) expect(signs(pair, 'sha256', await engine.sign(key, shape, rs256, HASHED))).toBe(true);
        if ((usages as readonly string[]).includes('decrypt')) {
          const how = { key: createPublicKey(pair.privateKey), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
          const opened = engine.decryptRsa(key, shape, 'RSA-OAEP-256', publicEncrypt(how, MESSAGE));
          expect(Buffer.from(await opened)).toEqual(MESSAGE);
        }
        const handle = raw.one(key.objectId, ck.CKO_PRIVATE_KEY);
        for (const type of [ck.CKA_PRIVATE_EXPONENT, ck.CKA_PRIME_1]) expect(() => raw.attribute(handle, type)).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
        await engine.destroy([key.objectId]);
      }
    });

    test.each(['P-256', 'P-384', 'P-521'] as const)('EC %s: random keys, scalars that begin with zeros among them', async (curve) => {
      const { engine } = at();
      const alg = present(signatureAlgorithm(ES[curve]));
      const hash = present(alg.hash);
      const hashed = createHash(hash).update(MESSAGE).digest();
      const before = at().raw.count('token');
      for (const pair of ecPairs(curve)) {
        const material = await at().import(ec(curve), ['private', 'public'], Buffer.from(pair.pkcs8), pair.spki);
        const signature = await engine.sign(objectOf(material, 'private'), ec(curve), alg, hashed);
        expect(signs(pair, hash, signature)).toBe(true);
        expect(await engine.verify(objectOf(material, 'public'), ec(curve), alg, hashed, signature)).toBe(true);
        await engine.destroy([objectOf(material, 'private').objectId]);
      }
      expect(at().raw.count('token')).toBe(before);
    });

    async function importP256k(pair: ClearPair): Promise<string> {
      const { token, importKey, profile } = at();
      const clear = { type: 'ec', purpose: 'ec-sign', bytes: pair.pkcs8, publicKey: pair.spki } as const;
      const objectId = newId();
      const wrapped = wrapForImport(present(importKey.publicKey), clear, profile);
      await token.importKey({ objectId: importKey.objectId, part: 'private' }, objectId, at().label(newId(), 'private'), wrapped);
      return objectId;
    }

    optional('ECDSA-P-256K', 'EC P-256K: random keys, scalars that begin with zeros among them', async () => {
      for (const pair of ecPairs('P-256K')) {
        const objectId = await importP256k(pair);
        const signature = await at().token.sign({ objectId, part: 'private' }, { name: 'ecdsa' }, HASHED, 64, 'slow');
        expect(signs(pair, 'sha256', signature)).toBe(true);
        expect(await at().token.verify({ objectId, part: 'public' }, { name: 'ecdsa' }, HASHED, signature)).toBe(true);
        await at().token.destroy([objectId]);
      }
    }, async () => {
      const before = at().raw.count('token');
      const error = await failureOf(importP256k(ecPair('P-256K')));
      if (error.code !== 'unsupported-by-token') throw error;
      expect(at().raw.count('token')).toBe(before);
    });
  });
}
