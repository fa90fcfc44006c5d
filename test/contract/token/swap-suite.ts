/** Somebody with the PIN puts another key in the place of ours: it is never used as ours (security H-1, H-2). */

import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { ec, newId, oct, objectOf, present } from '../../support/token.ts';
import { planObjects, publicHalf, signatureAlgorithm } from '../../support/built.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';

const NONE = Buffer.alloc(0);

export function swapSuite({ at }: Contract): void {
  describe('a swapped object', () => {
    /** Destroys what has this id and makes another key with the same id and label. */
    function swapSecret(objectId: string, label: string): void {
      const { raw } = at();
      for (const handle of raw.withId(objectId)) raw.destroy(handle);
      raw.generateAes(objectId, label);
    }

    test('secret, seen at the next start', async () => {
      const versionId = newId();
      const gcm = objectOf(await at().generate(oct(256), ['gcm'], versionId), 'gcm');
      swapSecret(gcm.objectId, at().label(versionId, 'gcm'));
      await at().reopen();
      expect((await failureOf(at().engine.encryptGcm(gcm, NONE, NONE))).code).toBe('integrity');
      await at().engine.destroy([gcm.objectId]);
    });

    test('pair, seen at the next start', async () => {
      const versionId = newId();
      const material = await at().generate(ec('P-256'), ['private', 'public'], versionId);
      const key = objectOf(material, 'private');
      for (const handle of at().raw.withId(key.objectId)) at().raw.destroy(handle);
      at().raw.generatePair(key.objectId, at().label(versionId, 'private'));
      await at().reopen();
      const signing = at().engine.sign(key, ec('P-256'), present(signatureAlgorithm('ES256')), Buffer.alloc(32));
      expect((await failureOf(signing)).code).toBe('integrity');
      await at().engine.destroy([key.objectId]);
    });

    test('public key alone, seen at the next start', async () => {
      const spki = (): Buffer => generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
      const versionId = newId();
      const shape = { ...ec('P-256'), usages: ['verify'] } as const;
      const planned = planObjects(['public-only']);
      const key = objectOf(await at().engine.importKey(shape, versionId, planned, null, spki()), 'public-only');
      const verifying = (): Promise<boolean> =>
        at().engine.verify(key, shape, present(signatureAlgorithm('ES256')), Buffer.alloc(32), Buffer.alloc(64, 1));
      expect(await verifying()).toBe(false);
      for (const handle of at().raw.withId(key.objectId)) at().raw.destroy(handle);
      const other = createPublicKey({ key: spki(), format: 'der', type: 'spki' });
      await at().token.importPublic(key.objectId, at().label(versionId, 'public-only'), 'ec-sign', publicHalf(other));
      await at().reopen();
      expect((await failureOf(verifying())).code).toBe('integrity');
      await at().engine.destroy([key.objectId]);
    });

    test('secret, while we run', async () => {
      const versionId = newId();
      const gcm = objectOf(await at().generate(oct(256), ['gcm'], versionId), 'gcm');
      await at().engine.encryptGcm(gcm, NONE, NONE);
      swapSecret(gcm.objectId, at().label(versionId, 'gcm'));
      const codes: string[] = [];
      for (let n = 0; n < 3; n += 1) codes.push((await failureOf(at().engine.encryptGcm(gcm, NONE, NONE))).code);
      expect(codes.at(-1)).toBe('integrity');
      await at().engine.destroy([gcm.objectId]);
    });
  });
}
