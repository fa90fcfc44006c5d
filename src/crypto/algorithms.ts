/**
 * The one table of algorithms: a row per JWA name (RFC 7518 §3.1, §5.1). Every door, the gate and the token layer read
 * it; nothing else lists algorithms.
 */

import { createHash } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { Curve, Kind } from '../keys/key.ts';
import { type Cost, type Hash, hashBytes, type Mechanism } from '../pkcs11/token.ts';

export interface SignatureAlgorithm {
  readonly alg: string;
  readonly kind: Kind;
  /** The only curve it fits; null for RSA. */
  readonly curve: Curve | null;
  readonly hash: Hash;
  readonly scheme: 'rsa-pkcs' | 'rsa-pss' | 'ecdsa';
}

function rsa(alg: string, hash: Hash, scheme: 'rsa-pkcs' | 'rsa-pss'): SignatureAlgorithm {
  return { alg, kind: 'RSA', curve: null, hash, scheme };
}

function ecdsa(alg: string, hash: Hash, curve: Curve): SignatureAlgorithm {
  return { alg, kind: 'EC', curve, hash, scheme: 'ecdsa' };
}

const SIGNATURES: ReadonlyMap<string, SignatureAlgorithm> = new Map(
  [
    rsa('RS256', 'sha256', 'rsa-pkcs'),
    rsa('RS384', 'sha384', 'rsa-pkcs'),
    rsa('RS512', 'sha512', 'rsa-pkcs'),
    rsa('PS256', 'sha256', 'rsa-pss'),
    rsa('PS384', 'sha384', 'rsa-pss'),
    rsa('PS512', 'sha512', 'rsa-pss'),
    ecdsa('ES256', 'sha256', 'P-256'),
    ecdsa('ES384', 'sha384', 'P-384'),
    ecdsa('ES512', 'sha512', 'P-521'),
  ].map((row) => [row.alg, row]),
);

export function signatureAlgorithm(alg: string): SignatureAlgorithm | undefined {
  return SIGNATURES.get(alg);
}

export function digest(algorithm: SignatureAlgorithm, message: Uint8Array): Buffer {
  return createHash(algorithm.hash).update(message).digest();
}

export function digestBytes(algorithm: SignatureAlgorithm): number {
  return hashBytes(algorithm.hash);
}

/** DigestInfo up to the digest, DER, as RFC 8017 §9.2 note 1 prints it. */
const DIGEST_INFO: Readonly<Record<Hash, string>> = {
  sha1: '3021300906052b0e03021a05000414',
  sha256: '3031300d060960864801650304020105000420',
  sha384: '3041300d060960864801650304020205000430',
  sha512: '3051300d060960864801650304020305000440',
};

/** What the token's mechanism signs for a digest: for RSA PKCS#1 v1.5 a DigestInfo, else the digest itself. */
export function signedBytes(algorithm: SignatureAlgorithm, hashed: Uint8Array): Buffer {
  const prefix = algorithm.scheme === 'rsa-pkcs' ? Buffer.from(DIGEST_INFO[algorithm.hash], 'hex') : Buffer.alloc(0);
  return Buffer.concat([prefix, hashed]);
}

/** The bytes the token signs for a message under this algorithm. */
export function signedBytesOf(alg: string, message: Uint8Array): Buffer {
  const algorithm = signatureAlgorithm(alg);
  if (algorithm === undefined) throw new KmsError('internal', `no signature algorithm ${alg}`);
  return signedBytes(algorithm, digest(algorithm, message));
}

export function signatureMechanism(algorithm: SignatureAlgorithm): Mechanism {
  return algorithm.scheme === 'rsa-pss' ? { name: 'rsa-pss', hash: algorithm.hash } : { name: algorithm.scheme };
}

/** Bytes of one coordinate, and so of r and of s (SEC 1 §2.3.5). */
const COORDINATE_BYTES: Readonly<Record<Curve, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66 };

export function coordinateBytes(curve: Curve): number {
  return COORDINATE_BYTES[curve];
}

/** Bytes of a raw signature: the modulus, or r‖s. */
export function signatureBytes(key: { readonly bits: number | null; readonly curve: Curve | null }): number {
  return key.curve === null ? (key.bits ?? 0) / 8 : 2 * COORDINATE_BYTES[key.curve];
}

/** Only P-256 is as quick as a symmetric operation. */
export function signatureCost(key: { readonly bits: number | null; readonly curve: Curve | null }): Cost {
  if (key.curve !== null) return key.curve === 'P-256' ? 'fast' : 'slow';
  return key.bits === 2048 ? 'slow' : 'heavy';
}

/** `enc` of the content encryption with a key of this size. */
const CONTENT_ENCRYPTION: ReadonlyMap<number, string> = new Map([
  [128, 'A128GCM'],
  [192, 'A192GCM'],
  [256, 'A256GCM'],
]);

export function contentEncryption(bits: number): string | undefined {
  return CONTENT_ENCRYPTION.get(bits);
}
