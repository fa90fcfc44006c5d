/** RSA decryption in the token, and the way round for tokens whose OAEP does not know SHA-256 (design §4). */

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

/** @throws KmsError `decryption-failed`, one and the same for every reason */
export async function decryptRsa(
  token: Token,
  ref: KeyRef,
  algorithm: RsaEncryption,
  ciphertext: Uint8Array,
): Promise<Uint8Array> {
  if (algorithm !== 'RSA-OAEP-256' || token.profile.oaep.sha256 === 'native') {
    return token.decrypt(ref, MECHANISMS[algorithm], ciphertext);
  }
  const block = await token.decrypt(ref, { name: 'rsa-raw' }, ciphertext);
  try {
    const message = unpadOaepSha256(block);
    if (message === undefined) throw decryptionFailed();
    return message;
  } finally {
    block.fill(0);
  }
}
