/**
 * AES-GCM encryption, with an IV of the token's generator or one that the token makes itself and writes over the zeros it
 * was given (design §4, profile `gcm.iv`).
 *
 * The binding hands the module the memory of our IV buffer and copies nothing: with pkcs11js 2.1.7 an IV written during
 * C_EncryptInit was seen here, and so was one written only during C_Encrypt, 15,000 times each. The buffer is read after
 * the calls, so it lives through them. An IV that comes before or after the ciphertext is not read: tokens that leave
 * it there serve no AES-GCM (known-gcm.ts).
 */

import ck from 'pkcs11js';
import type { Handle } from './cryptoki.ts';
import { CryptokiError } from './cryptoki-error.ts';
import { nextIv } from './iv-source.ts';
import type { Results } from './job.ts';
import { GCM_IV_BYTES, GCM_TAG_BYTES, toCkMechanism } from './mechanism.ts';
import type { TokenSession } from './session.ts';

/** @throws CryptokiError also when the token said nothing of the IV it should have made */
export function encryptGcm(session: TokenSession, key: Handle, aad: Uint8Array, data: Uint8Array): Results['encryptGcm'] {
  const { cryptoki, handle, profile } = session;
  const iv = profile.gcm.iv === 'host' ? nextIv(session) : Buffer.allocUnsafeSlow(GCM_IV_BYTES).fill(0);
  const room = data.length + GCM_TAG_BYTES;
  const sealed = cryptoki.encrypt(handle, toCkMechanism({ name: 'aes-gcm', iv, aad }, profile), key, data, room);
  if (sealed.length !== room) throw new CryptokiError('C_Encrypt length', ck.CKR_DATA_LEN_RANGE);
  // Zeros are what was passed in. Either they were used, and would be for every message, or nobody knows what was.
  if (iv.every((byte) => byte === 0)) throw new CryptokiError('IV of C_Encrypt', ck.CKR_FUNCTION_FAILED);
  return { iv, sealed };
}
