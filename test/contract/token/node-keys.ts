/** Private keys made by node:crypto, as PKCS#8 and SubjectPublicKeyInfo, with the awkward ones among them. */

import { createECDH, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject as NodeKey, randomBytes } from 'node:crypto';
import { rows, times } from '../../support/form.ts';

export interface ClearPair {
  readonly privateKey: NodeKey;
  readonly pkcs8: Buffer;
  readonly spki: Buffer;
}

export type CurveName = 'P-256' | 'P-384' | 'P-521' | 'P-256K';

/** OpenSSL's name, JWK's name, bytes of a coordinate. */
const CURVES: Readonly<Record<CurveName, readonly [string, string, number]>> = {
  'P-256': ['prime256v1', 'P-256', 32],
  'P-384': ['secp384r1', 'P-384', 48],
  'P-521': ['secp521r1', 'P-521', 66],
  'P-256K': ['secp256k1', 'secp256k1', 32],
};

function pairOf(privateKey: NodeKey): ClearPair {
  return {
    privateKey,
    pkcs8: privateKey.export({ format: 'der', type: 'pkcs8' }),
    spki: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
  };
}

export function rsaPair(): ClearPair {
  return pairOf(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
}

/** A random scalar that begins with this many zero bytes. */
function fromScalar(curve: CurveName, zeros: number): ClearPair {
  const [name, crv, size] = CURVES[curve];
  const scalar = randomBytes(size);
  // Below the order of every curve: of P-521 the first byte may hold one bit.
  scalar.fill(0, 0, Math.max(zeros, 1));
  const ecdh = createECDH(name);
  ecdh.setPrivateKey(scalar);
  const point = ecdh.getPublicKey();
  const [d, x, y] = [scalar, point.subarray(1, 1 + size), point.subarray(1 + size)].map((bytes) => bytes.toString('base64url'));
  return pairOf(createPrivateKey({ key: { kty: 'EC', crv, d: d!, x: x!, y: y! }, format: 'jwk' }));
}

export function ecPair(curve: CurveName): ClearPair {
  return pairOf(generateKeyPairSync('ec', { namedCurve: CURVES[curve][0] }).privateKey);
}

/** Random ones, scalars that begin with zero bytes, and one whose x begins with a zero byte. */
export function ecPairs(curve: CurveName): readonly ClearPair[] {
  const random = Array.from({ length: times(4, 12) }, () => ecPair(curve));
  const short = rows([1, 1, 2, 2, 3, 4, 8], 2).map((zeros) => fromScalar(curve, zeros));
  return [...random, ...short, shortCoordinate(curve)];
}

function shortCoordinate(curve: CurveName): ClearPair {
  const size = CURVES[curve][2];
  // The leading byte of P-521 is zero every other time, which random keys show.
  for (;;) {
    const ecdh = createECDH(CURVES[curve][0]);
    const point = ecdh.generateKeys();
    if (point[1] !== 0) continue;
    const bytes = Buffer.alloc(size);
    ecdh.getPrivateKey().copy(bytes, size - ecdh.getPrivateKey().length);
    const [d, x, y] = [bytes, point.subarray(1, 1 + size), point.subarray(1 + size)].map((part) => part.toString('base64url'));
    return pairOf(createPrivateKey({ key: { kty: 'EC', crv: CURVES[curve][1], d: d!, x: x!, y: y! }, format: 'jwk' }));
  }
}
