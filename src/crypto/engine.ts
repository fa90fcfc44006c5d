/**
 * The cryptographic engine: generates, uses and destroys key material in the token. Every object proves itself before
 * its first use. Knows key versions and objects; knows no principal, no state and no wire.
 */

import { timingSafeEqual } from 'node:crypto';
import { randomHex } from '../bytes.ts';
import type { Family, InternalKey, KeyObject } from '../keys/key.ts';
import { asKmsError, decryptionFailed, KmsError } from '../errors.ts';
import { GCM_TAG_BYTES, labelPrefixes, type SurveyedObject, type Token } from '../pkcs11/token.ts';
import {
  type EncryptionAlgorithm,
  macBytes,
  type SignatureAlgorithm,
  signatureBytes,
  signatureCost,
  signatureMechanism,
  signedBytes,
} from './algorithms.ts';
import { Fitness } from './fitness.ts';
import { importObject } from './import-object.ts';
import { isWrapping, mechanismOf } from './block-cipher.ts';
import { checkProof, makeProof, type ProofKind } from './proof.ts';
import { toSpki } from './public-key.ts';
import { decryptRsa, encryptRsa, type RsaEncryption } from './rsa-cipher.ts';
import { runSelfTest } from './self-test.ts';
import {
  capabilityOf,
  capabilityOfEncryption,
  capabilityOfSignature,
  generationOf,
  type KeyShape,
  proofKindOf,
  refOf,
} from './shape.ts';

export { type BareFormat, readBare } from './bare-key.ts';
export { CONTENT_ENCRYPTIONS, type ContentEncryption, type EncryptedContent, openContent } from './jwe-content.ts';
export { type ClearMaterial, isPublicJwk, type JwkMembers, readJwk } from './jwk.ts';
export { type PublicJwk, publicJwk } from './public-key.ts';
export { type KeyShape, partOf } from './shape.ts';
export type { SurveyedObject } from '../pkcs11/token.ts';
export { type RsaEncryption, rsaPlaintextMax } from './rsa-cipher.ts';

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

/** Fresh CKA_IDs for these families; the halves of a pair share one, as PKCS#11 §4.4 intends. */
export function planObjects(families: readonly Family[]): readonly PlannedObject[] {
  const pairId = randomHex(16);
  const isHalf = (family: Family): boolean => family === 'private' || family === 'public';
  return families.map((family) => ({ family, objectId: isHalf(family) ? pairId : randomHex(16) }));
}

/** Families that add to a key of a vault; a token without them makes the key without them. */
const OPTIONAL: ReadonlySet<Family> = new Set(['cbc', 'kw']);

/** `not-run`: the queue had no room, which says nothing of the token; an earlier verdict stands. */
export type SelfTestOutcome = 'ok' | 'failed' | 'not-run';

/** Draws of the generator that a self-test compares. */
const GENERATOR_DRAWS = 8;

/** Bytes of the shortest output that cannot repeat by chance. */
const SHORTEST_WATCHED = 12;

export class CryptoEngine {
  readonly #token: Token;
  readonly #labelPrefix: string;
  readonly #importKey: InternalKey;
  readonly #proving = new Map<string, Promise<void>>();
  readonly #fitness = new Fitness();

  /** @param importKey the internal key pair that unwraps imports and test keys */
  constructor(token: Token, installation: string, importKey: InternalKey) {
    this.#token = token;
    this.#labelPrefix = labelPrefixes(installation).keys;
    this.#importKey = importKey;
  }

  /** `ok`, or why the token must not be used. */
  get fitness(): string {
    return this.#fitness.state;
  }

  /** @param run is called when the token gave reason for another self-test */
  onSuspicion(run: () => void): void {
    this.#fitness.onSuspicion = run;
  }

  get capabilities(): Fitness['capabilities'] {
    return this.#fitness.capabilities;
  }

