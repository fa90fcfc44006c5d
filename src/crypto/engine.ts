/**
 * The cryptographic engine: generates, uses and destroys key material in the token. Every object proves itself before
 * its first use. Knows key versions and objects; knows no principal, no state and no wire.
 */

import { randomHex } from '../bytes.ts';
import type { Curve, Family, KeyObject, Kind } from '../keys/key.ts';
import { GCM_TAG_BYTES, type Generation, type KeyRef, labelPrefixes, type Token } from '../pkcs11/token.ts';
import {
  type SignatureAlgorithm,
  signatureBytes,
  signatureCost,
  signatureMechanism,
  signedBytes,
} from './algorithms.ts';
import { checkProof, makeProof } from './proof.ts';
import { toSpki } from './public-key.ts';

export { type PublicJwk, publicJwk } from './public-key.ts';

/** What a key is made of, without its state. */
export interface KeyShape {
  readonly kind: Kind;
  readonly bits: number | null;
  readonly curve: Curve | null;
}

/** An object still to be made: its CKA_ID is recorded before the token is touched. */
export interface PlannedObject {
  readonly family: Family;
  readonly objectId: string;
}

export interface GeneratedMaterial {
  readonly publicKey: Uint8Array | null;
  readonly objects: readonly KeyObject[];
}

export interface Sealed {
  /** 12 bytes. */
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

function refOf({ family, objectId }: PlannedObject): KeyRef {
  return { objectId, part: family === 'private' || family === 'public' ? family : 'secret' };
}

/** Fresh CKA_IDs for these families; the halves of a pair share one, as PKCS#11 §4.4 intends. */
export function planObjects(families: readonly Family[]): readonly PlannedObject[] {
  const pairId = randomHex(16);
  const isHalf = (family: Family): boolean => family === 'private' || family === 'public';
  return families.map((family) => ({ family, objectId: isHalf(family) ? pairId : randomHex(16) }));
}

function generationOf(family: Family, shape: KeyShape): Generation {
  if (shape.kind === 'RSA') return { type: 'rsa', bits: shape.bits as 2048, purpose: 'rsa-sign' };
  if (shape.kind === 'EC') return { type: 'ec', curve: shape.curve ?? 'P-256', purpose: 'ec-sign' };
  if (family === 'mac') return { type: 'secret', purpose: 'mac' };
  const purpose = family === 'cbc' || family === 'kw' ? family : 'gcm';
  return { type: 'aes', bits: shape.bits as 128, purpose };
}

export class CryptoEngine {
  readonly #token: Token;
  readonly #labelPrefix: string;
  readonly #proving = new Map<string, Promise<void>>();

  constructor(token: Token, installation: string) {
    this.#token = token;
    this.#labelPrefix = labelPrefixes(installation).keys;
  }

  /**
   * Makes the objects of one key version, each with its self-test and proof.
   * The caller destroys `planned` when this fails; what the failed call itself left is destroyed here.
   */
  async generate(shape: KeyShape, versionId: string, planned: readonly PlannedObject[]): Promise<GeneratedMaterial> {
    let publicKey: Uint8Array | null = null;
    for (const object of planned.filter(({ family }) => family !== 'public')) {
      const label = `${this.#labelPrefix}${versionId}:${object.family}`;
      const attributes = await this.#token.create(object.objectId, label, generationOf(object.family, shape));
      if (attributes !== null) publicKey = toSpki(attributes, shape.curve);
    }
    const objects: KeyObject[] = [];
    for (const object of planned) {
      objects.push({ ...object, proof: await makeProof(this.#token, object.family, refOf(object), publicKey) });
    }
    return { publicKey, objects };
  }

  /** Final: there is no way back. Repeating it is harmless. */
  destroy(objectIds: readonly string[]): Promise<void> {
    return this.#token.destroy(objectIds);
  }

  async encryptGcm(object: KeyObject, aad: Uint8Array, plaintext: Uint8Array): Promise<Sealed> {
    await this.#prove(object);
    const { iv, sealed } = await this.#token.encryptGcm(refOf(object), aad, plaintext);
    const end = sealed.length - GCM_TAG_BYTES;
    return { iv, ciphertext: sealed.subarray(0, end), tag: sealed.subarray(end) };
  }

  /** @throws KmsError `decryption-failed` for wrong key, IV, AAD, ciphertext or tag alike */
  async decryptGcm(object: KeyObject, aad: Uint8Array, { iv, ciphertext, tag }: Sealed): Promise<Uint8Array> {
    await this.#prove(object);
    return this.#token.decrypt(refOf(object), { name: 'aes-gcm', iv, aad }, Buffer.concat([ciphertext, tag]));
  }

  /** @returns raw signature: PKCS#1 v1.5 or PSS of modulus length, or r‖s of fixed width */
  async sign(object: KeyObject, shape: KeyShape, algorithm: SignatureAlgorithm, digest: Uint8Array): Promise<Uint8Array> {
    await this.#prove(object);
    return this.#token.sign(
      refOf(object),
      signatureMechanism(algorithm),
      signedBytes(algorithm, digest),
      signatureBytes(shape),
      signatureCost(shape),
    );
  }

  /** A signature of the wrong length is false, not an error. */
  async verify(
    object: KeyObject,
    shape: KeyShape,
    algorithm: SignatureAlgorithm,
    digest: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean> {
    if (signature.length !== signatureBytes(shape)) return false;
    await this.#prove(object);
    return this.#token.verify(refOf(object), signatureMechanism(algorithm), signedBytes(algorithm, digest), signature);
  }

  /** Bytes of the token's generator. */
  random(bytes: number): Promise<Uint8Array> {
    return this.#token.random(bytes);
  }

  /** Once per object and epoch; callers of the same turn share the question. */
  async #prove(object: KeyObject): Promise<void> {
    const ref = refOf(object);
    if (this.#token.isProven(ref)) return;
    const key = `${ref.part}:${ref.objectId}`;
    const running = this.#proving.get(key) ?? this.#startProof(key, object);
    await running;
  }

  #startProof(key: string, object: KeyObject): Promise<void> {
    const proof = checkProof(this.#token, object.family, refOf(object), object.proof);
    this.#proving.set(key, proof);
    return proof.finally(() => this.#proving.delete(key));
  }
}
