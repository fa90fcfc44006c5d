/**
 * JWKs that are imported (RFC 7517, RFC 7518 §6): members → bytes, every member checked against the others, because a
 * token takes what fits its template and notices damage only when a signature is wrong. Clients that carry integers
 * lose leading zeros, so lengths are made good here (okms-rest-api §2.3).
 */

import { createPrivateKey, createPublicKey, type JsonWebKey } from 'node:crypto';
import { decodeBase64url, wipe } from '../bytes.ts';
import { invalidField } from '../errors.ts';
import type { Curve, Kind } from '../keys/key.ts';
import { readEcMembers, readEcPoint } from './jwk-ec.ts';
import { readRsaMembers, readRsaPublic } from './jwk-rsa.ts';

/** Members of the wire; all texts. */
export type JwkMembers = Readonly<Partial<Record<'k' | 'n' | 'e' | 'd' | 'p' | 'q' | 'dp' | 'dq' | 'qi' | 'crv' | 'x' | 'y', string>>>;

export interface ClearMaterial {
  readonly kind: Kind;
  readonly bits: number | null;
  readonly curve: Curve | null;
  /** Raw bytes of a secret key, PKCS#8 DER of a private key, null for a public key alone. To be wiped. */
  readonly material: Buffer | null;
  /** SubjectPublicKeyInfo, DER; null for a secret key. */
  readonly publicKey: Buffer | null;
}

/** Names a member in errors. */
export type Field = (member: string) => string;

const OCT_BYTES = [16, 24, 32];
/** Leading zeros that a client may have lost; more is another length. */
const LOST_MAX = 2;

const PRIVATE_MEMBERS = ['p', 'q', 'dp', 'dq', 'qi'] as const;

/** A public key alone: none of the private members is there. @throws KmsError `invalid-field` when only `d` is missing */
export function isPublicJwk(kind: Kind, jwk: JwkMembers, field: Field): boolean {
  if (kind === 'oct' || jwk.d !== undefined) return false;
  const stray = PRIVATE_MEMBERS.find((member) => jwk[member] !== undefined);
  if (stray !== undefined) throw invalidField(field('d'), `required beside ${stray}`);
  return true;
}

/** @throws KmsError `invalid-field` naming the member at fault, never its value */
export async function readJwk(kind: Kind, jwk: JwkMembers, field: Field): Promise<ClearMaterial> {
  if (kind === 'oct') return readOct(jwk, field);
  if (isPublicJwk(kind, jwk, field)) return readPublic(kind, jwk, field);
  return kind === 'RSA' ? await readRsa(jwk, field) : readEc(jwk, field);
}

function readOct({ k }: JwkMembers, field: Field): ClearMaterial {
  const given = decode(k, 'k', field);
  const bytes = OCT_BYTES.find((length) => given.length <= length && length - given.length <= LOST_MAX);
  if (bytes === undefined) {
    wipe(given);
    throw invalidField(field('k'), 'expected 16, 24 or 32 bytes');
  }
  const material = padded(given, bytes);
  return { kind: 'oct', bits: 8 * bytes, curve: null, material, publicKey: null };
}

async function readRsa(jwk: JwkMembers, field: Field): Promise<ClearMaterial> {
  const { bits, members } = await readRsaMembers(jwk, field);
  return { kind: 'RSA', bits, curve: null, ...exported({ kty: 'RSA', ...members }, field) };
}

function readEc(jwk: JwkMembers, field: Field): ClearMaterial {
  const { curve, members } = readEcMembers(jwk, field);
  return { kind: 'EC', bits: null, curve, ...exported({ kty: 'EC', ...members }, field) };
}

function readPublic(kind: Kind, jwk: JwkMembers, field: Field): ClearMaterial {
  if (kind === 'RSA') {
    const { bits, open } = readRsaPublic(jwk, field);
    return { kind, bits, curve: null, material: null, publicKey: spkiOf({ kty: 'RSA', ...open }, field('n')) };
  }
  const { curve, members } = readEcPoint(jwk, field);
  return { kind, bits: null, curve, material: null, publicKey: spkiOf({ kty: 'EC', ...members }, field('x')) };
}

/** OpenSSL refuses points that are not on their curve. */
function spkiOf(jwk: JsonWebKey, field: string): Buffer {
  try {
    return createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'der', type: 'spki' });
  } catch {
    throw invalidField(field, 'expected a public key: the members do not fit');
  }
}

function exported(jwk: JsonWebKey, field: Field): Pick<ClearMaterial, 'material' | 'publicKey'> {
  try {
    const privateKey = createPrivateKey({ key: jwk, format: 'jwk' });
    return {
      material: privateKey.export({ format: 'der', type: 'pkcs8' }),
      publicKey: createPublicKey(privateKey).export({ format: 'der', type: 'spki' }),
    };
  } catch {
    throw invalidField(field('d'), 'expected a private key');
  }
}

/** Canonical base64url without padding. @throws KmsError `invalid-field` */
export function decode(text: string | undefined, member: string, field: Field): Buffer {
  if (text === undefined) throw invalidField(field(member), 'required for this type of key');
  const bytes = decodeBase64url(text);
  if (bytes === undefined || bytes.length === 0) throw invalidField(field(member), 'expected base64url without padding');
  return bytes;
}

/** On the left, to this length; the shorter buffer is wiped. @throws KmsError when it is longer */
export function paddedTo(bytes: Buffer, length: number, member: string, field: Field): Buffer {
  if (bytes.length <= length) return padded(bytes, length);
  wipe(bytes);
  throw invalidField(field(member), `expected at most ${length} bytes`);
}

function padded(bytes: Buffer, length: number): Buffer {
  if (bytes.length === length) return bytes;
  const whole = Buffer.alloc(length);
  whole.set(bytes, length - bytes.length);
  wipe(bytes);
  return whole;
}

