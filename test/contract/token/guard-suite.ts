/** What the template promises, tried by somebody with the PIN (security P-2, P-16). */

import { beforeAll, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { KeyObject } from '../../../src/keys/key.ts';
import { oct, objectOf, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';
import { rsaPair } from './node-keys.ts';

export function guardSuite({ at, optional }: Contract): void {
  describe('guards', () => {
    let gcm: KeyObject;
    beforeAll(async () => {
      gcm = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
    });
    const handle = (): ck.Handle => at().raw.one(gcm.objectId, ck.CKO_SECRET_KEY);

    test('nothing of a key can be changed or read', () => {
      const { raw } = at();
      for (const [type, value] of [[ck.CKA_EXTRACTABLE, true], [ck.CKA_SENSITIVE, false], [ck.CKA_WRAP, true], [ck.CKA_LABEL, 'x']] as const) {
        expect(() => raw.module.C_SetAttributeValue(raw.session, handle(), [{ type, value }])).toThrow(/CKR_/);
      }
      expect(() => raw.attribute(handle(), ck.CKA_VALUE)).toThrow(/CKR_ATTRIBUTE_SENSITIVE/);
    });

    const copy = (): unknown => {
      const { raw } = at();
      return raw.module.C_CopyObject(raw.session, handle(), [{ type: ck.CKA_TOKEN, value: false }, { type: ck.CKA_LABEL, value: 'copy' }]);
    };
    optional('CKA_COPYABLE', 'a key cannot be copied', () => {
      expect(copy).toThrow(/CKR_/);
    }, () => {
      expect(at().profile.templateOmissions).toContain('COPYABLE');
      expect(() => at().raw.attribute(handle(), ck.CKA_COPYABLE)).toThrow(/CKR_ATTRIBUTE_TYPE_INVALID/);
    });

    const asCbc = (): Promise<Uint8Array> =>
      at().token.encrypt({ objectId: gcm.objectId, part: 'secret' }, { name: 'aes-cbc', iv: Buffer.alloc(16) }, Buffer.alloc(16));
    optional('CKA_ALLOWED_MECHANISMS', 'a GCM key does nothing but GCM', async () => {
      expect((await failureOf(asCbc())).code).toBe('unsupported-by-token');
    }, async () => {
      expect(at().profile.templateOmissions).toContain('ALLOWED_MECHANISMS');
      expect((await asCbc()).length).toBe(16);
    });

    optional('CKA_LOCAL', 'a generated key says so', () => {
      expect(at().raw.flag(handle(), ck.CKA_LOCAL)).toBe(true);
    }, () => {
      expect(at().raw.flag(handle(), ck.CKA_LOCAL)).toBe(false);
    });

    async function usagesOfImported(): Promise<readonly boolean[]> {
      const { pkcs8, spki } = rsaPair();
      const { objectId } = objectOf(await at().import(rsa(2048, 'sign'), ['private', 'public'], pkcs8, spki), 'private');
      const key = at().raw.one(objectId, ck.CKO_PRIVATE_KEY);
      const flags = [ck.CKA_SIGN, ck.CKA_DECRYPT, ck.CKA_SIGN_RECOVER, ck.CKA_UNWRAP].map((type) => at().raw.flag(key, type));
      await at().engine.destroy([objectId]);
      return flags;
    }
    optional('private-usages-on-import', 'an imported private key has the usages asked for', async () => {
      expect(at().profile.import.privateUsages).toBe('template');
      expect(await usagesOfImported()).toEqual([true, false, false, false]);
    }, async () => {
      expect(at().profile.import.privateUsages).toBe('all');
      expect(await usagesOfImported()).toEqual([true, true, true, true]);
    });
  });
}
