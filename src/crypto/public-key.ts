/** Public halves: what the token stores → SubjectPublicKeyInfo → JWK. Software only, no secret anywhere. */

import { createHash, createPublicKey, type JsonWebKey, type KeyObject as NodeKey, verify } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { Curve, Kind } from '../keys/key.ts';
import type { PublicAttributes } from '../pkcs11/token.ts';
import { coordinateBytes } from './algorithms.ts';
import { curveNamed, opensslNames } from './curve-names.ts';

function fromSpki(spki: Uint8Array): NodeKey {
  return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
}

/**
 * @param curve of an EC key
 * @returns SubjectPublicKeyInfo, DER
 * @throws KmsError `integrity` when the token's attributes are no public key, or a point off the curve
 */
export function toSpki(attributes: PublicAttributes, curve: Curve | null): Buffer {
  try {
    return createPublicKey({ key: toJwk(attributes, curve), format: 'jwk' }).export({ format: 'der', type: 'spki' });
  } catch (cause) {
    throw new KmsError('integrity', 'the HSM returned no valid public key', { cause });
  }
}

function toJwk(attributes: PublicAttributes, curve: Curve | null): JsonWebKey {
  if (attributes.type === 'rsa') {
    return { kty: 'RSA', n: base64url(attributes.modulus), e: base64url(attributes.exponent) };
  }
  const size = coordinateBytes(curve ?? 'P-256');
  const point = uncompressedPoint(attributes.point, size);
  return {
    kty: 'EC',
    crv: opensslNames(curve ?? 'P-256').jwk,
    x: base64url(point.subarray(1, 1 + size)),
    y: base64url(point.subarray(1 + size)),
  };
}

/** Modules give CKA_EC_POINT raw or wrapped in a DER OCTET STRING; both end in 04‖x‖y. */
function uncompressedPoint(point: Uint8Array, size: number): Uint8Array {
  const raw = point.subarray(point.length - (1 + 2 * size));
  if (raw.length !== 1 + 2 * size || raw[0] !== 0x04) throw new Error('no uncompressed point');
  return raw;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}

/** Members of RFC 7517 without `kid`, `key_ops`, `alg` and `use`. Fixed-length coordinates. */
export interface PublicJwk {
  readonly kty: Kind;
  readonly n?: string;
  readonly e?: string;
  readonly crv?: Curve;
  readonly x?: string;
  readonly y?: string;
}

/** Null for a key that is not on a curve. */
export function curveOf(spki: Uint8Array): Curve | null {
  return publicJwk(spki).crv ?? null;
}

export function publicJwk(spki: Uint8Array): PublicJwk {
  const jwk = fromSpki(spki).export({ format: 'jwk' });
  const crv = curveNamed(jwk.crv);
  return { ...(jwk as PublicJwk), ...(crv !== undefined && { crv }) };
}

/** SHA-256 of the SubjectPublicKeyInfo, hex. */
export function fingerprint(spki: Uint8Array): string {
  return createHash('sha256').update(spki).digest('hex');
}

/** Whether `signature` (raw r‖s for EC, PKCS#1 v1.5 for RSA) over `message` with SHA-256 verifies under this key. */
export function verifiesSha256(spki: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  return verify('sha256', message, { key: fromSpki(spki), dsaEncoding: 'ieee-p1363' }, signature);
}

