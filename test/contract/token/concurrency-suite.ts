/** 32 callers at once on all operations: every answer belongs to its question. */

import { constants, createCipheriv, createHash, createHmac, createPublicKey, publicEncrypt, randomBytes, verify } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { GeneratedMaterial } from '../../../src/crypto/engine.ts';
import { signatureAlgorithm } from '../../support/built.ts';
import { times } from '../../support/form.ts';
import { ec, oct, objectOf, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf, flipped } from './expectations.ts';

const CALLERS = 32;
const ROUNDS = times(2, 4);
const RSA = rsa(2048, 'sign', 'decrypt');
const EC = ec('P-256');

export function concurrencySuite({ at }: Contract): void {
  describe('32 callers', () => {
    const value = randomBytes(32);
    let keys: { readonly oct: GeneratedMaterial; readonly rsa: GeneratedMaterial; readonly ec: GeneratedMaterial };
    beforeAll(async () => {
      keys = {
        oct: await at().import(oct(256), ['gcm', 'cbc', 'kw', 'mac'], Buffer.from(value)),
        rsa: await at().generate(RSA, ['private', 'public']),
        ec: await at().generate(EC, ['private', 'public']),
      };
    });
    const ref = (family: 'cbc' | 'kw' | 'mac'): { objectId: string; part: 'secret' } =>
      ({ objectId: objectOf(keys.oct, family).objectId, part: 'secret' });
    const nodeKey = (material: GeneratedMaterial): ReturnType<typeof createPublicKey> =>
      createPublicKey({ key: Buffer.from(present(material.publicKey)), format: 'der', type: 'spki' });
    const is = (actual: Uint8Array, wanted: Uint8Array): boolean => Buffer.from(actual).equals(wanted);

    /** One of each operation on these bytes; true where the result is right. */
    const operations: Readonly<Record<string, (data: Buffer) => Promise<boolean>>> = {
      gcm: async (data) => {
        const gcm = objectOf(keys.oct, 'gcm');
        const sealed = await at().engine.encryptGcm(gcm, data.subarray(0, 9), data);
        const bad = await failureOf(at().engine.decryptGcm(gcm, data, sealed));
        return bad.code === 'decryption-failed' && is(await at().engine.decryptGcm(gcm, data.subarray(0, 9), sealed), data);
      },
      cbc: async (data) => {
        const iv = data.subarray(0, 16);
        const cipher = createCipheriv('aes-256-cbc', value, iv);
        return is(await at().token.encrypt(ref('cbc'), { name: 'aes-cbc-pad', iv }, data), Buffer.concat([cipher.update(data), cipher.final()]));
      },
      wrap: async (data) => {
        const blob = await at().token.wrapBytes(ref('kw'), { name: 'aes-kw' }, data.subarray(0, 32));
        return is(await at().token.unwrapBytes(ref('kw'), { name: 'aes-kw' }, blob), data.subarray(0, 32));
      },
      mac: async (data) =>
        is(await at().token.sign(ref('mac'), { name: 'hmac', hash: 'sha256' }, data, 32, 'fast'), createHmac('sha256', value).update(data).digest()),
      ecdsa: async (data) => {
        const [hashed, es256] = [createHash('sha256').update(data).digest(), present(signatureAlgorithm('ES256'))];
        const signature = await at().engine.sign(objectOf(keys.ec, 'private'), EC, es256, hashed);
        const judged = await Promise.all([signature, flipped(signature, 40)].map((one) =>
          at().engine.verify(objectOf(keys.ec, 'public'), EC, es256, hashed, one)));
        return judged[0] === true && judged[1] === false && verify('sha256', data, { key: nodeKey(keys.ec), dsaEncoding: 'ieee-p1363' }, signature);
      },
      rsa: async (data) => {
        const [hashed, ps256] = [createHash('sha256').update(data).digest(), present(signatureAlgorithm('PS256'))];
        const signature = await at().engine.sign(objectOf(keys.rsa, 'private'), RSA, ps256, hashed);
        const how = { key: nodeKey(keys.rsa), padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
        return verify('sha256', data, how, signature);
      },
      oaep: async (data) => {
        const how = { key: nodeKey(keys.rsa), padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
        const sealed = publicEncrypt(how, data.subarray(0, 100));
        return is(await at().engine.decryptRsa(objectOf(keys.rsa, 'private'), RSA, 'RSA-OAEP-256', sealed), data.subarray(0, 100));
      },
      random: async (data) => (await at().engine.random(data.length)).length === data.length,
      import: async (data) => {
        const made = await at().import(oct(256), ['mac'], Buffer.from(data.subarray(0, 32)));
        const { objectId } = objectOf(made, 'mac');
        const mac = await at().token.sign({ objectId, part: 'secret' }, { name: 'hmac', hash: 'sha256' }, data, 32, 'fast');
        await at().engine.destroy([objectId]);
        return is(mac, createHmac('sha256', data.subarray(0, 32)).update(data).digest());
      },
      create: async (data) => {
        const gcm = objectOf(await at().generate(oct(128), ['gcm']), 'gcm');
        const sealed = await at().engine.encryptGcm(gcm, Buffer.alloc(0), data);
        const right = is(await at().engine.decryptGcm(gcm, Buffer.alloc(0), sealed), data);
        await at().engine.destroy([gcm.objectId]);
        return right;
      },
    };

    test('every result is right, and the token is as it was', async () => {
      const before = at().raw.count('token');
      const names = Object.keys(operations);
      const wrong: string[] = [];
      await Promise.all(Array.from({ length: CALLERS }, async (_, caller) => {
        for (let round = 0; round < ROUNDS; round += 1) {
          for (let n = 0; n < names.length; n += 1) {
            const name = names[(caller + n) % names.length]!;
            // Creations are serialised: every caller makes some, none waits for all.
            if ((name === 'create' || name === 'import') && round > 0) continue;
            if (!(await operations[name]!(randomBytes(100 + caller)))) wrong.push(name);
          }
        }
      }));
      expect(wrong).toEqual([]);
      expect(at().raw.count('token')).toBe(before);
      expect(at().raw.count('session')).toBe(0);
    });
  });
}