  /**
   * Asks the token every known answer; nothing is served before it passed once, nor after it failed.
   * `fitness` tells what is wrong.
   */
  async selfTest(): Promise<SelfTestOutcome> {
    try {
      const report = await runSelfTest(this.#token, this.#importKey);
      this.#fitness.passed(report, await this.#generatorSound());
    } catch (thrown) {
      const error = asKmsError(thrown);
      if (error.code === 'overloaded') return 'not-run';
      this.#fitness.failed(error.message);
    }
    return this.fitness === 'ok' ? 'ok' : 'failed';
  }

  /** Before work that leaves traces in the store. @throws KmsError `token-unavailable` */
  assertAvailable(): void {
    this.#token.assertReady();
    this.#fitness.assertTrusted();
  }

  /** The families of `wanted` that this token can serve. @throws KmsError `unsupported-by-token` for one that must be */
  servable(shape: KeyShape, wanted: readonly Family[]): readonly Family[] {
    return wanted.filter((family) => {
      const capability = capabilityOf(family, shape);
      if (!OPTIONAL.has(family)) this.#fitness.assert(capability);
      return this.#fitness.supports(capability);
    });
  }

  /**
   * Makes the objects of one key version, each with its self-test and proof.
   * The caller destroys `planned` when this fails; what the failed call itself left is destroyed here.
   */
  async generate(shape: KeyShape, versionId: string, planned: readonly PlannedObject[]): Promise<GeneratedMaterial> {
    this.#fitness.assertGenerator();
    let publicKey: Uint8Array | null = null;
    for (const object of planned.filter(({ family }) => family !== 'public')) {
      const label = `${this.#labelPrefix}${versionId}:${object.family}`;
      const attributes = await this.#token.create(object.objectId, label, generationOf(object.family, shape));
      if (attributes !== null) publicKey = toSpki(attributes, shape.curve);
    }
    return { publicKey, objects: await this.#proofs(shape, planned, publicKey) };
  }

  /**
   * Brings key material of elsewhere into the token, by unwrapping (design §4); every family holds the one value.
   * A private key proves that it belongs to `publicKey`. The caller wipes `material` and, when this fails, destroys
   * `planned`.
   * @param material raw bytes of a secret key, PKCS#8 DER of a private key, null for a public key alone
   */
  async importKey(
    shape: KeyShape,
    versionId: string,
    planned: readonly PlannedObject[],
    material: Uint8Array | null,
    publicKey: Uint8Array | null,
  ): Promise<GeneratedMaterial> {
    this.#fitness.assertGenerator();
    for (const object of planned.filter(({ family }) => family !== 'public')) {
      const label = `${this.#labelPrefix}${versionId}:${object.family}`;
      await importObject(this.#token, this.#importKey, object, label, { shape, material, publicKey });
    }
    return { publicKey, objects: await this.#proofs(shape, planned, publicKey) };
  }

  /**
   * Finds what `generate` made, for a version whose rows are lost. The objects must carry the label, every attribute
   * they were made with and the token's word that they were generated in it; then they are proved anew. The new proof
   * trusts the object that is there: whoever holds the PIN could have put another one in its place.
   * @throws KmsError `key-missing`, `integrity`; changes nothing on the token
   */
  async recognise(shape: KeyShape, versionId: string, planned: readonly PlannedObject[]): Promise<GeneratedMaterial> {
    this.#fitness.assertGenerator();
    let publicKey: Uint8Array | null = null;
    for (const { family, objectId } of planned.filter((object) => object.family !== 'public')) {
      const label = `${this.#labelPrefix}${versionId}:${family}`;
      const { found, publicAttributes } = await this.#token.inspect(objectId, label, generationOf(family, shape));
      if (found === 'missing') throw new KmsError('key-missing', `the HSM does not show the object ${family}`);
      if (found === 'different') throw new KmsError('integrity', `the object ${family} is not as it was made`);
      if (publicAttributes !== null) publicKey = toSpki(publicAttributes, shape.curve);
    }
    return { publicKey, objects: await this.#proofs(shape, planned, publicKey) };
  }

  /** Every secret, private and public object on the token, for the comparison with the rows. */
  survey(): Promise<readonly SurveyedObject[]> {
    return this.#token.survey();
  }

  /** Whether the object is there and proves itself now. @throws KmsError `key-missing`, `integrity`, `token-unavailable` */
  async prove(object: KeyObject, shape: KeyShape): Promise<void> {
    await this.#prove(object, proofKindOf(object.family, shape));
  }

  /** Final: there is no way back. Repeating it is harmless. */
  destroy(objectIds: readonly string[]): Promise<void> {
    return this.#token.destroy(objectIds);
  }

  async encryptGcm(object: KeyObject, aad: Uint8Array, plaintext: Uint8Array): Promise<Sealed> {
    this.#fitness.assert('AES-GCM');
    this.#fitness.assertGenerator();
    await this.#prove(object);
    const { iv, sealed } = await this.#token.encryptGcm(refOf(object), aad, plaintext);
    this.#fitness.noteRandom(iv);
    const end = sealed.length - GCM_TAG_BYTES;
    return { iv, ciphertext: sealed.subarray(0, end), tag: sealed.subarray(end) };
  }

  /** @throws KmsError `decryption-failed` for wrong key, IV, AAD, ciphertext or tag alike */
  async decryptGcm(object: KeyObject, aad: Uint8Array, { iv, ciphertext, tag }: Sealed): Promise<Uint8Array> {
    this.#fitness.assert('AES-GCM');
    await this.#prove(object);
    return this.#token.decrypt(refOf(object), { name: 'aes-gcm', iv, aad }, Buffer.concat([ciphertext, tag]));
  }

  /**
   * RSA decryption with the private half.
   * @param ciphertext as long as the modulus
   * @throws KmsError `decryption-failed`, one and the same for every reason
   */
  async decryptRsa(object: KeyObject, shape: KeyShape, algorithm: RsaEncryption, ciphertext: Uint8Array): Promise<Uint8Array> {
    this.#fitness.assert(algorithm);
    if (ciphertext.length !== (shape.bits ?? 0) / 8) throw decryptionFailed();
    await this.#prove(object, proofKindOf(object.family, shape));
    return decryptRsa(this.#token, refOf(object), algorithm, ciphertext);
  }

  /**
   * Encrypts or wraps under any algorithm but AES-GCM.
   * @param object of the algorithm's family; a public one for RSA
   * @param iv of AES-CBC, 16 bytes
   * @throws KmsError `unsupported-by-token` also for a length that this token wraps wrongly
   */
  async encrypt(
    object: KeyObject,
    shape: KeyShape,
    algorithm: EncryptionAlgorithm,
    plaintext: Uint8Array,
    iv: Uint8Array | null,
  ): Promise<Uint8Array> {
    this.#fitness.assert(capabilityOfEncryption(algorithm));
    await this.#prove(object, proofKindOf(object.family, shape));
    const ref = refOf(object);
    if (algorithm.mode === 'rsa') {
      const of = { spki: object.proof, modulusBytes: signatureBytes(shape) };
      return encryptRsa(this.#token, ref, algorithm.alg as RsaEncryption, plaintext, of);
    }
    const mechanism = mechanismOf(algorithm, iv);
    return isWrapping(algorithm) ? this.#token.wrapBytes(ref, mechanism, plaintext) : this.#token.encrypt(ref, mechanism, plaintext);
  }

  /** What `encrypt` made. @throws KmsError `decryption-failed`, one and the same for every reason */
  async decrypt(
    object: KeyObject,
    shape: KeyShape,
    algorithm: EncryptionAlgorithm,
    ciphertext: Uint8Array,
    iv: Uint8Array | null,
  ): Promise<Uint8Array> {
    if (algorithm.mode === 'rsa') return this.decryptRsa(object, shape, algorithm.alg as RsaEncryption, ciphertext);
    this.#fitness.assert(capabilityOfEncryption(algorithm));
    await this.#prove(object);
    const mechanism = mechanismOf(algorithm, iv);
    const ref = refOf(object);
    return isWrapping(algorithm) ? this.#token.unwrapBytes(ref, mechanism, ciphertext) : this.#token.decrypt(ref, mechanism, ciphertext);
  }

  /** HMAC over the message as given. */
  async mac(object: KeyObject, algorithm: SignatureAlgorithm, message: Uint8Array): Promise<Uint8Array> {
    this.#fitness.assert('HMAC');
    await this.#prove(object);
    return this.#token.sign(refOf(object), signatureMechanism(algorithm), message, macBytes(algorithm), 'fast');
  }

  /** Computed anew and compared here: tokens differ in the lengths that their C_Verify takes. */
  async verifyMac(object: KeyObject, algorithm: SignatureAlgorithm, message: Uint8Array, given: Uint8Array): Promise<boolean> {
    const expected = await this.mac(object, algorithm, message);
    return expected.length === given.length && timingSafeEqual(expected, given);
  }

  /** @returns raw signature: PKCS#1 v1.5 or PSS of modulus length, or r‖s of fixed width */
  async sign(object: KeyObject, shape: KeyShape, algorithm: SignatureAlgorithm, digest: Uint8Array): Promise<Uint8Array> {
    this.#fitness.assert(capabilityOfSignature(algorithm));
    // ECDSA with a generator that repeats itself gives the key away.
    this.#fitness.assertGenerator();
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
    this.#fitness.assert(capabilityOfSignature(algorithm));
    if (signature.length !== signatureBytes(shape)) return false;
    await this.#prove(object);
    return this.#token.verify(refOf(object), signatureMechanism(algorithm), signedBytes(algorithm, digest), signature);
  }

  /** Bytes of the token's generator. */
  async random(bytes: number): Promise<Uint8Array> {
    this.#fitness.assertGenerator();
    const output = await this.#token.random(bytes);
    if (bytes >= SHORTEST_WATCHED) this.#fitness.noteRandom(output);
    return output;
  }

  async #generatorSound(): Promise<boolean> {
    const draws = Array.from({ length: GENERATOR_DRAWS }, () => this.#token.random(32));
    return (await Promise.all(draws)).every((output) => this.#fitness.isFresh(output));
  }

  async #proofs(shape: KeyShape, planned: readonly PlannedObject[], publicKey: Uint8Array | null): Promise<readonly KeyObject[]> {
    const objects: KeyObject[] = [];
    for (const object of planned) {
      const kind = proofKindOf(object.family, shape);
      objects.push({ ...object, proof: await makeProof(this.#token, kind, refOf(object), publicKey) });
    }
    return objects;
  }

  /** Once per object and epoch; callers of the same turn share the question. */
  async #prove(object: KeyObject, kind: ProofKind = object.family): Promise<void> {
    const ref = refOf(object);
    if (this.#token.isProven(ref)) return;
    const key = `${ref.part}:${ref.objectId}`;
    const running = this.#proving.get(key) ?? this.#startProof(key, object, kind);
    await running;
  }

  #startProof(key: string, object: KeyObject, kind: ProofKind): Promise<void> {
    const proof = checkProof(this.#token, kind, refOf(object), object.proof);
    this.#proving.set(key, proof);
    return proof.finally(() => this.#proving.delete(key));
  }
}
