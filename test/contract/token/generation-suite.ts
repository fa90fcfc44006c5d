/** Every kind of key the token makes: the complete template as the token holds it (security §2.1), and the proof. */

import { createPublicKey } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { KeyShape } from '../../../src/crypto/engine.ts';
import type { Family } from '../../../src/keys/key.ts';
import type { Profile } from '../../../src/pkcs11/token.ts';
import type { RawToken } from '../../support/raw-token.ts';
import { ec, newId, oct, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';

type Flag = 'ENCRYPT' | 'DECRYPT' | 'SIGN' | 'SIGN_RECOVER' | 'VERIFY' | 'VERIFY_RECOVER' | 'WRAP' | 'UNWRAP' | 'DERIVE';

/** The usage attributes of each class (PKCS#11 2.40 §4.8–4.10). */
const FLAGS: Readonly<Record<number, readonly Flag[]>> = {
  [ck.CKO_SECRET_KEY]: ['ENCRYPT', 'DECRYPT', 'SIGN', 'VERIFY', 'WRAP', 'UNWRAP', 'DERIVE'],
  [ck.CKO_PRIVATE_KEY]: ['DECRYPT', 'SIGN', 'SIGN_RECOVER', 'UNWRAP', 'DERIVE'],
  [ck.CKO_PUBLIC_KEY]: ['ENCRYPT', 'VERIFY', 'VERIFY_RECOVER', 'WRAP', 'DERIVE'],
};

interface Row {
  readonly shape: KeyShape;
  readonly families: readonly Family[];
  /** Usage flags of the secret or private object, then of the public one. */
  readonly flags: readonly [readonly Flag[], readonly Flag[]];
  readonly mechanisms: readonly number[];
}

const RSA_SIGNS = [ck.CKM_RSA_PKCS, ck.CKM_RSA_PKCS_PSS];

function rows(profile: Profile): readonly Row[] {
  const { kw, kwp, dataKeyPath } = profile.keyWrap;
  const wraps: readonly Flag[] = dataKeyPath === 'encrypt' ? ['ENCRYPT', 'DECRYPT'] : ['WRAP', 'UNWRAP'];
  const opens = profile.oaep.sha256 === 'raw' ? [ck.CKM_RSA_PKCS_OAEP, ck.CKM_RSA_X_509] : [ck.CKM_RSA_PKCS_OAEP];
  const secret = (bits: 128 | 192 | 256, family: Family, flags: readonly Flag[], mechanisms: readonly number[]): Row =>
    ({ shape: oct(bits), families: [family], flags: [flags, []], mechanisms });
  const pair = (shape: KeyShape, flags: Row['flags'], mechanisms: readonly number[]): Row =>
    ({ shape, families: ['private', 'public'], flags, mechanisms });
  return [
    ...([128, 192, 256] as const).flatMap((bits) => [
      secret(bits, 'gcm', ['ENCRYPT', 'DECRYPT'], [ck.CKM_AES_GCM]),
      secret(bits, 'dk', ['ENCRYPT', 'DECRYPT'], [ck.CKM_AES_GCM]),
      secret(bits, 'cbc', ['ENCRYPT', 'DECRYPT'], [ck.CKM_AES_CBC, ck.CKM_AES_CBC_PAD]),
      secret(bits, 'kw', wraps, [present(kw), present(kwp)]),
    ]),
    secret(256, 'mac', ['SIGN', 'VERIFY'], [ck.CKM_SHA256_HMAC, ck.CKM_SHA384_HMAC, ck.CKM_SHA512_HMAC]),
    ...[2048, 3072, 4096].map((bits) => pair(rsa(bits, 'sign', 'verify'), [['SIGN'], ['VERIFY']], RSA_SIGNS)),
    pair(rsa(2048, 'decrypt', 'encrypt'), [['DECRYPT'], ['ENCRYPT']], [ck.CKM_RSA_PKCS, ...opens]),
    pair(rsa(2048, 'sign', 'decrypt'), [['SIGN', 'DECRYPT'], ['VERIFY', 'ENCRYPT']], [...RSA_SIGNS, ...opens]),
    ...(['P-256', 'P-384', 'P-521'] as const).map((curve) => pair(ec(curve), [['SIGN'], ['VERIFY']], [ck.CKM_ECDSA])),
  ];
}

const name = ({ kind, bits, curve, usages }: KeyShape): string => [kind, bits ?? curve, ...usages].join(' ');

const CURVE_P256K = { type: 'ec', curve: 'P-256K', purpose: 'ec-sign' } as const;

export function generationSuite({ at, lacks, optional }: Contract): void {
  /** All of the object that says what it is and may do. */
  function described(raw: RawToken, handle: ck.Handle): object {
    const objectClass = raw.number(handle, ck.CKA_CLASS);
    const hidden = objectClass !== ck.CKO_PUBLIC_KEY;
    const flag = (type: number): boolean => raw.flag(handle, type);
    return {
      ...(hidden && { sensitive: flag(ck.CKA_SENSITIVE), extractable: flag(ck.CKA_EXTRACTABLE) }),
      ...(hidden && { always: flag(ck.CKA_ALWAYS_SENSITIVE), never: flag(ck.CKA_NEVER_EXTRACTABLE) }),
      ...(hidden && !lacks('CKA_ALLOWED_MECHANISMS') && { mechanisms: mechanisms(raw, handle) }),
      ...(!lacks('CKA_COPYABLE') && { copyable: flag(ck.CKA_COPYABLE) }),
      ...(!lacks('CKA_LOCAL') && { local: flag(ck.CKA_LOCAL) }),
      ...{ private: flag(ck.CKA_PRIVATE), modifiable: flag(ck.CKA_MODIFIABLE) },
      ...{ label: raw.label(handle), flags: FLAGS[objectClass]!.filter((one) => flag(ck[`CKA_${one}`])).sort() },
    };
  }

  function wanted(row: Row, label: string, hidden: boolean): object {
    return {
      ...(hidden && { sensitive: true, extractable: false, always: true, never: true }),
      ...(hidden && !lacks('CKA_ALLOWED_MECHANISMS') && { mechanisms: [...row.mechanisms].sort((a, b) => a - b) }),
      ...(!lacks('CKA_COPYABLE') && { copyable: false }),
      ...(!lacks('CKA_LOCAL') && { local: true }),
      ...{ private: hidden, modifiable: false, label, flags: [...row.flags[hidden ? 0 : 1]].sort() },
    };
  }

  describe('generation', () => {
    // The profiles differ in ids only: the titles are the same on every module.
    const titles = ['gcm', 'dk', 'cbc', 'kw'].flatMap((family) => [128, 192, 256].map((bits) => `oct ${bits} ${family}`));
    const pairs = ['RSA 2048 sign verify', 'RSA 3072 sign verify', 'RSA 4096 sign verify', 'RSA 2048 decrypt encrypt', 'RSA 2048 sign decrypt'];
    const curves = ['P-256', 'P-384', 'P-521'].map((curve) => `EC ${curve} sign verify`);

    test.each([...titles, 'oct 256 mac', ...pairs, ...curves])('%s: complete template, proof', async (title) => {
      const row = present(rows(at().profile).find(({ shape, families }) =>
        title === name(shape) || title === `${name(shape)} ${families[0]!}`));
      const { raw, token } = at();
      const before = raw.count('token');
      const versionId = newId();
      const { objects, publicKey } = await at().generate(row.shape, row.families, versionId);
      expect(raw.count('token')).toBe(before + row.families.length);
      for (const { family, objectId, proof } of objects) {
        const part = family === 'private' || family === 'public' ? family : 'secret';
        const handle = raw.one(objectId, { secret: ck.CKO_SECRET_KEY, private: ck.CKO_PRIVATE_KEY, public: ck.CKO_PUBLIC_KEY }[part]);
        expect(described(raw, handle)).toEqual(wanted(row, at().label(versionId, family), part !== 'public'));
        expect(proof.length).toBeGreaterThan(0);
        expect(token.isProven({ objectId, part })).toBe(true);
        if (part === 'secret') expect(raw.number(handle, ck.CKA_VALUE_LEN)).toBe(family === 'mac' ? 64 : present(row.shape.bits) / 8);
      }
      if (publicKey !== null) {
        const { asymmetricKeyType, asymmetricKeyDetails } = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
        expect(asymmetricKeyType).toBe(row.shape.kind.toLowerCase());
        if (row.shape.bits !== null) expect(asymmetricKeyDetails).toEqual({ modulusLength: row.shape.bits, publicExponent: 65537n });
      }
      await at().engine.destroy(objects.map(({ objectId }) => objectId));
      expect(raw.count('token')).toBe(before);
    });

    optional('ECDSA-P-256K', 'EC P-256K', async () => {
      const objectId = newId();
      const attributes = await at().token.create(objectId, at().label(newId(), 'private'), CURVE_P256K);
      // 04 41 04‖x‖y
      expect(attributes).toMatchObject({ type: 'ec', point: expect.objectContaining({ length: 67 }) });
      await at().engine.destroy([objectId]);
    }, async () => {
      const before = at().raw.count('token');
      const refused = await failureOf(at().token.create(newId(), at().label(newId(), 'private'), CURVE_P256K));
      expect(refused.code).toBe('unsupported-by-token');
      expect(at().raw.count('token')).toBe(before);
    });

    test('two keys of one kind are two keys', async () => {
      const [one, other] = [await at().generate(oct(256), ['mac']), await at().generate(oct(256), ['mac'])];
      expect(Buffer.from(one.objects[0]!.proof)).not.toEqual(Buffer.from(other.objects[0]!.proof));
      await at().engine.destroy([one, other].map(({ objects }) => objects[0]!.objectId));
    });
  });
}

function mechanisms(raw: RawToken, handle: ck.Handle): readonly number[] {
  const list = raw.attribute(handle, ck.CKA_ALLOWED_MECHANISMS);
  return Array.from({ length: list.length / 8 }, (_, index) => Number(list.readBigUInt64LE(index * 8))).sort((a, b) => a - b);
}
