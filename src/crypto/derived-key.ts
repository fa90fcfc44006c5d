/**
 * Keys derived from the token's integrity key (integrity §2): the same in every process of the installation, held in
 * memory, never written. Code running inside a server process can use them; that limit is stated, not hidden.
 */

import type { InternalKey } from '../keys/key.ts';
import type { Token } from '../pkcs11/token.ts';
import { checkProof } from './proof.ts';

/** What a derived key may be used for; one key each. */
export type Purpose = 'seal' | 'journal' | 'tail' | 'page' | 'context' | 'anchor';

/** 4-byte big-endian length, then the bytes. */
function field(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/**
 * HMAC-SHA-256 in the token over `kms-kdf` 0x01, F(purpose), F(installation), 4-byte key epoch.
 * @returns 32 bytes
 */
export async function deriveKey(
  token: Token,
  integrity: InternalKey,
  installation: string,
  purpose: Purpose,
  epoch: number,
): Promise<Uint8Array> {
  const ref = { objectId: integrity.objectId, part: 'secret' as const };
  await checkProof(token, 'mac', ref, integrity.proof);
  const keyEpoch = Buffer.alloc(4);
  keyEpoch.writeUInt32BE(epoch);
  const input = Buffer.concat([Buffer.from('kms-kdf\u0001', 'latin1'), field(purpose), field(installation), keyEpoch]);
  return token.sign(ref, { name: 'hmac', hash: 'sha256' }, input, 32, 'fast');
}
