/**
 * The software half of import by unwrapping (pkcs11-lab §3.1): a one-time key-encryption key goes to the token's import
 * pair with RSA-OAEP, the key goes under it with RFC 5649. What was in the clear is overwritten before this returns.
 */

import { constants, createCipheriv, createPublicKey, type KeyObject as NodeKey, publicEncrypt, randomBytes } from 'node:crypto';
import { wipe } from '../bytes.ts';
import { KmsError } from '../errors.ts';
import { curveNamed } from './curve-names.ts';
import type { Profile, PublicHalf, Purpose, WrappedKey } from '../pkcs11/token.ts';

/** Alternative initial value of RFC 5649 §3, which Node wants spelled out. */
const KWP_IV = Buffer.from('a65959a6', 'hex');

export interface ClearKey {
  readonly type: WrappedKey['type'];
  readonly purpose: Purpose;
  /** Raw bytes, or PKCS#8 DER of a private key. The caller wipes them. */
  readonly bytes: Uint8Array;
  /** SubjectPublicKeyInfo of a private key. */
  readonly publicKey: Uint8Array | null;
}

/** @param importKey SubjectPublicKeyInfo of the import pair */
export function wrapForImport(importKey: Uint8Array, key: ClearKey, profile: Profile): WrappedKey {
  const kek = randomBytes(32);
  try {
    return {
      type: key.type,
      purpose: key.purpose,
      half: key.publicKey === null ? null : publicHalf(fromSpki(key.publicKey)),
      kek: own(publicEncrypt(oaep(importKey, profile.import.oaepHash), kek)),
      blob: own(wrapPadded(kek, key.bytes)),
    };
  } finally {
    wipe(kek);
  }
}

function oaep(importKey: Uint8Array, oaepHash: string): Parameters<typeof publicEncrypt>[0] {
  return { key: fromSpki(importKey), oaepHash, padding: constants.RSA_PKCS1_OAEP_PADDING };
}

function wrapPadded(kek: Uint8Array, bytes: Uint8Array): Buffer {
  const cipher = createCipheriv('id-aes256-wrap-pad', kek, KWP_IV);
  return Buffer.concat([cipher.update(bytes), cipher.final()]);
}

/** Out of the shared pool: messages between threads carry the whole backing store of a view. */
function own(bytes: Buffer): Buffer {
  return Buffer.from(new Uint8Array(bytes).buffer);
}

function fromSpki(spki: Uint8Array): NodeKey {
  return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
}

/** What a module needs to make the public object. @throws KmsError `unsupported-by-token` for another kind of key */
export function publicHalf(key: NodeKey): PublicHalf {
  const jwk = key.export({ format: 'jwk' });
  const bytes = (member: unknown): Buffer => own(Buffer.from(String(member), 'base64url'));
  if (jwk.kty === 'RSA') return { type: 'rsa', modulus: bytes(jwk.n), exponent: bytes(jwk.e) };
  const curve = curveNamed(jwk.crv);
  if (curve === undefined) throw new KmsError('unsupported-by-token', 'not supported by this HSM');
  return { type: 'ec', curve, point: own(Buffer.concat([Buffer.from([0x04]), bytes(jwk.x), bytes(jwk.y)])) };
}
