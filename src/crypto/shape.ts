/** From what a key is to what the token makes of it: purposes, generations, capabilities, proofs. Pure tables. */

import type { Curve, Family, KeyObject, Kind, Usage } from '../keys/key.ts';
import type { Generation, KeyRef, Purpose } from '../pkcs11/token.ts';
import type { EncryptionAlgorithm, SignatureAlgorithm } from './algorithms.ts';
import type { ProofKind } from './proof.ts';
import type { RsaEncryption } from './rsa-cipher.ts';
import type { Capability } from './trial-group.ts';

/** What a key is made of and for, without its state. */
export interface KeyShape {
  readonly kind: Kind;
  readonly bits: number | null;
  readonly curve: Curve | null;
  readonly usages: readonly Usage[];
}

/** What the object of this family is for, as the usages ask. */
export function purposeOf(family: Family, { kind, usages }: KeyShape): Purpose {
  if (kind === 'EC') return 'ec-sign';
  if (kind === 'oct') return family === 'cbc' || family === 'kw' || family === 'mac' ? family : 'gcm';
  const signs = usages.includes('sign') || usages.includes('verify');
  const opens = usages.some((usage) => usage !== 'sign' && usage !== 'verify');
  if (!opens) return 'rsa-sign';
  return signs ? 'rsa-sign-decrypt' : 'rsa-decrypt';
}

export function refOf({ family, objectId }: Pick<KeyObject, 'family' | 'objectId'>): KeyRef {
  return { objectId, part: partOf(family) };
}

/** Class of the token object that serves a family. */
export function partOf(family: Family): KeyRef['part'] {
  if (family === 'private') return 'private';
  return family === 'public' || family === 'public-only' ? 'public' : 'secret';
}

/** How the token makes the object of this family. */
export function generationOf(family: Family, shape: KeyShape): Generation {
  const purpose = purposeOf(family, shape);
  if (shape.kind === 'RSA') return { type: 'rsa', bits: shape.bits as 2048, purpose };
  if (shape.kind === 'EC') return { type: 'ec', curve: shape.curve ?? 'P-256', purpose };
  if (family === 'mac') return { type: 'secret', purpose };
  return { type: 'aes', bits: shape.bits as 128, purpose };
}

/** How the object of this family proves itself. */
export function proofKindOf(family: Family, shape: KeyShape): ProofKind {
  const opensOnly = shape.kind === 'RSA' && purposeOf(family, shape) === 'rsa-decrypt';
  if (family === 'private') return opensOnly ? 'private-open' : 'private';
  if (family === 'public') return opensOnly ? 'public-seal' : 'public';
  return family;
}

/** What the token must be able to do to serve a family. */
export function capabilityOf(family: Family, { kind, curve }: KeyShape): Capability {
  switch (family) {
    case 'gcm':
    case 'dk':
      return 'AES-GCM';
    case 'cbc':
      return 'AES-CBC';
    case 'kw':
      return 'AES-KW';
    case 'mac':
      return 'HMAC';
    case 'private':
    case 'public':
    case 'public-only':
      return kind === 'RSA' ? 'RSA-PKCS1' : `ECDSA-${curve ?? 'P-256'}`;
  }
}

export function capabilityOfEncryption({ alg, mode }: EncryptionAlgorithm): Capability {
  switch (mode) {
    case 'gcm': return 'AES-GCM';
    case 'cbc':
    case 'cbc-pad': return 'AES-CBC';
    case 'kw': return 'AES-KW';
    case 'kwp': return 'AES-KWP';
    case 'rsa': return alg as RsaEncryption;
  }
}

export function capabilityOfSignature({ scheme, curve }: SignatureAlgorithm): Capability {
  if (scheme === 'hmac') return 'HMAC';
  if (scheme === 'ecdsa') return `ECDSA-${curve ?? 'P-256'}`;
  return scheme === 'rsa-pss' ? 'RSA-PSS' : 'RSA-PKCS1';
}
