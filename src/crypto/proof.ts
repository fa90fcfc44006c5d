/**
 * Proofs: what a token object answered when it was made, and the question that shows later that a handle still leads
 * to the same, undamaged object (design §4). Making one is also the object's self-test.
 */

import { constants, createHash, createPublicKey, publicEncrypt, randomBytes, timingSafeEqual } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { Family } from '../keys/key.ts';
import { GCM_IV_BYTES, type KeyRef, type Mechanism, type Token } from '../pkcs11/token.ts';
import { signatureAlgorithm, signatureBytes, signedBytes } from './algorithms.ts';
import { curveOf, toSpki, verifiesSha256 } from './public-key.ts';

/** One AES block; public. */
const BLOCK = Buffer.from('kms proof block.', 'latin1');
const AAD = Buffer.from('kms-proof', 'latin1');
const CBC: Mechanism = { name: 'aes-cbc', iv: new Uint8Array(16) };
const MAC: Mechanism = { name: 'hmac', hash: 'sha256' };
const WRAP: Mechanism = { name: 'aes-kw' };

/**
 * A key object's kind decides the question. RSA pairs that only decrypt prove themselves so; `import` is the RSA pair
 * that unwraps imports.
 */
export type ProofKind = Family | 'private-open' | 'public-seal' | 'import';

interface Prover {
  /** @returns the proof, after the object has passed its self-test */
  make(token: Token, ref: KeyRef, publicKey: Uint8Array | null): Promise<Uint8Array>;
  check(token: Token, ref: KeyRef, proof: Uint8Array): Promise<boolean>;
}

const gcm: Prover = {
  async make(token, ref) {
    const { iv, sealed } = await token.encryptGcm(ref, AAD, BLOCK);
    return Buffer.concat([iv, sealed]);
  },
  async check(token, ref, proof) {
    const iv = proof.slice(0, GCM_IV_BYTES);
    const block = await token.decrypt(ref, { name: 'aes-gcm', iv, aad: AAD }, proof.slice(GCM_IV_BYTES));
    return same(block, BLOCK);
  },
};

const cbc: Prover = {
  make: (token, ref) => token.encrypt(ref, CBC, BLOCK),
  check: async (token, ref, proof) => same(await token.decrypt(ref, CBC, proof), BLOCK),
};

const kw: Prover = {
  make: (token, ref) => token.wrapBytes(ref, WRAP, BLOCK),
  check: async (token, ref, proof) => same(await token.unwrapBytes(ref, WRAP, proof), BLOCK),
};

const mac: Prover = {
  make: (token, ref) => token.sign(ref, MAC, AAD, 32, 'fast'),
  check: async (token, ref, proof) => same(await token.sign(ref, MAC, AAD, 32, 'fast'), proof),
};

/** The proof is the public half; the question a fresh challenge, signed in the token and verified in software. */
const signing: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const challenge = randomBytes(32);
    return verifiesSha256(proof, challenge, await signChallenge(token, ref, proof, challenge));
  },
};

/** Signed by the private half of the same id, verified by the public object in the token. */
const verifying: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const challenge = randomBytes(32);
    const signature = await signChallenge(token, { ...ref, part: 'private' }, proof, challenge);
    const { mechanism, data } = challengeOperation(proof, challenge);
    return token.verify(ref, mechanism, data, signature);
  },
};

const OPEN: Mechanism = { name: 'rsa-oaep', hash: 'sha1' };

/** A fresh challenge, encrypted in software, opened in the token. */
const opening: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const challenge = randomBytes(32);
    const key = createPublicKey({ key: Buffer.from(proof), format: 'der', type: 'spki' });
    const sealed = publicEncrypt({ key, oaepHash: 'sha1', padding: constants.RSA_PKCS1_OAEP_PADDING }, challenge);
    return same(await token.decrypt(ref, OPEN, sealed), challenge);
  },
};

/** Sealed by the public object in the token, opened by the private half of the same id. */
const sealing: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const challenge = randomBytes(32);
    const sealed = await token.encrypt(ref, OPEN, challenge, modulusBytes(proof));
    return same(await token.decrypt({ ...ref, part: 'private' }, OPEN, sealed), challenge);
  },
};

