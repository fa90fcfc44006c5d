/** Keys that are written otherwise than as JWK: bare bytes, or DER → material to be unwrapped into the token. */

import { createPrivateKey, type KeyObject } from 'node:crypto';
import { invalidField } from '../errors.ts';
import { type ClearMaterial, readJwk } from './jwk.ts';

/** How a private or secret key can be written besides as JWK: its bytes, or DER (RFC 8017 §A.1.2, RFC 5208). */
export type BareFormat = 'RAW' | 'PKCS1' | 'PKCS8';

const SECRET_BYTES: ReadonlySet<number> = new Set([16, 24, 32]);

/**
 * @param field names the bytes in errors
 * @throws KmsError `invalid-field`
 */
export function readBare(format: BareFormat, bytes: Uint8Array, field: string): Promise<ClearMaterial> {
  return format === 'RAW' ? Promise.resolve(readSecret(bytes, field)) : readDer(format, bytes, field);
}

function readSecret(bytes: Uint8Array, field: string): ClearMaterial {
  if (!SECRET_BYTES.has(bytes.length)) throw invalidField(field, 'expected a key of 16, 24 or 32 bytes');
  return { kind: 'oct', bits: 8 * bytes.length, curve: null, material: Buffer.from(bytes), publicKey: null };
}

async function readDer(format: 'PKCS1' | 'PKCS8', bytes: Uint8Array, field: string): Promise<ClearMaterial> {
  const jwk = parse(format, bytes, field).export({ format: 'jwk' });
  if (jwk.kty !== 'RSA' && jwk.kty !== 'EC') throw invalidField(field, 'expected an RSA or EC key');
  // Its members are checked against each other as those of a JWK are.
  return readJwk(jwk.kty, jwk, (member) => `${field}, ${member}`);
}

function parse(format: 'PKCS1' | 'PKCS8', bytes: Uint8Array, field: string): KeyObject {
  try {
    return createPrivateKey({ key: Buffer.from(bytes), format: 'der', type: format === 'PKCS1' ? 'pkcs1' : 'pkcs8' });
  } catch {
    throw invalidField(field, `expected a private key in ${format === 'PKCS1' ? 'PKCS #1' : 'PKCS #8'} form, DER`);
  }
}
