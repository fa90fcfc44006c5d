/** What an algorithm asks of key, vault and request before the token is asked (azure-keyvault-keys-api §4, security P-9 to P-13). Pure. */

import {
  digestBytes, type EncryptionAlgorithm, encryptionAlgorithm, type SignatureAlgorithm, signatureAlgorithm, signatureBytes, type Switch,
} from '../crypto/algorithms.ts';
import { rsaPlaintextMax } from '../crypto/engine.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { CipherRequest } from './cryptography.ts';
import type { Family, Key, KeyObject, KeyVersion, Vault } from './key.ts';

/** Whether the failures of its decryption tell something about what is inside (security P-9, P-11). */
export function reveals({ mode }: EncryptionAlgorithm): boolean {
  return mode === 'rsa' || mode === 'cbc' || mode === 'cbc-pad';
}

/** @throws KmsError `invalid-field` */
export function fittingCipher(vault: Vault, key: Key, alg: string, under: 'encrypt' | 'wrapKey'): EncryptionAlgorithm {
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
export function fittingSignature(vault: Vault, key: Key, alg: string): SignatureAlgorithm {
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
export function assertLength(algorithm: SignatureAlgorithm, key: Key, digest: Uint8Array, field: string): void {
  const { alg, scheme } = algorithm;
  const expected = digestBytes(algorithm);
  if (expected !== null && digest.length !== expected) {
    throw invalidField(field, `expected a digest of ${expected} bytes for ${alg}, got ${digest.length} bytes`);
  }
  const max = scheme === 'rsa-pkcs' ? rsaPlaintextMax('RSA1_5', signatureBytes(key)) : Infinity;
  if (expected === null && digest.length > max) throw invalidField(field, `expected at most ${max} bytes for ${alg}, got ${digest.length}`);
}

export function assertWrappable({ alg, mode }: EncryptionAlgorithm, { length }: Uint8Array): void {
  const fits = mode === 'kwp' ? length > 0 : length >= 16 && length % 8 === 0;
  if (fits) return;
  throw invalidField('value', `expected ${mode === 'kwp' ? 'at least one byte' : 'a multiple of 8 bytes, at least 16,'} for ${alg}, got ${length} bytes`);
}

/** A member without a use would be taken for protection that is not there. */
export function assertOnly(request: CipherRequest, allowed: readonly ('iv' | 'aad' | 'tag')[]): void {
  const extra = (['iv', 'aad', 'tag'] as const).find((member) => request[member] !== undefined && !allowed.includes(member));
  if (extra !== undefined) throw invalidField(extra, `not accepted for ${request.alg} in this operation`);
}

export function assertBytes(field: string, bytes: Uint8Array | undefined, length: number): asserts bytes is Uint8Array {
  if (bytes?.length !== length) throw invalidField(field, `expected ${length} bytes`);
}

/** @throws KmsError `unsupported-by-token`; `invalid-field` for what was switched off when the version was made */
export function objectFor(version: KeyVersion, family: Family, needs?: Switch): KeyObject {
  const serves = family === 'public' ? ['public', 'public-only'] : [family];
  const object = version.objects.find((candidate) => serves.includes(candidate.family));
  if (object !== undefined) return object;
  if (needs === 'cbc') throw invalidField('alg', 'this version was made while AES-CBC was switched off, or on an HSM without it: make a new version');
  throw new KmsError('unsupported-by-token', `${family}: not supported by this HSM when the key was made`);
}
