/**
 * Operations with any algorithm of the table that fits the key, with the version that the caller names: behind the gate,
 * then the algorithm's own rules, then the engine.
 */

import { type EncryptionAlgorithm, familyOfEncryption, signatureBytes } from '../crypto/algorithms.ts';
import { type CryptoEngine, type RsaEncryption, rsaPlaintextMax } from '../crypto/engine.ts';
import { invalidField } from '../errors.ts';
import type { Call, Gate, KeyAddress, Outcome } from './access.ts';
import {
  assertBytes, assertLength, assertOnly, assertWrappable, fittingCipher, fittingSignature, objectFor, reveals,
} from './algorithm-rules.ts';
import { type FailureBudget, onTick } from './failure-budget.ts';
import type { Invocations } from './invocations.ts';
import type { Key, KeyVersion } from './key.ts';
import { isReservedAad } from './reserved-aad.ts';
import { OPERATIONS, shapeOf } from './usage.ts';

export { ENCRYPTION_NAMES, encryptionAlgorithm, SIGNATURE_NAMES, signatureAlgorithm } from '../crypto/algorithms.ts';

export interface VersionAddress {
  readonly key: KeyAddress;
  /** Null for the newest. */
  readonly versionId: string | null;
}

/** Members that the algorithm has no use for must be absent. */
export interface CipherRequest {
  readonly alg: string;
  readonly value: Uint8Array;
  readonly iv?: Uint8Array;
  readonly aad?: Uint8Array;
  readonly tag?: Uint8Array;
}

export interface CipherResult {
  readonly key: Key;
  readonly version: KeyVersion;
  readonly value: Uint8Array;
  readonly iv?: Uint8Array;
  readonly tag?: Uint8Array;
  readonly aad?: Uint8Array;
}

export interface SignRequest {
  readonly alg: string;
  /** The digest; of HMAC the message; of RSNULL what is to be padded. */
  readonly digest: Uint8Array;
}

export interface Signed extends Pick<CipherResult, 'key' | 'version'> {
  readonly signature: Uint8Array;
}

export interface CryptographyOptions {
  readonly gate: Gate;
  readonly engine: CryptoEngine;
  readonly invocations: Invocations;
  readonly budget: FailureBudget;
}

const BLOCK = 16;
const GCM_IV = 12;
const GCM_TAG = 16;

export class Cryptography {
  readonly #options: CryptographyOptions;

  constructor(options: CryptographyOptions) {
    this.#options = options;
  }

