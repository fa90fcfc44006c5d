/**
 * The keys the service itself needs (design §4): made only by `kms init`, in a label space of their own, recorded with
 * a proof in the installation row. No door can name them.
 */

import { createHash } from 'node:crypto';
import { randomHex } from '../bytes.ts';
import { KmsError } from '../errors.ts';
import type { Installation, InternalKey, InternalKeyName } from '../keys/key.ts';
import { type Canary, CANARY_QUESTION, type Generation, type KeyRef, type Token } from '../pkcs11/token.ts';
import { checkProof, makeProof, type ProofKind } from './proof.ts';
import { toSpki, verifiesSha256 } from './public-key.ts';

interface Recipe {
  readonly family: string;
  readonly generation: Generation;
  readonly proof: ProofKind;
}

const SECRET: Recipe = { family: 'mac', generation: { type: 'secret', purpose: 'mac-sha256' }, proof: 'mac' };
const SIGNING: Recipe = {
  family: 'private',
  generation: { type: 'ec', curve: 'P-256', purpose: 'ec-sign' },
  proof: 'private',
};

const RECIPES: Readonly<Record<InternalKeyName, Recipe>> = {
  canary: SECRET,
  integrity: SECRET,
  audit: SIGNING,
  // It can only unwrap, so nothing wrapped to it can ever become anything but a token object.
  import: { family: 'private', generation: { type: 'rsa', bits: 3072, purpose: 'rsa-unwrap' }, proof: 'import' },
  'access-ca': SIGNING,
  'server-ca': SIGNING,
  'token-issuer': SIGNING,
};

/** @param labelPrefix of internal keys, ending in a colon */
export async function makeInternalKey(token: Token, labelPrefix: string, name: InternalKeyName): Promise<InternalKey> {
  const { family, generation, proof } = RECIPES[name];
  const objectId = randomHex(16);
  const attributes = await token.create(objectId, `${labelPrefix}${name}:${family}`, generation);
  const publicKey = attributes === null ? null : toSpki(attributes, generation.type === 'ec' ? 'P-256' : null);
  const ref: KeyRef = { objectId, part: publicKey === null ? 'secret' : 'private' };
  // The canary is asked its own question by every token thread, each second.
  const made = name === 'canary' ? await canaryAnswer(token, ref) : await makeProof(token, proof, ref, publicKey);
  return { name, objectId, proof: made, publicKey };
}

function canaryAnswer(token: Token, ref: KeyRef): Promise<Uint8Array> {
  return token.sign(ref, { name: 'hmac', hash: 'sha256' }, CANARY_QUESTION, 32, 'fast');
}

/**
 * ECDSA with SHA-256 in the token; raw r‖s. The key proves itself before its first use, and each signature is verified in
 * software: a certificate or checkpoint outlives the moment in which a token fails.
 * @throws KmsError `integrity` for a signature that does not hold
 */
export async function signWithInternalKey(token: Token, key: InternalKey, bytes: Uint8Array): Promise<Uint8Array> {
  const ref: KeyRef = { objectId: key.objectId, part: 'private' };
  await checkProof(token, 'private', ref, key.proof);
  const signature = await token.sign(ref, { name: 'ecdsa' }, createHash('sha256').update(bytes).digest(), 64, 'fast');
  if (verifiesSha256(key.proof, bytes, signature)) return signature;
  throw new KmsError('integrity', `the HSM signed wrongly with the internal key ${key.name}`, { retryAfter: 5 });
}

export function internalKey(installation: Installation, name: InternalKeyName): InternalKey {
  const key = installation.internalKeys.find((candidate) => candidate.name === name);
  if (key === undefined) throw new KmsError('internal', `the installation has no internal key ${name}`);
  return key;
}

/** What each token thread asks, and the answer it must get. */
export function canaryOf(installation: Installation): Canary {
  const { objectId, proof } = internalKey(installation, 'canary');
  return { objectId, mac: proof };
}
