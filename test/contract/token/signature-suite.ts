/** Signatures of the token verified by node:crypto, and of node:crypto by the token. */

import { constants, createHash, createPublicKey, generateKeyPairSync, type KeyObject as NodeKey, randomBytes, sign, verify } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { GeneratedMaterial, KeyShape } from '../../../src/crypto/engine.ts';
import type { KeyRef, Mechanism } from '../../../src/pkcs11/token.ts';
import { publicHalf, signatureAlgorithm } from '../../support/built.ts';
import { times } from '../../support/form.ts';
import { ec, newId, objectOf, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf, flipped } from './expectations.ts';

const MESSAGE = Buffer.from('signed here, verified elsewhere', 'utf8');
const CURVES = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' } as const;
const NODE_CURVES = { 'P-256': 'prime256v1', 'P-384': 'secp384r1', 'P-521': 'secp521r1', 'P-256K': 'secp256k1' } as const;

const hashOf = (alg: string): string => present(present(signatureAlgorithm(alg)).hash);
const digest = (alg: string): Buffer => createHash(hashOf(alg)).update(MESSAGE).digest();

function options(alg: string): object {
  if (alg.startsWith('ES')) return { dsaEncoding: 'ieee-p1363' };
  return alg.startsWith('PS') ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST } : {};
}

function byNode(alg: string, spki: Uint8Array | null, signature: Uint8Array): boolean {
  const key = createPublicKey({ key: Buffer.from(present(spki)), format: 'der', type: 'spki' });
  return verify(hashOf(alg), MESSAGE, { key, ...options(alg) }, signature);
}

