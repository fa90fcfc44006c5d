/** One object of an imported key: which form its family needs, and the unwrapping into the token. */

import { createPublicKey } from 'node:crypto';
import { wipe } from '../bytes.ts';
import { KmsError } from '../errors.ts';
import type { InternalKey, KeyObject } from '../keys/key.ts';
import type { Token } from '../pkcs11/token.ts';
import { type ClearKey, publicHalf, wrapForImport } from './import-wrapping.ts';
import { checkProof } from './proof.ts';
import { type KeyShape, purposeOf } from './shape.ts';

export interface ImportedMaterial {
  readonly shape: KeyShape;
  /** Raw bytes of a secret key, PKCS#8 DER of a private key, null for a public key alone. */
  readonly material: Uint8Array | null;
  readonly publicKey: Uint8Array | null;
}

/** Bytes of an HMAC object: the value followed by zeros is the same HMAC (RFC 2104 §2). */
const MAC_BYTES = 64;

export async function importObject(
  token: Token,
  importKey: InternalKey,
  { family, objectId }: Pick<KeyObject, 'family' | 'objectId'>,
  label: string,
  { shape, material, publicKey }: ImportedMaterial,
): Promise<void> {
  const purpose = purposeOf(family, shape);
  if (material === null) {
    await token.importPublic(objectId, label, purpose, publicHalf(spkiKey(publicKey)));
    return;
  }
  const bytes = family === 'mac' ? padded(material) : material;
  try {
    const wrapped = wrapForImport(spki(importKey.publicKey), clearKey(family, shape, bytes, publicKey), token.profile);
    const pair = { objectId: importKey.objectId, part: 'private' } as const;
    await checkProof(token, 'import', pair, importKey.proof);
    await token.importKey(pair, objectId, label, wrapped);
  } finally {
    if (bytes !== material) wipe(bytes);
  }
}

function clearKey(family: KeyObject['family'], shape: KeyShape, bytes: Uint8Array, publicKey: Uint8Array | null): ClearKey {
  const purpose = purposeOf(family, shape);
  if (shape.kind === 'RSA') return { type: 'rsa', purpose, bytes, publicKey };
  if (shape.kind === 'EC') return { type: 'ec', purpose, bytes, publicKey };
  return { type: family === 'mac' ? 'secret' : 'aes', purpose, bytes, publicKey: null };
}

function padded(value: Uint8Array): Buffer {
  const bytes = Buffer.alloc(MAC_BYTES);
  bytes.set(value);
  return bytes;
}

function spki(publicKey: Uint8Array | null): Uint8Array {
  if (publicKey === null) throw new KmsError('internal', 'a public key is missing');
  return publicKey;
}

function spkiKey(publicKey: Uint8Array | null): ReturnType<typeof createPublicKey> {
  return createPublicKey({ key: Buffer.from(spki(publicKey)), format: 'der', type: 'spki' });
}
