/**
 * Mechanisms as plain data, so that they travel between threads, and their translation to CK_MECHANISM. A wrong
 * parameter type kills the process inside the binding, so nothing reaches it except through `toCkMechanism`.
 */

import ck from 'pkcs11js';
import { CryptokiError } from './cryptoki-error.ts';
import type { Profile } from './profile.ts';

export type Hash = 'sha1' | 'sha256' | 'sha384' | 'sha512';

export type Mechanism =
  | { readonly name: 'aes-gcm'; readonly iv: Uint8Array; readonly aad: Uint8Array }
  | { readonly name: 'aes-cbc'; readonly iv: Uint8Array }
  | { readonly name: 'aes-cbc-pad'; readonly iv: Uint8Array }
  | { readonly name: 'aes-kw' }
  | { readonly name: 'aes-kwp' }
  | { readonly name: 'rsa-pkcs' }
  /** Raw RSA: the result is as long as the modulus. */
  | { readonly name: 'rsa-raw' }
  | { readonly name: 'rsa-pss'; readonly hash: Hash }
  | { readonly name: 'rsa-oaep'; readonly hash: Hash }
  | { readonly name: 'ecdsa' }
  | { readonly name: 'hmac'; readonly hash: Hash };

/** Bytes of the GCM tag, appended to the ciphertext: 128 bits, always. */
export const GCM_TAG_BYTES = 16;
/** Bytes of the GCM IV: 96 bits, always (SP 800-38D §8.2.2). */
export const GCM_IV_BYTES = 12;

const HASHES: Readonly<Record<Hash, { digest: number; mgf: number; hmac: number; bytes: number }>> = {
  sha1: { digest: ck.CKM_SHA_1, mgf: ck.CKG_MGF1_SHA1, hmac: ck.CKM_SHA_1_HMAC, bytes: 20 },
  sha256: { digest: ck.CKM_SHA256, mgf: ck.CKG_MGF1_SHA256, hmac: ck.CKM_SHA256_HMAC, bytes: 32 },
  sha384: { digest: ck.CKM_SHA384, mgf: ck.CKG_MGF1_SHA384, hmac: ck.CKM_SHA384_HMAC, bytes: 48 },
  sha512: { digest: ck.CKM_SHA512, mgf: ck.CKG_MGF1_SHA512, hmac: ck.CKM_SHA512_HMAC, bytes: 64 },
};

export function hashBytes(hash: Hash): number {
  return HASHES[hash].bytes;
}

export function hmacMechanism(hash: Hash): number {
  return HASHES[hash].hmac;
}

/** The binding takes Buffers; messages between threads carry Uint8Arrays. Shares memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The binding passes an empty Buffer as NULL, which SoftHSM refuses; a zero-length view of real memory is accepted. */
export function nonNull(bytes: Uint8Array): Buffer {
  return bytes.length > 0 ? asBuffer(bytes) : Buffer.alloc(16).subarray(0, 0);
}

export function toCkMechanism(mechanism: Mechanism, profile: Profile): ck.Mechanism {
  switch (mechanism.name) {
    case 'aes-gcm':
      return { mechanism: profile.gcm.mechanism, parameter: gcmParameter(mechanism.iv, mechanism.aad) };
    case 'aes-cbc':
      return { mechanism: ck.CKM_AES_CBC, parameter: asBuffer(mechanism.iv) };
    case 'aes-cbc-pad':
      return { mechanism: ck.CKM_AES_CBC_PAD, parameter: asBuffer(mechanism.iv) };
    case 'aes-kw':
      return { mechanism: offered(profile.keyWrap.kw) };
    case 'aes-kwp':
      return { mechanism: offered(profile.keyWrap.kwp) };
    case 'rsa-pkcs':
      return { mechanism: ck.CKM_RSA_PKCS };
    case 'rsa-raw':
      return { mechanism: ck.CKM_RSA_X_509 };
    case 'rsa-pss':
      return { mechanism: ck.CKM_RSA_PKCS_PSS, parameter: pssParameter(mechanism.hash) };
    case 'rsa-oaep':
      return { mechanism: ck.CKM_RSA_PKCS_OAEP, parameter: oaepParameter(mechanism.hash) };
    case 'ecdsa':
      return { mechanism: ck.CKM_ECDSA };
    case 'hmac':
      return { mechanism: HASHES[mechanism.hash].hmac };
  }
}

/** A mechanism the profile does not have is refused as the token would. */
function offered(mechanism: number | null): number {
  if (mechanism === null) throw new CryptokiError('mechanism', ck.CKR_MECHANISM_INVALID);
  return mechanism;
}

/** The form of PKCS#11 2.40 with `ulIvBits`; strict modules refuse the older one. */
function gcmParameter(iv: Uint8Array, aad: Uint8Array): ck.AesGCM {
  const type = ck.CK_PARAMS_AES_GCM_v240;
  return { type, iv: asBuffer(iv), ivBits: iv.length * 8, aad: nonNull(aad), tagBits: GCM_TAG_BYTES * 8 };
}

/** Salt length = hash length and MGF1 with the same hash (RFC 7518 §3.5). */
function pssParameter(hash: Hash): ck.RsaPSS {
  const { digest, mgf, bytes } = HASHES[hash];
  return { type: ck.CK_PARAMS_RSA_PSS, hashAlg: digest, mgf, saltLen: bytes };
}

/** Empty label, MGF1 with the same hash (RFC 7518 §4.3). */
function oaepParameter(hash: Hash): ck.RsaOAEP {
  const { digest, mgf } = HASHES[hash];
  return { type: ck.CK_PARAMS_RSA_OAEP, hashAlg: digest, mgf, source: 1 };
}