/** The proof is the key: nothing in the token can answer for a public object without a private half. */
const standing: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const curve = curveOf(proof);
    return same(toSpki(await token.publicAttributes(ref, curve === null ? 'rsa' : 'ec'), curve), proof);
  },
};

const unwrapping: Prover = {
  make: (_token, _ref, publicKey) => Promise.resolve(required(publicKey)),
  async check(token, ref, proof) {
    const key = createPublicKey({ key: Buffer.from(proof), format: 'der', type: 'spki' });
    const oaepHash = token.profile.import.oaepHash;
    const wrapped = publicEncrypt({ key, oaepHash, padding: constants.RSA_PKCS1_OAEP_PADDING }, randomBytes(32));
    await token.unwrapThrowAway(ref, { name: 'rsa-oaep', hash: oaepHash }, wrapped);
    return true;
  },
};

const PROVERS: Readonly<Record<ProofKind, Prover>> = {
  gcm,
  dk: gcm,
  cbc,
  kw,
  mac,
  private: signing,
  'private-open': opening,
  public: verifying,
  'public-seal': sealing,
  'public-only': standing,
  import: unwrapping,
};

/**
 * @param publicKey SubjectPublicKeyInfo of a key pair, null for secret keys
 * @throws KmsError `integrity` when the new object does not pass
 */
export async function makeProof(
  token: Token,
  kind: ProofKind,
  ref: KeyRef,
  publicKey: Uint8Array | null,
): Promise<Uint8Array> {
  const proof = await PROVERS[kind].make(token, ref, publicKey);
  await checkProof(token, kind, ref, proof);
  return proof;
}

/** @throws KmsError `integrity` when the object behind the handle is not the one the proof was made with */
export async function checkProof(token: Token, kind: ProofKind, ref: KeyRef, proof: Uint8Array): Promise<void> {
  if (token.isProven(ref)) return;
  if (!(await answers(token, kind, ref, proof))) throw notTheSame();
  token.markProven(ref);
}

async function answers(token: Token, kind: ProofKind, ref: KeyRef, proof: Uint8Array): Promise<boolean> {
  try {
    return await PROVERS[kind].check(token, ref, proof);
  } catch (error) {
    // Our own proof does not open: that is damage, not a client's mistake.
    if (error instanceof KmsError && error.code === 'decryption-failed') throw notTheSame();
    throw error;
  }
}

function notTheSame(): KmsError {
  return new KmsError('integrity', 'the HSM object does not match its proof', { retryAfter: 30 });
}

function signChallenge(token: Token, ref: KeyRef, spki: Uint8Array, challenge: Uint8Array): Promise<Uint8Array> {
  const { mechanism, data, length } = challengeOperation(spki, challenge);
  return token.sign(ref, mechanism, data, length, 'slow');
}

/** RSA PKCS#1 v1.5 or ECDSA with SHA-256, whatever the curve. */
function challengeOperation(spki: Uint8Array, challenge: Uint8Array): {
  mechanism: Mechanism;
  data: Uint8Array;
  length: number;
} {
  const hashed = createHash('sha256').update(challenge).digest();
  const curve = curveOf(spki);
  if (curve !== null) return { mechanism: { name: 'ecdsa' }, data: hashed, length: signatureBytes({ bits: null, curve }) };
  const rs256 = signatureAlgorithm('RS256');
  if (rs256 === undefined) throw new KmsError('internal', 'RS256 is not in the table');
  return { mechanism: { name: 'rsa-pkcs' }, data: signedBytes(rs256, hashed), length: modulusBytes(spki) };
}

function modulusBytes(spki: Uint8Array): number {
  const { asymmetricKeyDetails } = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  return (asymmetricKeyDetails?.modulusLength ?? 0) / 8;
}

function required(publicKey: Uint8Array | null): Uint8Array {
  if (publicKey === null) throw new KmsError('internal', 'a key pair needs its public half');
  return publicKey;
}

function same(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}
