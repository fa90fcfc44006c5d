/**
 * What AES-GCM is asked in the self-test, which depends on who makes the IV. A token that does not do with IVs what its
 * profile says would repeat one sooner or later, and is found here.
 */

import { createCipheriv, createDecipheriv } from 'node:crypto';
import { GCM_IV_BYTES, GCM_TAG_BYTES, type Profile } from '../pkcs11/token.ts';
import { GCM } from './known-vectors.ts';
import { exactly, type KnownAnswer, type TrialGroup } from './trial-group.ts';

/** Only an IV that is written back can be read, so where it goes elsewhere AES-GCM is probed and not served. */
export function gcmGroups({ gcm }: Profile): readonly TrialGroup[] {
  if (gcm.iv === 'none') return [];
  if (gcm.iv === 'host') return [gcmGroup()];
  return [gcm.iv === 'token-written-back' ? writtenIvGroup() : ownIvGroup()];
}

/** Encryption with the IV we give must be what the standard says: a token that makes its own would be found here. */
function gcmGroup(): TrialGroup {
  const { key, mechanism, plaintext, sealed } = GCM;
  return {
    key: { type: 'aes', purpose: 'gcm', bytes: key },
    answers: [
      { capability: 'AES-GCM', step: { op: 'encrypt', mechanism, data: plaintext }, expected: exactly(sealed) },
      { capability: 'AES-GCM', step: { op: 'decrypt', mechanism, data: sealed }, expected: exactly(plaintext) },
    ],
  };
}

/**
 * The token's IV cannot be known, so node:crypto opens what the token sealed, and the token opens the standard's. Each
 * IV must be another one.
 */
function writtenIvGroup(): TrialGroup {
  const { key, mechanism, plaintext, sealed } = GCM;
  const seen = new Set<string>();
  const expected: KnownAnswer['expected'] = (result) => {
    if (typeof result === 'boolean') return false;
    const iv = Buffer.from(result.subarray(0, GCM_IV_BYTES)).toString('hex');
    const fresh = !seen.has(iv);
    seen.add(iv);
    return fresh && openGcm(key, mechanism.aad, result)?.equals(plaintext) === true;
  };
  const encrypt = { op: 'encryptGcm', aad: mechanism.aad, data: plaintext } as const;
  return {
    key: { type: 'aes', purpose: 'gcm', bytes: key },
    answers: [
      ...Array.from({ length: OWN_IVS }, () => ({ capability: 'AES-GCM-IV', step: encrypt, expected }) as const),
      { capability: 'AES-GCM', step: encrypt, expected },
      { capability: 'AES-GCM', step: { op: 'decrypt', mechanism, data: sealed }, expected: exactly(plaintext) },
    ],
  };
}

/** IVs of the token that the self-test compares. */
const OWN_IVS = 8;

/** @param message IV, ciphertext, tag */
function openGcm(key: Buffer, aad: Buffer, message: Uint8Array): Buffer | undefined {
  try {
    const end = message.length - GCM_TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', key, message.subarray(0, GCM_IV_BYTES));
    decipher.setAAD(aad).setAuthTag(message.subarray(end));
    return Buffer.concat([decipher.update(message.subarray(GCM_IV_BYTES, end)), decipher.final()]);
  } catch {
    return undefined;
  }
}

/** A token that is said to make its own IVs and takes an all-zero one from us would repeat it for every message. */
function ownIvGroup(): TrialGroup {
  const { key, plaintext } = GCM;
  const mechanism = { name: 'aes-gcm', iv: Buffer.alloc(12), aad: Buffer.alloc(0) } as const;
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
  const repeated = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  const expected: KnownAnswer['expected'] = (result) => typeof result !== 'boolean' && !repeated.equals(result);
  return {
    key: { type: 'aes', purpose: 'gcm', bytes: key },
    answers: [{ capability: 'AES-GCM-IV', step: { op: 'encrypt', mechanism, data: plaintext }, expected }],
  };
}
