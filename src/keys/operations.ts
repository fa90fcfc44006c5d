/**
 * Operations on key material, the same for every door: each passes the gate, then the engine. A door hands in bytes
 * and how its format binds them to a key; nothing here knows a wire.
 */

import { digest, digestBytes, type SignatureAlgorithm, signatureAlgorithm } from '../crypto/algorithms.ts';
import type { CryptoEngine, Sealed } from '../crypto/engine.ts';
import { wipe } from '../bytes.ts';
import { decryptionFailed, invalidField, KmsError } from '../errors.ts';
import type { Call, Gate, Outcome } from './access.ts';
import type { Invocations } from './invocations.ts';
import type { Curve, Family, Key, KeyObject, KeyVersion, Kind } from './key.ts';
import { OPERATIONS, type Operation, shapeOf } from './usage.ts';

export { contentEncryption } from '../crypto/algorithms.ts';

/** Whether a key of this kind and curve can serve this signature algorithm. */
export function fitsSignature(alg: string, kind: Kind, curve: Curve | null): boolean {
  const algorithm = signatureAlgorithm(alg);
  return algorithm?.kind === kind && (algorithm.curve === null || algorithm.curve === curve);
}

/** The additional authenticated data of a format, which names key and version. */
export type Bind = (key: Key, version: KeyVersion) => Uint8Array;

/** A ciphertext taken apart; undefined when it cannot be one of this key. */
export type Open = (key: Key) => (Sealed & { readonly ordinal: number; readonly aad: Uint8Array }) | undefined;

export interface SealedUnder extends Sealed {
  readonly key: Key;
  readonly version: KeyVersion;
}

export interface ToSign {
  readonly alg: string;
  readonly message: Uint8Array;
  /** `message` is the digest already. */
  readonly isDigest: boolean;
}

export class KeyOperations {
  readonly #gate: Gate;
  readonly #engine: CryptoEngine;
  readonly #invocations: Invocations;

  constructor(gate: Gate, engine: CryptoEngine, invocations: Invocations) {
    this.#gate = gate;
    this.#engine = engine;
    this.#invocations = invocations;
  }

  /** AES-GCM under the newest version. */
  encrypt(call: Call, keyId: string, bind: Bind, plaintext: Uint8Array): Promise<SealedUnder> {
    return this.#gate.use(call, OPERATIONS.seal, keyId, async (key, [version]) => {
      const sealed = await this.#seal('gcm', key, version, bind, plaintext);
      return outcome({ ...sealed, key, version }, version, key);
    });
  }

  /** @throws KmsError `decryption-failed`, the same whatever does not fit */
  decrypt(call: Call, keyId: string, open: Open): Promise<Uint8Array> {
    return this.#unseal(call, OPERATIONS.unseal, 'gcm', keyId, open);
  }

  /**
   * A random data key of `bytes`, and the same sealed under the key.
   * The caller wipes `plaintext`.
   */
  createDataKey(
    call: Call,
    keyId: string,
    bind: Bind,
    bytes: number,
  ): Promise<{ readonly plaintext: Uint8Array; readonly sealed: SealedUnder }> {
    return this.#gate.use(call, OPERATIONS.createDataKey, keyId, async (key, [version]) => {
      const plaintext = await this.#engine.random(bytes);
      try {
        const sealed = await this.#seal('dk', key, version, bind, plaintext);
        return outcome({ plaintext, sealed: { ...sealed, key, version } }, version, key);
      } catch (error) {
        wipe(plaintext);
        throw error;
      }
    });
  }

  decryptDataKey(call: Call, keyId: string, open: Open): Promise<Uint8Array> {
    return this.#unseal(call, OPERATIONS.decryptDataKey, 'dk', keyId, open);
  }

  /** @returns raw signature: modulus length, or r‖s of fixed width */
  sign(call: Call, keyId: string, input: ToSign): Promise<Uint8Array> {
    return this.#gate.use(call, OPERATIONS.signMessage, keyId, async (key, [version]) => {
      const algorithm = fitting(key, input.alg);
      const object = objectOf(version, 'private');
      const signature = await this.#engine.sign(object, shapeOf(key, version), algorithm, digestOf(algorithm, input));
      return outcome(signature, version, key, algorithm.alg);
    });
  }

  /** The signature names no version, so every usable one is tried, newest first. */
  verify(call: Call, keyId: string, input: ToSign, signature: Uint8Array): Promise<boolean> {
    return this.#gate.use(call, OPERATIONS.verifyMessage, keyId, async (key, versions) => {
      const algorithm = fitting(key, input.alg);
      const hashed = digestOf(algorithm, input);
      for (const version of versions) {
        const object = objectOf(version, 'public');
        const valid = await this.#engine.verify(object, shapeOf(key, version), algorithm, hashed, signature);
        if (valid) return outcome(true, version, key, algorithm.alg);
      }
      return outcome(false, versions[0], key, algorithm.alg);
    });
  }

  /** Bytes of the token's generator. @param read how many; looked at when the caller may */
  random(call: Call, read: () => number): Promise<Uint8Array> {
    return this.#gate.useVault(call, 'random.get', 'random/get', async () => {
      const bytes = read();
      return { value: await this.#engine.random(bytes), facts: { detail: { bytes } } };
    });
  }

  async #seal(family: Family, key: Key, version: KeyVersion, bind: Bind, plaintext: Uint8Array): Promise<Sealed> {
    const object = objectOf(version, family);
    await this.#invocations.take(object.objectId, key.origin);
    return this.#engine.encryptGcm(object, bind(key, version), plaintext);
  }

  #unseal(call: Call, operation: Operation, family: Family, keyId: string, open: Open): Promise<Uint8Array> {
    return this.#gate.use(call, operation, keyId, async (key, versions) => {
      const sealed = open(key);
      const version = versions.find(({ ordinal }) => ordinal === sealed?.ordinal);
      if (sealed === undefined || version === undefined) throw decryptionFailed();
      const plaintext = await this.#engine.decryptGcm(objectOf(version, family), sealed.aad, sealed);
      return outcome(plaintext, version, key);
    });
  }
}

function outcome<T>(value: T, version: KeyVersion, key: Key, algorithm?: string): Outcome<T> {
  const bits = key.bits === null ? {} : { bits: key.bits };
  return { value, facts: { version: version.ordinal, ...bits, ...(algorithm === undefined ? {} : { algorithm }) } };
}

export function objectOf(version: KeyVersion, family: Family): KeyObject {
  const serves = family === 'public' ? ['public', 'public-only'] : [family];
  const object = version.objects.find((candidate) => serves.includes(candidate.family));
  if (object !== undefined) return object;
  // Made when the token could not serve this family.
  throw new KmsError('unsupported-by-token', `${family}: not supported by this HSM when the key was made`);
}

function fitting(key: Key, alg: string): SignatureAlgorithm {
  const algorithm = signatureAlgorithm(alg);
  if (algorithm === undefined) throw invalidField('alg', 'not a known signature algorithm');
  if (!fitsSignature(alg, key.kind, key.curve)) throw invalidField('alg', `${alg} does not fit this key (${key.curve ?? key.kind})`);
  return algorithm;
}

function digestOf(algorithm: SignatureAlgorithm, { message, isDigest }: ToSign): Uint8Array {
  if (!isDigest) return digest(algorithm, message);
  const expected = digestBytes(algorithm);
  if (expected === null || message.length === expected) return message;
  throw invalidField('message', `expected a digest of ${expected} bytes for ${algorithm.alg}`);
}
