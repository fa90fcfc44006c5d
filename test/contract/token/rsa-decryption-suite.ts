/** RSA decryption of ciphertexts made elsewhere: node:crypto and the supplied Wycheproof files (security §5). */

import { constants, createPrivateKey, createPublicKey, type KeyObject as NodeKey, publicEncrypt, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, describe, expect, jest, test } from '@jest/globals';
import type { GeneratedMaterial } from '../../../src/crypto/engine.ts';
import { objectOf, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { expectUniform, flipped } from './expectations.ts';

const SHAPE = rsa(2048, 'decrypt', 'encrypt');
const OAEP = { 'RSA-OAEP': 'sha1', 'RSA-OAEP-256': 'sha256' } as const;
/** 256 − 2·hash − 2. */
const LONGEST = { 'RSA-OAEP': 214, 'RSA-OAEP-256': 190 } as const;
type Algorithm = keyof typeof OAEP;

const FOLDER = resolve(process.env['KMS_VECTORS'] ?? '../shared/vectors', 'wycheproof');
const FILES = {
  'RSA-OAEP': 'rsa_oaep_2048_sha1_mgf1sha1_test.json',
  'RSA-OAEP-256': 'rsa_oaep_2048_sha256_mgf1sha256_test.json',
} as const;

interface Vectors {
  readonly testGroups: readonly {
    readonly privateKeyPkcs8: string;
    readonly tests: readonly { readonly tcId: number; readonly msg: string; readonly ct: string; readonly label: string; readonly result: string }[];
  }[];
}

export function rsaDecryptionSuite({ at, optional }: Contract): void {
  const open = (material: GeneratedMaterial, algorithm: Algorithm | 'RSA1_5', ciphertext: Uint8Array): Promise<Uint8Array> =>
    at().engine.decryptRsa(objectOf(material, 'private'), SHAPE, algorithm, ciphertext);

  describe('RSA decryption', () => {
    let material: GeneratedMaterial;
    let key: NodeKey;
    beforeAll(async () => {
      material = await at().generate(SHAPE, ['private', 'public']);
      key = createPublicKey({ key: Buffer.from(present(material.publicKey)), format: 'der', type: 'spki' });
    });
    const seal = (algorithm: Algorithm, message: Buffer, oaepLabel?: Buffer): Buffer =>
      publicEncrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: OAEP[algorithm], ...(oaepLabel && { oaepLabel }) }, message);

    test.each(['RSA-OAEP', 'RSA-OAEP-256'] as const)('%s of every kind of length', async (algorithm) => {
      for (const length of [0, 1, 16, 32, 100, LONGEST[algorithm]]) {
        const message = randomBytes(length);
        expect(Buffer.from(await open(material, algorithm, seal(algorithm, message)))).toEqual(message);
      }
    });

    test.each(['RSA-OAEP', 'RSA-OAEP-256'] as const)('%s: whatever is wrong, the error is the same', async (algorithm) => {
      const good = seal(algorithm, Buffer.from('message'));
      const other = algorithm === 'RSA-OAEP' ? 'RSA-OAEP-256' : 'RSA-OAEP';
      const bad = [
        ...[0, 100, 255].map((index) => flipped(good, index)),
        ...[seal(other, Buffer.from('message')), seal(algorithm, Buffer.from('message'), Buffer.from('label'))],
        ...[publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, Buffer.from('message'))],
        ...[Buffer.alloc(256), Buffer.alloc(256, 0xff), Buffer.alloc(255), Buffer.alloc(257), Buffer.alloc(0)],
        ...Array.from({ length: 10 }, () => randomBytes(256)),
      ];
      for (const one of bad) await expectUniform(open(material, algorithm, one));
      expect(Buffer.from(await open(material, algorithm, good)).toString()).toBe('message');
    });

    test('RSA1_5', async () => {
      for (const length of [1, 32, 245]) {
        const message = randomBytes(length);
        const sealed = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, message);
        expect(Buffer.from(await open(material, 'RSA1_5', sealed))).toEqual(message);
      }
    });

    const noPadding = Buffer.from(Array.from({ length: 256 }, (_, index) => index % 100));
    const unpadded = (): Buffer => publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, noPadding);
    optional('RSA1_5-explicit-rejection', 'RSA1_5 without padding fails', async () => {
      await expectUniform(open(material, 'RSA1_5', unpadded()));
    }, async () => {
      // Implicit rejection: the answer depends on key and ciphertext alone, and is none of the block.
      const [one, other] = [await open(material, 'RSA1_5', unpadded()), await open(material, 'RSA1_5', unpadded())];
      expect(one).toEqual(other);
      expect(noPadding.includes(Buffer.from(one))).toBe(false);
    });

    /** The mechanism that reaches the token. */
    async function pathOf(algorithm: Algorithm): Promise<unknown> {
      const sealed = seal(algorithm, Buffer.from('path'));
      const spy = jest.spyOn(at().token, 'decrypt');
      try {
        await open(material, algorithm, sealed);
        return spy.mock.calls.map(([, mechanism]) => mechanism);
      } finally {
        spy.mockRestore();
      }
    }

    optional('RSA-OAEP-256-in-token', 'RSA-OAEP-256 is the work of the token', async () => {
      expect(at().profile.oaep.sha256).toBe('native');
      expect(await pathOf('RSA-OAEP-256')).toEqual([{ name: 'rsa-oaep', hash: 'sha256' }]);
    }, async () => {
      expect(at().profile.oaep.sha256).toBe('raw');
      expect(await pathOf('RSA-OAEP-256')).toEqual([{ name: 'rsa-raw' }]);
    });
  });

  if (!existsSync(FOLDER)) {
    test.skip(`Wycheproof RSA-OAEP: no vectors in ${process.env['KMS_VECTORS'] ?? '../shared/vectors'}/wycheproof (KMS_VECTORS names the folder above)`, () => undefined);
    return;
  }

  describe.each(['RSA-OAEP', 'RSA-OAEP-256'] as const)('Wycheproof, %s', (algorithm) => {
    const { testGroups } = JSON.parse(readFileSync(resolve(FOLDER, FILES[algorithm]), 'utf8')) as Vectors;
    const groups = testGroups.map((group, index) => [index, group] as const);

    test.each(groups)('group %d', async (_index, { privateKeyPkcs8, tests }) => {
      const pkcs8 = Buffer.from(privateKeyPkcs8, 'hex');
      const spki = createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })).export({ format: 'der', type: 'spki' });
      const material = await at().import(SHAPE, ['private', 'public'], pkcs8, spki);
      const plain = tests.filter(({ label }) => label === '');
      const labelled = tests.filter(({ label }) => label !== '');
      for (const { tcId, msg, ct, result } of plain) {
        const opening = open(material, algorithm, Buffer.from(ct, 'hex'));
        if (result === 'valid') expect([tcId, Buffer.from(await opening).toString('hex')]).toEqual([tcId, msg]);
        else await expectUniform(opening);
      }
      // Policy: the label is always empty (RFC 7518 §4.3), so what was sealed with another does not open.
      console.info(`${algorithm}: refused by policy, labelled: tcId ${labelled.map(({ tcId }) => tcId).join(', ')}`);
      for (const { ct } of labelled) await expectUniform(open(material, algorithm, Buffer.from(ct, 'hex')));
      expect([plain.filter(({ result }) => result === 'valid').length, labelled.length]).toEqual(
        algorithm === 'RSA-OAEP' ? [10, 7] : [10, 8]);
      expect(plain.length + labelled.length).toBe(algorithm === 'RSA-OAEP' ? 36 : 37);
      await at().engine.destroy(material.objects.map(({ objectId }) => objectId));
    });
  });
}