export function signatureSuite({ at, optional }: Contract): void {
  async function signs(shape: KeyShape, material: GeneratedMaterial, alg: string): Promise<Buffer> {
    const algorithm = present(signatureAlgorithm(alg));
    const signature = Buffer.from(await at().engine.sign(objectOf(material, 'private'), shape, algorithm, digest(alg)));
    expect(byNode(alg, material.publicKey, signature)).toBe(true);
    return signature;
  }

  async function verifies(shape: KeyShape, material: GeneratedMaterial, alg: string, signature: Uint8Array): Promise<boolean> {
    return at().engine.verify(objectOf(material, 'public'), shape, present(signatureAlgorithm(alg)), digest(alg), signature);
  }

  /** Good, and wrong in every way a caller can make it: false, never an error. */
  async function judges(shape: KeyShape, material: GeneratedMaterial, alg: string, signature: Buffer): Promise<void> {
    const { length } = signature;
    expect(await verifies(shape, material, alg, signature)).toBe(true);
    const wrong = [
      ...[0, length / 2, length - 1].map((index) => flipped(signature, index)),
      ...[Buffer.alloc(length), Buffer.alloc(length, 0xff), randomBytes(length)],
      ...[Buffer.alloc(0), signature.subarray(1), Buffer.concat([signature, Buffer.alloc(1)])],
    ];
    for (const one of wrong) expect(await verifies(shape, material, alg, one)).toBe(false);
    expect(await verifies(shape, material, alg, signature)).toBe(true);
  }

  describe('RSA signatures, 2048 bits', () => {
    const shape = rsa(2048, 'sign', 'verify');
    let material: GeneratedMaterial;
    beforeAll(async () => {
      material = await at().generate(shape, ['private', 'public']);
    });

    test.each(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'])('%s', async (alg) => {
      await judges(shape, material, alg, await signs(shape, material, alg));
    });

    test('a signature of one algorithm is none of another', async () => {
      const signature = await signs(shape, material, 'RS256');
      for (const alg of ['RS384', 'RS512', 'PS256']) expect(await verifies(shape, material, alg, signature)).toBe(false);
    });
  });

  test.each([[3072, 'RS384'], [4096, 'PS512']] as const)('RSA signature, %d bits, %s', async (bits, alg) => {
    const shape = rsa(bits, 'sign', 'verify');
    const material = await at().generate(shape, ['private', 'public']);
    await judges(shape, material, alg, await signs(shape, material, alg));
  });

  test.each(['P-256', 'P-384', 'P-521'] as const)('ECDSA, %s', async (curve) => {
    const material = await at().generate(ec(curve), ['private', 'public']);
    for (let n = 0; n < times(3, 10); n += 1) await signs(ec(curve), material, CURVES[curve]);
    await judges(ec(curve), material, CURVES[curve], await signs(ec(curve), material, CURVES[curve]));
  });

  optional('ECDSA-P-256K', 'ECDSA, P-256K', async () => {
    const objectId = newId();
    const generation = { type: 'ec', curve: 'P-256K', purpose: 'ec-sign' } as const;
    const attributes = present(await at().token.create(objectId, at().label(newId(), 'private'), generation));
    if (attributes.type !== 'ec') throw new Error('no EC key');
    const [x, y] = [Buffer.from(attributes.point.slice(-64, -32)), Buffer.from(attributes.point.slice(-32))];
    const key = createPublicKey({ key: { kty: 'EC', crv: 'secp256k1', x: x.toString('base64url'), y: y.toString('base64url') }, format: 'jwk' });
    const hashed = createHash('sha256').update(MESSAGE).digest();
    const signature = await at().token.sign({ objectId, part: 'private' }, { name: 'ecdsa' }, hashed, 64, 'slow');
    expect(verify('sha256', MESSAGE, { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
    expect(await at().token.verify({ objectId, part: 'public' }, { name: 'ecdsa' }, hashed, signature)).toBe(true);
    expect(await at().token.verify({ objectId, part: 'public' }, { name: 'ecdsa' }, hashed, flipped(signature, 9))).toBe(false);
    await at().engine.destroy([objectId]);
  }, () => {
    expect(at().profile.curves).not.toContain('P-256K');
  });

  describe('signatures of others under an imported public key', () => {
    async function importPublic(key: NodeKey, purpose: 'rsa-sign' | 'ec-sign'): Promise<KeyRef> {
      const objectId = newId();
      await at().token.importPublic(objectId, at().label(newId(), 'public'), purpose, publicHalf(key));
      return { objectId, part: 'public' };
    }

    /** What the token is handed for a message. */
    const SIGNED: Readonly<Record<'rsa' | 'ec', (hash: string) => { mechanism: Mechanism; data: Buffer; options: object }>> = {
      rsa: (hash) => ({
        mechanism: { name: 'rsa-pss', hash: hash as 'sha256' },
        data: createHash(hash).update(MESSAGE).digest(),
        options: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST },
      }),
      ec: (hash) => ({
        mechanism: { name: 'ecdsa' },
        data: createHash(hash).update(MESSAGE).digest(),
        options: { dsaEncoding: 'ieee-p1363' },
      }),
    };

    async function accepts(pair: { publicKey: NodeKey; privateKey: NodeKey }, kind: 'rsa' | 'ec', hash: string): Promise<void> {
      const before = at().raw.count('token');
      const ref = await importPublic(pair.publicKey, `${kind}-sign`);
      const { mechanism, data, options: how } = SIGNED[kind](hash);
      for (let n = 0; n < times(2, 5); n += 1) {
        const signature = sign(hash, MESSAGE, { key: pair.privateKey, ...how });
        expect(await at().token.verify(ref, mechanism, data, signature)).toBe(true);
        expect(await at().token.verify(ref, mechanism, data, flipped(signature, n))).toBe(false);
        expect(await at().token.verify(ref, mechanism, flipped(data, n), signature)).toBe(false);
      }
      await at().engine.destroy([ref.objectId]);
      expect(at().raw.count('token')).toBe(before);
    }

    test.each(['sha256', 'sha384', 'sha512'])('RSA 2048, PSS with %s', async (hash) => {
      await accepts(generateKeyPairSync('rsa', { modulusLength: 2048 }), 'rsa', hash);
    });

    test.each([['P-256', 'sha256'], ['P-384', 'sha384'], ['P-521', 'sha512']] as const)('EC %s', async (curve, hash) => {
      await accepts(generateKeyPairSync('ec', { namedCurve: NODE_CURVES[curve] }), 'ec', hash);
    });

    optional('ECDSA-P-256K', 'EC P-256K', async () => {
      await accepts(generateKeyPairSync('ec', { namedCurve: NODE_CURVES['P-256K'] }), 'ec', 'sha256');
    }, async () => {
      const before = at().raw.count('token');
      const { publicKey } = generateKeyPairSync('ec', { namedCurve: NODE_CURVES['P-256K'] });
      expect((await failureOf(importPublic(publicKey, 'ec-sign'))).code).toBe('unsupported-by-token');
      expect(at().raw.count('token')).toBe(before);
    });
  });
}
