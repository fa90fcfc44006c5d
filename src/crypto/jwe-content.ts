/** The content of a JWE of somebody else (RFC 7516 §5.2): AES-GCM in software, because tokens cannot unwrap it. */

import { createDecipheriv, randomBytes } from 'node:crypto';
import { wipe } from '../bytes.ts';

/** `enc` → bytes of the content-encryption key (RFC 7518 §5.3). */
const CONTENT_KEY_BYTES = { A128GCM: 16, A192GCM: 24, A256GCM: 32 } as const;

export type ContentEncryption = keyof typeof CONTENT_KEY_BYTES;

export const CONTENT_ENCRYPTIONS = Object.keys(CONTENT_KEY_BYTES) as readonly ContentEncryption[];

export interface EncryptedContent {
  readonly enc: ContentEncryption;
  /** The encoded protected header, ASCII. */
  readonly aad: Uint8Array;
  /** 12 bytes. */
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

/**
 * @param key undefined, or of another length, when the encrypted key was not one: then a random key takes its place, so
 * that nobody learns which step failed (RFC 7516 §11.5)
 * @returns undefined when it does not open. The caller wipes the result.
 */
export function openContent(key: Uint8Array | undefined, { enc, aad, iv, ciphertext, tag }: EncryptedContent): Buffer | undefined {
  const bytes = CONTENT_KEY_BYTES[enc];
  const usable = key?.length === bytes ? key : randomBytes(bytes);
  const decipher = createDecipheriv(`aes-${bytes * 8}-gcm` as 'aes-256-gcm', usable, iv, { authTagLength: 16 });
  decipher.setAAD(aad).setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
    return plaintext;
  } catch {
    wipe(plaintext);
    return undefined;
  }
}
