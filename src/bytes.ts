/** Strict decoding of the two base64 alphabets, and wiping. Nothing here knows a wire or a key. */

import { randomBytes } from 'node:crypto';

/**
 * Standard base64 with padding (RFC 4648 §4), canonical only: white space, the URL alphabet, missing padding and
 * non-zero trailing bits are refused.
 *
 * @returns the bytes, or undefined when `text` is not the canonical encoding of anything
 */
export function decodeBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : undefined;
}

/** base64url without padding (RFC 7515 §2), canonical only. */
export function decodeBase64url(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
}

/** base64url or base64, with or without padding, as clients of Key Vault send it; no white space and no stray bits. */
export function decodeAnyBase64(text: string): Buffer | undefined {
  return decodeBase64url(text.replace(/={1,2}$/, '').replaceAll('+', '-').replaceAll('/', '_'));
}

/** Overwrites buffers that held a secret. Strings cannot be wiped: decode secrets straight into buffers. */
export function wipe(...buffers: readonly (Uint8Array | undefined)[]): void {
  for (const buffer of buffers) buffer?.fill(0);
}

/** A copy with memory of its own, outside the shared pool, so that it can be wiped and moved to another thread. */
export function ownCopy(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}

/** Random lower-case hex from the operating system: identifiers of ours, never key material. */
export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}
