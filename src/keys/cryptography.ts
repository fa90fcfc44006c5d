/**
 * Operations with any algorithm of the table that fits the key, with the version that the caller names: behind the gate,
 * then the algorithm's own rules, then the engine.
 */

import {
  digestBytes, type EncryptionAlgorithm, encryptionAlgorithm, familyOfEncryption, type SignatureAlgorithm, signatureAlgorithm,
  signatureBytes, type Switch,
} from '../crypto/algorithms.ts';
import { type CryptoEngine, type RsaEncryption, rsaPlaintextMax } from '../crypto/engine.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { Call, Gate, KeyAddress, Outcome } from './access.ts';
import { type FailureBudget, onTick } from './failure-budget.ts';
import type { Invocations } from './invocations.ts';
import type { Family, Key, KeyObject, KeyVersion, Vault } from './key.ts';
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

/** Whether the failures of its decryption tell something about what is inside (security P-9, P-11). */
function reveals({ mode }: EncryptionAlgorithm): boolean {
  return mode === 'rsa' || mode === 'cbc' || mode === 'cbc-pad';
}

/** Which algorithm it is shows only when it runs. */
async function ticking<T>(run: () => Promise<T>, isRevealing: () => boolean): Promise<T> {
  const settled = await run().then((value) => () => value, (error: unknown) => () => { throw error; });
  return isRevealing() ? onTick(() => Promise.resolve().then(settled)) : settled();
}

/** @throws KmsError `invalid-field` */
function fittingCipher(vault: Vault, key: Key, alg: string, under: 'encrypt' | 'wrapKey'): EncryptionAlgorithm {
  const algorithm = encryptionAlgorithm(alg);
  if (algorithm === undefined) throw invalidField('alg', 'not a known encryption algorithm');
  if (algorithm.kind !== key.kind) throw incompatible(alg, key);
  if (algorithm.bits !== null && algorithm.bits !== key.bits) {
    throw invalidField('alg', `key size incorrect: ${alg} needs a key of ${algorithm.bits} bits, ${key.name} has ${key.bits ?? 0}`);
  }
  if (algorithm.under !== 'both' && algorithm.under !== under) {
    throw invalidField('alg', `${alg} is ${under === 'encrypt' ? 'for wrapping keys' : 'not for wrapping keys'}`);
  }
  assertSwitchedOn(vault, alg, algorithm.needs);
  return algorithm;
}

/** @throws KmsError `invalid-field` */
function fittingSignature(vault: Vault, key: Key, alg: string): SignatureAlgorithm {
  const algorithm = signatureAlgorithm(alg);
  if (algorithm === undefined) throw invalidField('alg', 'not a known signature algorithm');
  if (algorithm.kind !== key.kind || algorithm.curve !== key.curve) throw incompatible(alg, key);
  assertSwitchedOn(vault, alg, algorithm.needs);
  return algorithm;
}

function incompatible(alg: string, { name, kind, curve }: Key): KmsError {
  return invalidField('alg', `key and algorithm are incompatible: ${alg} does not fit ${name}, a key of type ${curve ?? kind}`);
}

function assertSwitchedOn(vault: Vault, alg: string, needs: Switch | undefined): void {
  if (needs !== undefined && !vault[needs]) throw invalidField('alg', `${alg} is switched off in this vault`);
}

/** @throws KmsError `invalid-field` */
function assertLength(algorithm: SignatureAlgorithm, key: Key, digest: Uint8Array, field: string): void {
  const { alg, scheme } = algorithm;
  const expected = digestBytes(algorithm);
  if (expected !== null && digest.length !== expected) {
    throw invalidField(field, `expected a digest of ${expected} bytes for ${alg}, got ${digest.length} bytes`);
  }
  const max = scheme === 'rsa-pkcs' ? rsaPlaintextMax('RSA1_5', signatureBytes(key)) : Infinity;
  if (expected === null && digest.length > max) throw invalidField(field, `expected at most ${max} bytes for ${alg}, got ${digest.length}`);
}

function assertWrappable({ alg, mode }: EncryptionAlgorithm, { length }: Uint8Array): void {
  const fits = mode === 'kwp' ? length > 0 : length >= 16 && length % 8 === 0;
  if (fits) return;
  throw invalidField('value', `expected ${mode === 'kwp' ? 'at least one byte' : 'a multiple of 8 bytes, at least 16,'} for ${alg}, got ${length} bytes`);
}

/** A member without a use would be taken for protection that is not there. */
function assertOnly(request: CipherRequest, allowed: readonly ('iv' | 'aad' | 'tag')[]): void {
  const extra = (['iv', 'aad', 'tag'] as const).find((member) => request[member] !== undefined && !allowed.includes(member));
  if (extra !== undefined) throw invalidField(extra, `not accepted for ${request.alg} in this operation`);
}

function assertBytes(field: string, bytes: Uint8Array | undefined, length: number): asserts bytes is Uint8Array {
  if (bytes?.length !== length) throw invalidField(field, `expected ${length} bytes`);
}

/** @throws KmsError `unsupported-by-token`; `invalid-field` for what was switched off when the version was made */
function objectFor(version: KeyVersion, family: Family, needs?: Switch): KeyObject {
  const serves = family === 'public' ? ['public', 'public-only'] : [family];
  const object = version.objects.find((candidate) => serves.includes(candidate.family));
  if (object !== undefined) return object;
  if (needs === 'cbc') throw invalidField('alg', 'this version was made while AES-CBC was switched off, or on an HSM without it: make a new version');
  throw new KmsError('unsupported-by-token', `${family}: not supported by this HSM when the key was made`);
}

function outcome<T>(value: T, key: Key, version: KeyVersion, algorithm: string): Outcome<T> {
  return { value, facts: { version: version.ordinal, algorithm, ...(key.bits !== null && { bits: key.bits }) } };
}
