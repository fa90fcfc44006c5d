/**
 * OKMS ciphertexts and data keys: compact JWE with direct encryption (RFC 7516 §7.1, integrity §1). The encrypted-key
 * part is empty; the protected header names key and version.
 */

import { decodeBase64url } from '../../bytes.ts';
import type { Key, KeyVersion } from '../../keys/key.ts';
import { DATA_KEY_SUFFIX } from '../../keys/reserved-aad.ts';
import { type Bind, contentEncryption, type Open, type SealedUnder } from '../../keys/operations.ts';

/** What the token was made for decides the AAD, so that one kind never opens as the other. */
export type TokenKind = { readonly kind: 'ciphertext'; readonly context: string } | { readonly kind: 'data-key' };

/** Members in this order, without spaces: received headers are compared byte for byte. */
function protectedHeader(key: Key, ordinal: number): string {
  const header = { alg: 'dir', enc: contentEncryption(key.bits ?? 0), kid: key.id, 'x-key-ver': ordinal };
  return Buffer.from(JSON.stringify(header), 'utf8').toString('base64url');
}

/** `~` is outside both alphabets, so no context can imitate a data key. */
function aad(header: string, token: TokenKind): Buffer {
  if (token.kind === 'data-key') return Buffer.from(`${header}${DATA_KEY_SUFFIX}`, 'ascii');
  if (token.context === '') return Buffer.from(header, 'ascii');
  return Buffer.from(`${header}.${Buffer.from(token.context, 'utf8').toString('base64url')}`, 'ascii');
}

export function bind(token: TokenKind): Bind {
  return (key: Key, { ordinal }: KeyVersion) => aad(protectedHeader(key, ordinal), token);
}

export function packJwe({ key, version, iv, ciphertext, tag }: SealedUnder): string {
  const parts = [iv, ciphertext, tag].map((part) => Buffer.from(part).toString('base64url'));
  return [protectedHeader(key, version.ordinal), '', ...parts].join('.');
}

/**
 * Undefined for anything this key cannot have made: other header, other shape, other encoding. Who asks cannot tell
 * these from a wrong tag.
 */
export function open(text: string, token: TokenKind): Open {
  return (key) => {
    const [header = '', encryptedKey, ...rest] = text.split('.');
    const [iv, ciphertext, tag, ...more] = rest.map(decodeBase64url);
    if (encryptedKey !== '' || more.length > 0) return undefined;
    if (iv?.length !== 12 || ciphertext === undefined || tag?.length !== 16) return undefined;
    const ordinal = ordinalOf(header);
    if (ordinal === undefined || header !== protectedHeader(key, ordinal)) return undefined;
    return { ordinal, aad: aad(header, token), iv, ciphertext, tag };
  };
}

/** Only a hint for rebuilding the header; what it says is proved by the comparison. */
function ordinalOf(header: string): number | undefined {
  const match = /"x-key-ver":(\d{1,9})\}$/.exec(Buffer.from(header, 'base64url').toString('utf8'));
  return match === null ? undefined : Number(match[1]);
}
