/** AES-GCM, AES-CBC and HMAC with imported keys, whose value the test knows, against node:crypto. */

import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { KeyObject } from '../../../src/keys/key.ts';
import type { Mechanism } from '../../../src/pkcs11/token.ts';
import { oct, objectOf, THREADS } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { expectUniform, flipped } from './expectations.ts';

const SIZES = [0, 1, 15, 16, 4096];
const AADS = [Buffer.alloc(0), Buffer.from('okms:context of a caller', 'utf8')];
const NONE = Buffer.alloc(0);

export function cipherSuite({ at }: Contract): void {
  describe.each([16, 24, 32])('AES-GCM, key of %d bytes', (keyBytes) => {
    const value = randomBytes(keyBytes);
    const cipher = `aes-${keyBytes * 8}-gcm` as 'aes-256-gcm';
    let key: KeyObject;
    beforeAll(async () => {
      key = await at().importOct(value, 'gcm');
    });

    test.each(SIZES.flatMap((size) => AADS.map((aad) => [size, aad.length, aad] as const)))('%d bytes, AAD of %d bytes', async (size, _, aad) => {
      const plaintext = randomBytes(size);
      const { iv, ciphertext, tag } = await at().engine.encryptGcm(key, aad, plaintext);
      expect([iv.length, ciphertext.length, tag.length]).toEqual([12, size, 16]);
      const open = createDecipheriv(cipher, value, iv).setAAD(aad).setAuthTag(tag);
      expect(Buffer.concat([open.update(ciphertext), open.final()])).toEqual(plaintext);
      const ownIv = randomBytes(12);
      const seal = createCipheriv(cipher, value, ownIv).setAAD(aad);
      const sealed = Buffer.concat([seal.update(plaintext), seal.final()]);
      const opened = await at().engine.decryptGcm(key, aad, { iv: ownIv, ciphertext: sealed, tag: seal.getAuthTag() });
      expect(Buffer.from(opened)).toEqual(plaintext);
    });

    test('whatever is wrong, the error is the same, and sessions stay usable', async () => {
      const { engine } = at();
      const sealed = await engine.encryptGcm(key, AADS[1]!, Buffer.from('sixteen bytes!!!'));
      const { iv, ciphertext, tag } = sealed;
      const wrong = [
        { ...sealed, tag: flipped(tag, 0) },
        { ...sealed, tag: flipped(tag, 15) },
        { ...sealed, iv: flipped(iv, 11) },
        { ...sealed, ciphertext: flipped(ciphertext, 3) },
        { ...sealed, ciphertext: ciphertext.slice(1) },
        { ...sealed, ciphertext: NONE },
        { iv, ciphertext: NONE, tag: tag.slice(0, 15) },
        { iv, ciphertext: NONE, tag: tag.slice(0, 1) },
        { iv, ciphertext: NONE, tag: NONE },
      ];
      for (const one of wrong) await expectUniform(engine.decryptGcm(key, AADS[1]!, one));
      await expectUniform(engine.decryptGcm(key, NONE, sealed));
      await expectUniform(engine.decryptGcm(key, Buffer.from('okms:context of a calleR'), sealed));
      // security H-3: more failures at once than there are sessions, then only good ones.
      await Promise.all(Array.from({ length: 2 * THREADS }, (_, n) => expectUniform(engine.decryptGcm(key, AADS[1]!, wrong[n % wrong.length]!))));
      const good = await Promise.all(Array.from({ length: 100 }, () => engine.decryptGcm(key, AADS[1]!, sealed)));
      for (const opened of good) expect(Buffer.from(opened).toString()).toBe('sixteen bytes!!!');
    });
  });

  describe('AES-CBC', () => {
    const value = randomBytes(32);
    const iv = randomBytes(16);
    const plain: Mechanism = { name: 'aes-cbc', iv };
    const padded: Mechanism = { name: 'aes-cbc-pad', iv };
    let ref: { objectId: string; part: 'secret' };
    beforeAll(async () => {
      ref = { objectId: (await at().importOct(value, 'cbc')).objectId, part: 'secret' };
    });
    const byNode = (data: Buffer, padding: boolean): Buffer => {
      const cipher = createCipheriv('aes-256-cbc', value, iv).setAutoPadding(padding);
      return Buffer.concat([cipher.update(data), cipher.final()]);
    };

    test.each([16, 32, 4096])('%d bytes without padding', async (size) => {
      const data = randomBytes(size);
      const sealed = Buffer.from(await at().token.encrypt(ref, plain, data));
      expect(sealed).toEqual(byNode(data, false));
      expect(Buffer.from(await at().token.decrypt(ref, plain, sealed))).toEqual(data);
    });

    test.each(SIZES)('%d bytes with padding', async (size) => {
      const data = randomBytes(size);
      const sealed = Buffer.from(await at().token.encrypt(ref, padded, data));
      expect(sealed).toEqual(byNode(data, true));
      expect(Buffer.from(await at().token.decrypt(ref, padded, sealed))).toEqual(data);
    });

    test('wrong padding and wrong lengths fail alike', async () => {
      const endings = ['00', '11', 'ff', '0102', '030203'].map((end) => Buffer.from(end.padStart(32, 'a'), 'hex'));
      for (const block of endings) await expectUniform(at().token.decrypt(ref, padded, byNode(block, false)));
      for (const size of [0, 1, 15, 17]) await expectUniform(at().token.decrypt(ref, padded, randomBytes(size)));
      expect(Buffer.from(await at().token.decrypt(ref, padded, byNode(Buffer.from('still good'), true))).toString()).toBe('still good');
    });
  });

  // A MAC is computed and compared here: C_Verify of NSS accepts truncated ones.
  describe('HMAC', () => {
    test.each([['sha256', 32], ['sha384', 48], ['sha512', 64]] as const)('%s', async (hash, length) => {
      // Shorter values are followed by zero bytes up to 64, which is the same HMAC.
      for (const keyBytes of [16, 24, 32] as const) {
        const value = randomBytes(keyBytes);
        const { objectId } = objectOf(await at().import(oct((keyBytes * 8) as 256), ['mac'], Buffer.from(value)), 'mac');
        const ref = { objectId, part: 'secret' as const };
        for (const size of [0, 1, 64, 4096]) {
          const data = randomBytes(size);
          const mac = Buffer.from(await at().token.sign(ref, { name: 'hmac', hash }, data, length, 'fast'));
          expect(mac).toEqual(createHmac(hash, value).update(data).digest());
        }
        await at().engine.destroy([objectId]);
      }
    });
  });
}
