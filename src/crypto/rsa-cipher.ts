/** RSA encryption and decryption in the token, and the way round for tokens whose OAEP does not know SHA-256 (design §4). */

import { constants, createPublicKey, publicEncrypt } from 'node:crypto';
import { decryptionFailed } from '../errors.ts';
import type { KeyRef, Mechanism, Token } from '../pkcs11/token.ts';
import { unpadOaepSha256 } from './oaep.ts';

/** As RFC 7518 §4.1 names them. */
export type RsaEncryption = 'RSA1_5' | 'RSA-OAEP' | 'RSA-OAEP-256';

const MECHANISMS: Readonly<Record<RsaEncryption, Mechanism>> = {
  RSA1_5: { name: 'rsa-pkcs' },
  'RSA-OAEP': { name: 'rsa-oaep', hash: 'sha1' },
  'RSA-OAEP-256': { name: 'rsa-oaep', hash: 'sha256' },
};

/** Bytes of padding at least: RFC 8017 §7.2.1 and §7.1.1 (two digests and two). */
const OVERHEAD: Readonly<Record<RsaEncryption, number>> = { RSA1_5: 11, 'RSA-OAEP': 42, 'RSA-OAEP-256': 66 };

/** Bytes of the longest plaintext. */
export function rsaPlaintextMax(algorithm: RsaEncryption, modulusBytes: number): number {
  return modulusBytes - OVERHEAD[algorithm];
}

function isNative(token: Token, algorithm: RsaEncryption): boolean {
  return algorithm !== 'RSA-OAEP-256' || token.profile.oaep.sha256 === 'native';
}

/**
 * With the public object; what the token's OAEP does not know is done with the public key outside, where it is no secret.
 * @param spki the public key, DER
 * @returns as long as the modulus
 */
export async function encryptRsa(
  token: Token,
  ref: KeyRef,
  algorithm: RsaEncryption,
  plaintext: Uint8Array,
  { spki, modulusBytes }: { readonly spki: Uint8Array; readonly modulusBytes: number },
): Promise<Uint8Array> {
  if (isNative(token, algorithm)) return token.encrypt(ref, MECHANISMS[algorithm], plaintext, modulusBytes);
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  return publicEncrypt({ key, oaepHash: 'sha256', padding: constants.RSA_PKCS1_OAEP_PADDING }, plaintext);
}

/** @throws KmsError `decryption-failed`, one and the same for every reason */
export async function decryptRsa(
  token: Token,
  ref: KeyRef,
  algorithm: RsaEncryption,
  ciphertext: Uint8Array,
): Promise<Uint8Array> {
  if (isNative(token, algorithm)) return token.decrypt(ref, MECHANISMS[algorithm], ciphertext);
  const block = await token.decrypt(ref, { name: 'rsa-raw' }, ciphertext);
  try {
    const message = unpadOaepSha256(block);
    if (message === undefined) throw decryptionFailed();
    return message;
  } finally {
    block.fill(0);
  }
}
