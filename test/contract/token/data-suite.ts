/** Data objects: replaced in the right order, and out of reach of everything that handles keys (integrity §5). */

import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { DataObject } from '../../../src/pkcs11/token.ts';
import { INSTALLATION, oct, objectOf } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';

const APPLICATION = `kms:${INSTALLATION}`;
const OTHER = `kms:${INSTALLATION}x`;
/** It starts as the labels of the keys do that may be destroyed. */
const LABEL = `${APPLICATION}:anchor`;

export function dataSuite({ at, lacks, optional }: Contract): void {
  describe('data objects', () => {
    afterEach(() => {
      for (const application of [APPLICATION, OTHER]) for (const handle of at().raw.dataOf(application)) at().raw.destroy(handle);
    });

    const read = (application = APPLICATION): Promise<readonly DataObject[]> => at().token.readData(application);
    const values = async (): Promise<readonly string[]> => (await read()).map(({ value }) => Buffer.from(value).toString('latin1')).sort();
    const replace = (value: string | Buffer, obsolete: readonly DataObject[] = []): Promise<void> =>
      at().token.replaceData(APPLICATION, LABEL, Buffer.from(value as string, 'latin1'), obsolete);

    test('none at first', async () => {
      expect(await read()).toEqual([]);
    });

    optional('data-objects', 'one is stored as asked for', async () => {
      const value = randomBytes(512);
      await replace(value);
      const { raw } = at();
      const [handle, ...others] = raw.dataOf(APPLICATION);
      expect(others).toEqual([]);
      expect(raw.number(handle!, ck.CKA_CLASS)).toBe(ck.CKO_DATA);
      expect([ck.CKA_TOKEN, ck.CKA_PRIVATE, ck.CKA_MODIFIABLE].map((type) => raw.flag(handle!, type))).toEqual([true, true, false]);
      expect(raw.attribute(handle!, ck.CKA_APPLICATION).toString('utf8')).toBe(APPLICATION);
      expect(raw.label(handle!)).toBe(LABEL);
      expect(raw.attribute(handle!, ck.CKA_VALUE)).toEqual(value);
      expect((await read()).map((object) => ({ label: object.label, value: Buffer.from(object.value) }))).toEqual([{ label: LABEL, value }]);
      expect(() => raw.module.C_SetAttributeValue(raw.session, handle!, [{ type: ck.CKA_VALUE, value: Buffer.alloc(1) }])).toThrow(/CKR_/);
    }, async () => {
      expect(await failureOf(replace('x'))).toMatchObject({ code: 'unsupported-by-token', message: 'not supported by this HSM' });
      expect(at().raw.dataOf(APPLICATION)).toEqual([]);
    });

    test('513 bytes are refused and nothing is made', async () => {
      expect((await failureOf(replace(Buffer.alloc(513)))).code).toBe('internal');
      expect(at().raw.dataOf(APPLICATION)).toEqual([]);
    });

    if (lacks('data-objects')) return;

    test('the obsolete ones go, the others stay', async () => {
      for (const value of ['a', 'b', 'c']) await replace(value);
      expect(await values()).toEqual(['a', 'b', 'c']);
      const obsolete = (await read()).filter(({ value }) => Buffer.from(value).toString() !== 'b');
      await replace('d', obsolete);
      expect(await values()).toEqual(['b', 'd']);
      // A second time they are gone already.
      await replace('e', obsolete);
      expect(await values()).toEqual(['b', 'd', 'e']);
    });

    test('nothing but a data object of this application that is still what was read is destroyed', async () => {
      const { raw, engine, token } = at();
      const gcm = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
      const number = (handle: ck.Handle): bigint => handle.readBigUInt64LE();
      raw.createData(OTHER, LABEL, Buffer.from('v'));
      await replace('v');
      const value = Buffer.from('v');
      const [mine] = await read();
      await replace('new', [
        { handle: number(raw.one(gcm.objectId, ck.CKO_SECRET_KEY)), label: LABEL, value },
        { handle: number(raw.one(at().canary.objectId, ck.CKO_SECRET_KEY)), label: LABEL, value },
        ...(await read(OTHER)),
        { ...mine!, value: Buffer.from('another') },
        { ...mine!, handle: 0x7fff_ffffn },
      ]);
      expect(await values()).toEqual(['new', 'v']);
      expect((await read(OTHER)).length).toBe(1);
      expect(token.state).toMatchObject({ phase: 'ready' });
      await engine.encryptGcm(gcm, Buffer.alloc(0), value);
      await engine.destroy([gcm.objectId]);
    });

    test('they are not listed, counted, surveyed or destroyed as keys', async () => {
      await at().reopen();
      const { token, raw, engine } = at();
      // A module lists in any order.
      const ids = (of: typeof token): readonly string[] => [...of.objectIds()].sort();
      const before = { ids: ids(token), count: token.stats().objects, surveyed: (await token.survey()).length };
      const { objectId } = objectOf(await at().generate(oct(256), ['gcm']), 'gcm');
      await replace('mine');
      raw.createData(APPLICATION, LABEL, Buffer.from('yours'));
      await engine.destroy([objectId, '']);
      expect(await values()).toEqual(['mine', 'yours']);
      await at().reopen();
      const again = at().token;
      expect({ ids: ids(again), count: again.stats().objects, surveyed: (await again.survey()).length }).toEqual(before);
      expect(await values()).toEqual(['mine', 'yours']);
    });

    test('an object without a value is seen', async () => {
      const { raw } = at();
      raw.module.C_CreateObject(raw.session, [
        { type: ck.CKA_CLASS, value: ck.CKO_DATA },
        { type: ck.CKA_TOKEN, value: true },
        { type: ck.CKA_PRIVATE, value: true },
        { type: ck.CKA_APPLICATION, value: Buffer.from(APPLICATION) },
      ]);
      expect((await read()).map(({ label, value }) => ({ label, bytes: value.length }))).toEqual([{ label: '', bytes: 0 }]);
    });
  });
}
