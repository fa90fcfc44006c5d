/**
 * Removing RSA-OAEP padding (RFC 8017 §7.1.2 step 3) from a block that the token decrypted raw: for tokens whose own
 * OAEP does not know SHA-256, in development only. The one primitive of our own (design §4).
 *
 * Constant time in the padding: no branch and no memory access depends on the block before the single verdict at the
 * end (Manger 2001). Empty label only.
 */

import { createHash } from 'node:crypto';

const HASH_BYTES = 32;
/** SHA-256 of the empty label. */
const LABEL_HASH = createHash('sha256').digest();

/** MGF1 with SHA-256 (RFC 8017 §B.2.1), xored into `target`. */
function unmask(target: Buffer, seed: Uint8Array): void {
  const counter = Buffer.alloc(4);
  for (let offset = 0; offset < target.length; offset += HASH_BYTES) {
    counter.writeUInt32BE(offset / HASH_BYTES);
    const mask = createHash('sha256').update(seed).update(counter).digest();
    const end = Math.min(HASH_BYTES, target.length - offset);
    for (let index = 0; index < end; index += 1) target[offset + index] = at(target, offset + index) ^ at(mask, index);
  }
}

function at(bytes: Uint8Array, index: number): number {
  return bytes[index] ?? 0;
}

/** 1 when `value` is 0, else 0; `value` is a byte. */
function isZero(value: number): number {
  return ((value - 1) >>> 8) & 1;
}

/**
 * @param block as long as the modulus
 * @returns the message, or undefined: one answer for every reason
 */
export function unpadOaepSha256(block: Uint8Array): Buffer | undefined {
  if (block.length < 2 * HASH_BYTES + 2) return undefined;
  const seed = Buffer.from(block.subarray(1, 1 + HASH_BYTES));
  const data = Buffer.from(block.subarray(1 + HASH_BYTES));
  unmask(seed, data);
  unmask(data, seed);
  let good = isZero(at(block, 0));
  for (let index = 0; index < HASH_BYTES; index += 1) good &= isZero(at(data, index) ^ at(LABEL_HASH, index));
  let start = 0;
  let searching = 1;
  for (let index = HASH_BYTES; index < data.length; index += 1) {
    const byte = at(data, index);
    const isOne = isZero(byte ^ 1);
    start |= index & -(searching & isOne);
    good &= (searching & isZero(byte)) | isOne | (searching ^ 1);
    searching &= isOne ^ 1;
  }
  good &= searching ^ 1;
  const message = good === 1 ? Buffer.from(data.subarray(start + 1)) : undefined;
  seed.fill(0);
  data.fill(0);
  return message;
}