  /** @param under also the usage it needs @param read looked at behind the gate @throws KmsError `invalid-field` */
  encrypt(call: Call, under: 'encrypt' | 'wrapKey', at: VersionAddress, read: () => CipherRequest): Promise<CipherResult> {
    return this.#options.gate.useVersion(call, OPERATIONS[under], at, read, async (request, key, version) => {
      const algorithm = fittingCipher(call.vault, key, request.alg, under);
      const result = await this.#encrypt(algorithm, request, key, version);
      return outcome({ ...result, key, version }, key, version, algorithm.alg);
    });
  }

  /** @throws KmsError `decryption-failed`, the same whatever does not fit; `rate-limited` */
  decrypt(call: Call, under: 'decrypt' | 'unwrapKey', at: VersionAddress, read: () => CipherRequest): Promise<CipherResult> {
    const { gate, budget } = this.#options;
    let revealing = false;
    const run = (): Promise<CipherResult> => gate.useVersion(call, OPERATIONS[under], at, read, async (request, key, version) => {
      const algorithm = fittingCipher(call.vault, key, request.alg, under === 'decrypt' ? 'encrypt' : 'wrapKey');
      revealing = reveals(algorithm);
      const open = (): Promise<Uint8Array> => this.#decrypt(algorithm, request, key, version);
      const value = await (revealing ? budget.spend(call, key, open) : open());
      return outcome({ value, key, version }, key, version, algorithm.alg);
    });
    return ticking(run, () => revealing);
  }

  sign(call: Call, at: VersionAddress, read: () => SignRequest): Promise<Signed> {
    const { gate, engine } = this.#options;
    return gate.useVersion(call, OPERATIONS.sign, at, read, async ({ alg, digest }, key, version) => {
      const algorithm = fittingSignature(call.vault, key, alg);
      assertLength(algorithm, key, digest, 'value');
      const signature = algorithm.scheme === 'hmac'
        ? await engine.mac(objectFor(version, 'mac'), algorithm, digest)
        : await engine.sign(objectFor(version, 'private'), shapeOf(key, version), algorithm, digest);
      return outcome({ signature, key, version }, key, version, alg);
    });
  }

  /** Any mismatch, also of length, is false. */
  verify(
    call: Call,
    at: VersionAddress,
    read: () => SignRequest & { readonly signature: Uint8Array },
  ): Promise<boolean> {
    const { gate, engine } = this.#options;
    return gate.useVersion(call, OPERATIONS.verify, at, read, async ({ alg, digest, signature }, key, version) => {
      const algorithm = fittingSignature(call.vault, key, alg);
      assertLength(algorithm, key, digest, 'digest');
      const valid = algorithm.scheme === 'hmac'
        ? await engine.verifyMac(objectFor(version, 'mac'), algorithm, digest, signature)
        : await engine.verify(objectFor(version, 'public'), shapeOf(key, version), algorithm, digest, signature);
      return outcome(valid, key, version, alg);
    });
  }

  async #encrypt(algorithm: EncryptionAlgorithm, request: CipherRequest, key: Key, version: KeyVersion): Promise<Pick<CipherResult, 'value' | 'iv' | 'tag' | 'aad'>> {
    const { engine, invocations } = this.#options;
    const { value, aad } = request;
    const object = objectFor(version, familyOfEncryption(algorithm, true), algorithm.needs);
    const shape = shapeOf(key, version);
    switch (algorithm.mode) {
      case 'gcm': {
        assertOnly(request, ['aad']);
        if (aad !== undefined && isReservedAad(aad)) throw invalidField('aad', 'ends in a suffix that is reserved');
        await invocations.take(object.objectId, key.origin);
        const { iv, ciphertext, tag } = await engine.encryptGcm(object, aad ?? new Uint8Array(), value);
        return { value: ciphertext, iv, tag, ...(aad !== undefined && { aad }) };
      }
      case 'cbc':
      case 'cbc-pad': {
        assertOnly(request, ['iv']);
        const iv = request.iv ?? await engine.random(BLOCK);
        assertBytes('iv', iv, BLOCK);
        if (algorithm.mode === 'cbc' && (value.length === 0 || value.length % BLOCK !== 0)) {
          throw invalidField('value', `expected whole blocks of ${BLOCK} bytes for ${algorithm.alg}, got ${value.length} bytes`);
        }
        return { value: await engine.encrypt(object, shape, algorithm, value, iv), iv };
      }
      case 'kw':
      case 'kwp':
        assertOnly(request, []);
        assertWrappable(algorithm, value);
        return { value: await engine.encrypt(object, shape, algorithm, value, null) };
      case 'rsa': {
        assertOnly(request, []);
        const max = rsaPlaintextMax(algorithm.alg as RsaEncryption, signatureBytes(shape));
        if (value.length > max) throw invalidField('value', `expected at most ${max} bytes for ${algorithm.alg}, got ${value.length}`);
        return { value: await engine.encrypt(object, shape, algorithm, value, null) };
      }
    }
  }

  async #decrypt(algorithm: EncryptionAlgorithm, request: CipherRequest, key: Key, version: KeyVersion): Promise<Uint8Array> {
    const { engine } = this.#options;
    const object = objectFor(version, familyOfEncryption(algorithm, false), algorithm.needs);
    if (algorithm.mode === 'gcm') {
      assertOnly(request, ['iv', 'tag', 'aad']);
      const { iv, tag, aad = new Uint8Array(), value: ciphertext } = request;
      assertBytes('iv', iv, GCM_IV);
      assertBytes('tag', tag, GCM_TAG);
      if (isReservedAad(aad)) throw invalidField('aad', 'ends in a suffix that is reserved');
      return engine.decryptGcm(object, aad, { iv, ciphertext, tag });
    }
    const chained = algorithm.mode === 'cbc' || algorithm.mode === 'cbc-pad';
    assertOnly(request, chained ? ['iv'] : []);
    if (chained) assertBytes('iv', request.iv, BLOCK);
    return engine.decrypt(object, shapeOf(key, version), algorithm, request.value, request.iv ?? null);
  }
}

/** Which algorithm it is shows only when it runs. */
async function ticking<T>(run: () => Promise<T>, isRevealing: () => boolean): Promise<T> {
  const settled = await run().then((value) => () => value, (error: unknown) => () => { throw error; });
  return isRevealing() ? onTick(() => Promise.resolve().then(settled)) : settled();
}

function outcome<T>(value: T, key: Key, version: KeyVersion, algorithm: string): Outcome<T> {
  return { value, facts: { version: version.ordinal, algorithm, ...(key.bits !== null && { bits: key.bits }) } };
}
