/** Destruction: ours is gone, and nothing but ours. */

import { describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { ec, newId, oct, objectOf } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';

const NONE = Buffer.alloc(0);

export function destructionSuite({ at, optional }: Contract): void {
  describe('destruction', () => {
    test('the object is gone, and a second time is harmless', async () => {
      const { engine, raw } = at();
      const gcm = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
      const pair = await at().generate(ec('P-256'), ['private', 'public']);
      const ids = [gcm.objectId, objectOf(pair, 'private').objectId];
      expect(ids.map((id) => raw.withId(id).length)).toEqual([1, 2]);
      await engine.destroy(ids);
      expect(ids.map((id) => raw.withId(id).length)).toEqual([0, 0]);
      expect((await failureOf(engine.encryptGcm(gcm, NONE, NONE))).code).toBe('key-missing');
      await engine.destroy(ids);
      await engine.destroy([newId()]);
    });

    test('a foreign object of another class with the same CKA_ID stays', async () => {
      const { engine, raw } = at();
      const { objectId } = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
      const foreign = raw.createPublic(objectId, 'somebody else');
      await engine.destroy([objectId]);
      expect(raw.withId(objectId).map((handle) => raw.label(handle))).toEqual(['somebody else']);
      raw.destroy(foreign);
    });

    optional('data-objects', 'what is no key stays, with our label and the same CKA_ID', async () => {
      const { engine, raw } = at();
      const versionId = newId();
      const { objectId } = objectOf(await at().generate(oct(256), ['gcm'], versionId), 'gcm');
      // SoftHSM gives data objects no CKA_ID; a certificate stands for all that is no key.
      const certificate = raw.createCertificate(objectId, at().label(versionId, 'gcm'));
      await engine.destroy([objectId]);
      expect(raw.withId(objectId).map((handle) => raw.number(handle, ck.CKA_CLASS))).toEqual([ck.CKO_CERTIFICATE]);
      raw.destroy(certificate);
    }, () => {
      expect(() => at().raw.createData('kms', 'kms', Buffer.alloc(1))).toThrow(/CKR_ATTRIBUTE_VALUE_INVALID/);
    });

    optional('several-objects-of-one-id', 'a foreign object of the same class with the same CKA_ID stays', async () => {
      const { engine, raw } = at();
      const { objectId } = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
      const foreign = raw.generateAes(objectId, 'somebody else');
      expect(raw.withId(objectId).length).toBe(2);
      await engine.destroy([objectId]);
      expect(raw.withId(objectId).map((handle) => raw.label(handle))).toEqual(['somebody else']);
      raw.destroy(foreign);
    }, () => {
      const { raw } = at();
      const id = newId();
      raw.generateAes(id, 'first');
      raw.generateAes(id, 'second');
      expect(raw.withId(id).map((handle) => raw.label(handle))).toEqual(['second']);
      for (const handle of raw.withId(id)) raw.destroy(handle);
    });
  });
}
