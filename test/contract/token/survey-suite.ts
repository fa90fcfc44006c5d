/** The survey: every key object of the token, ours or not, with what reports need to know of it. */

import { describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { SurveyedObject } from '../../../src/pkcs11/token.ts';
import { INSTALLATION, ec, newId, oct, objectOf } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';

export function surveySuite({ at }: Contract): void {
  describe('survey', () => {
    const byName = (a: SurveyedObject, b: SurveyedObject): number => `${a.objectId}${a.part}`.localeCompare(`${b.objectId}${b.part}`);
    const survey = async (): Promise<readonly SurveyedObject[]> => [...(await at().token.survey())].sort(byName);

    test('shows ours, with labels, and whether they can leave', async () => {
      const before = await survey();
      const versionId = newId();
      const gcm = objectOf(await at().generate(oct(256), ['gcm'], versionId), 'gcm').objectId;
      const pair = objectOf(await at().generate(ec('P-256'), ['private', 'public'], versionId), 'private').objectId;
      const mine = [
        { objectId: gcm, part: 'secret', label: at().label(versionId, 'gcm'), extractable: false },
        { objectId: pair, part: 'private', label: at().label(versionId, 'private'), extractable: false },
        { objectId: pair, part: 'public', label: at().label(versionId, 'public'), extractable: null },
      ] as const;
      expect(await survey()).toEqual([...before, ...mine].sort(byName));
      await at().engine.destroy([gcm, pair]);
      expect(await survey()).toEqual(before);
    });

    test('shows internal keys and those of somebody else', async () => {
      const { raw, canary, importKey } = at();
      const objectId = newId();
      const handle = raw.module.C_GenerateKey(raw.session, { mechanism: ck.CKM_AES_KEY_GEN }, [
        { type: ck.CKA_TOKEN, value: true },
        { type: ck.CKA_ID, value: Buffer.from(objectId, 'hex') },
        { type: ck.CKA_LABEL, value: Buffer.from('somebody else') },
        { type: ck.CKA_VALUE_LEN, value: 32 },
        { type: ck.CKA_PRIVATE, value: true },
        { type: ck.CKA_EXTRACTABLE, value: true },
      ]);
      const found = await survey();
      const label = (name: string): string => `kms-internal:${INSTALLATION}:${name}`;
      expect(found).toEqual(expect.arrayContaining([
        { objectId, part: 'secret', label: 'somebody else', extractable: true },
        { objectId: canary.objectId, part: 'secret', label: label('canary:mac'), extractable: false },
        { objectId: importKey.objectId, part: 'private', label: label('import:private'), extractable: false },
        { objectId: importKey.objectId, part: 'public', label: label('import:public'), extractable: null },
      ]));
      expect(found.length).toBe(raw.find([{ type: ck.CKA_TOKEN, value: true }]).length);
      raw.destroy(handle);
    });
  });
}
