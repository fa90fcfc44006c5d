/**
 * The one table of algorithms: a row per JWA name (RFC 7518 §3.1, §5.1). Every door, the gate and the token layer read
 * it; nothing else lists algorithms.
 */

import { createHash } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { Curve, Family, Kind } from '../keys/key.ts';
import { type Cost, type Hash, hashBytes, type Mechanism } from '../pkcs11/token.ts';

/** What a vault must allow before an algorithm that is easily misused is served (security P-9, P-11, P-13). */
export type Switch = 'cbc' | 'rsa15' | 'rsnull';

export interface SignatureAlgorithm {
  readonly alg: string;
  readonly kind: Kind;
  /** The only curve it fits; null for RSA and oct. */
  readonly curve: Curve | null;
  /** Of RSNULL null: what the caller hands in is signed as it is. */
  readonly hash: Hash | null;
  readonly scheme: 'rsa-pkcs' | 'rsa-pss' | 'ecdsa' | 'hmac';
  readonly needs?: Switch;
}

/** How bytes are encrypted or wrapped. */
export interface EncryptionAlgorithm {
  readonly alg: string;
  readonly kind: 'oct' | 'RSA';
  /** Size of the only key it fits; null for any. */
  readonly bits: number | null;
  readonly mode: 'gcm' | 'cbc' | 'cbc-pad' | 'kw' | 'kwp' | 'rsa';
  /** Under which usages: AES-GCM and AES-CBC do not wrap, AES-KW does nothing else. */
  readonly under: 'encrypt' | 'wrapKey' | 'both';
  readonly needs?: Switch;
}

function aes(bits: 128 | 192 | 256): readonly EncryptionAlgorithm[] {
  const of = { kind: 'oct', bits } as const;
  return [
    { ...of, alg: `A${bits}GCM`, mode: 'gcm', under: 'encrypt' },
    { ...of, alg: `A${bits}CBC`, mode: 'cbc', under: 'encrypt', needs: 'cbc' },
    { ...of, alg: `A${bits}CBCPAD`, mode: 'cbc-pad', under: 'encrypt', needs: 'cbc' },
    { ...of, alg: `A${bits}KW`, mode: 'kw', under: 'wrapKey' },
  ];
}

const ENCRYPTIONS: ReadonlyMap<string, EncryptionAlgorithm> = new Map(
  ([
    { alg: 'RSA1_5', kind: 'RSA', bits: null, mode: 'rsa', under: 'both', needs: 'rsa15' },
    { alg: 'RSA-OAEP', kind: 'RSA', bits: null, mode: 'rsa', under: 'both' },
    { alg: 'RSA-OAEP-256', kind: 'RSA', bits: null, mode: 'rsa', under: 'both' },
    ...([128, 192, 256] as const).flatMap(aes),
    { alg: 'CKM_AES_KEY_WRAP', kind: 'oct', bits: null, mode: 'kw', under: 'wrapKey' },
    { alg: 'CKM_AES_KEY_WRAP_PAD', kind: 'oct', bits: null, mode: 'kwp', under: 'wrapKey' },
  ] as const satisfies readonly EncryptionAlgorithm[]).map((row): [string, EncryptionAlgorithm] => [row.alg, row]),
);

export function encryptionAlgorithm(alg: string): EncryptionAlgorithm | undefined {
  return ENCRYPTIONS.get(alg);
}

export const ENCRYPTION_NAMES: readonly string[] = [...ENCRYPTIONS.keys()];

/** The family whose object serves it. */
export function familyOfEncryption({ mode }: EncryptionAlgorithm, protects: boolean): Family {
  switch (mode) {
    case 'gcm': return 'gcm';
    case 'cbc':
    case 'cbc-pad': return 'cbc';
    case 'kw':
    case 'kwp': return 'kw';
    case 'rsa': return protects ? 'public' : 'private';
  }
}

function rsa(alg: string, hash: Hash, scheme: 'rsa-pkcs' | 'rsa-pss'): SignatureAlgorithm {
  return { alg, kind: 'RSA', curve: null, hash, scheme };
}

function ecdsa(alg: string, hash: Hash, curve: Curve): SignatureAlgorithm {
  return { alg, kind: 'EC', curve, hash, scheme: 'ecdsa' };
}

function hmac(alg: string, hash: Hash): SignatureAlgorithm {
  return { alg, kind: 'oct', curve: null, hash, scheme: 'hmac' };
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
    ecdsa('ES256K', 'sha256', 'P-256K'),
    { alg: 'RSNULL', kind: 'RSA', curve: null, hash: null, scheme: 'rsa-pkcs', needs: 'rsnull' } as const,
    hmac('HS256', 'sha256'),
    hmac('HS384', 'sha384'),
    hmac('HS512', 'sha512'),
  ].map((row): [string, SignatureAlgorithm] => [row.alg, row]),
);

export const SIGNATURE_NAMES: readonly string[] = [...SIGNATURES.keys()];

export function signatureAlgorithm(alg: string): SignatureAlgorithm | undefined {
  return SIGNATURES.get(alg);
}

export function digest(algorithm: SignatureAlgorithm, message: Uint8Array): Buffer {
  if (algorithm.hash === null) throw new KmsError('internal', `${algorithm.alg} has no digest`);
  return createHash(algorithm.hash).update(message).digest();
}

/** Null where the length is the caller's: RSNULL, and HMAC, which takes the message. */
export function digestBytes({ hash, scheme }: SignatureAlgorithm): number | null {
  return hash === null || scheme === 'hmac' ? null : hashBytes(hash);
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
  const { scheme, hash } = algorithm;
  const prefix = scheme === 'rsa-pkcs' && hash !== null ? Buffer.from(DIGEST_INFO[hash], 'hex') : Buffer.alloc(0);
  return Buffer.concat([prefix, hashed]);
}

/** The bytes the token signs for a message under this algorithm. */
export function signedBytesOf(alg: string, message: Uint8Array): Buffer {
  const algorithm = signatureAlgorithm(alg);
  if (algorithm === undefined) throw new KmsError('internal', `no signature algorithm ${alg}`);
  return signedBytes(algorithm, digest(algorithm, message));
}

export function signatureMechanism({ alg, scheme, hash }: SignatureAlgorithm): Mechanism {
  if (scheme === 'rsa-pkcs' || scheme === 'ecdsa') return { name: scheme };
  if (hash === null) throw new KmsError('internal', `${alg} has no hash`);
  return { name: scheme, hash };
}

/** Bytes of one coordinate, and so of r and of s (SEC 1 §2.3.5). */
const COORDINATE_BYTES: Readonly<Record<Curve, number>> = { 'P-256': 32, 'P-384': 48, 'P-521': 66, 'P-256K': 32 };

export function coordinateBytes(curve: Curve): number {
  return COORDINATE_BYTES[curve];
}

/** Bytes of a MAC. */
export function macBytes({ hash }: SignatureAlgorithm): number {
  return hash === null ? 0 : hashBytes(hash);
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
