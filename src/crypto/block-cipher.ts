/** AES in modes other than GCM: the mechanism of an algorithm. Pure. */

import { KmsError } from '../errors.ts';
import type { Mechanism } from '../pkcs11/token.ts';
import type { EncryptionAlgorithm } from './algorithms.ts';

/** Whether it takes keys, not data: tokens offer it through other calls. */
export function isWrapping({ mode }: EncryptionAlgorithm): boolean {
  return mode === 'kw' || mode === 'kwp';
}

/** @param iv of AES-CBC, 16 bytes */
export function mechanismOf({ alg, mode }: EncryptionAlgorithm, iv: Uint8Array | null): Mechanism {
  if (mode === 'kw') return { name: 'aes-kw' };
  if (mode === 'kwp') return { name: 'aes-kwp' };
  if ((mode === 'cbc' || mode === 'cbc-pad') && iv?.length === 16) return { name: mode === 'cbc' ? 'aes-cbc' : 'aes-cbc-pad', iv };
  throw new KmsError('internal', `${alg} is not served here`);
}
