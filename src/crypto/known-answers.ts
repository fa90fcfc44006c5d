/**
 * Known answers: what the self-test asks a token of each mechanism that its profile claims. The vectors are in
 * known-vectors.ts, the questions of AES-GCM in known-gcm.ts.
 */

import { constants, createPrivateKey, createPublicKey, verify } from 'node:crypto';
import type { Profile } from '../pkcs11/token.ts';
import { signedBytesOf } from './algorithms.ts';
import { gcmGroups } from './known-gcm.ts';
import { CBC, CURVES, type CurveTest, HMAC, KW, KWP, MESSAGE, RSA } from './known-vectors.ts';
import { unpadOaepSha256 } from './oaep.ts';
import { type Capability, exactly, isTrue, type KnownAnswer, type TrialGroup } from './trial-group.ts';

/** What the profile claims, each with at least one known answer. */
export function knownAnswers(profile: Profile): readonly TrialGroup[] {
  const groups: TrialGroup[] = [hmacGroup(), cbcGroup(), rsaSigning(), rsaDecryption(profile)];
  groups.push(...gcmGroups(profile));
  if (profile.keyWrap.kw !== null) groups.push(kwGroup());
  if (profile.keyWrap.kwp !== null) groups.push(kwpGroup());
  groups.push(...CURVES.filter(({ curve }) => profile.curves.includes(curve)).map(curveGroup));
  return groups.filter(({ answers }) => answers.length > 0);
}

function cbcGroup(): TrialGroup {
  const { key, mechanism, plaintext, ciphertext } = CBC;
  return {
    key: { type: 'aes', purpose: 'cbc', bytes: key },
    answers: [
      { capability: 'AES-CBC', step: { op: 'encrypt', mechanism, data: plaintext }, expected: exactly(ciphertext) },
      { capability: 'AES-CBC', step: { op: 'decrypt', mechanism, data: ciphertext }, expected: exactly(plaintext) },
    ],
  };
}

function kwGroup(): TrialGroup {
  const mechanism = { name: 'aes-kw' } as const;
  return {
    key: { type: 'aes', purpose: 'kw', bytes: KW.key },
    answers: [
      { capability: 'AES-KW', step: { op: 'wrapBytes', mechanism, data: KW.plaintext }, expected: exactly(KW.wrapped) },
      { capability: 'AES-KW', step: { op: 'unwrapBytes', mechanism, data: KW.wrapped }, expected: exactly(KW.plaintext) },
    ],
  };
}

function kwpGroup(): TrialGroup {
  const mechanism = { name: 'aes-kwp' } as const;
  return {
    key: { type: 'aes', purpose: 'kw', bytes: KWP.key },
    answers: [
      { capability: 'AES-KWP', step: { op: 'unwrapBytes', mechanism, data: KWP.wrapped }, expected: exactly(KWP.plaintext) },
    ],
  };
}

function hmacGroup(): TrialGroup {
  const answers = (['sha256', 'sha384', 'sha512'] as const).map((hash): KnownAnswer => {
    const mechanism = { name: 'hmac', hash } as const;
    const step = { op: 'sign', mechanism, data: HMAC.data, length: HMAC[hash].length } as const;
    return { capability: 'HMAC', step, expected: exactly(HMAC[hash]) };
  });
  return { key: { type: 'secret', purpose: 'mac', bytes: HMAC.key }, answers };
}

function rsaSigning(): TrialGroup {
  const pkcs = { name: 'rsa-pkcs' } as const;
  const pss = { name: 'rsa-pss', hash: 'sha256' } as const;
  const data = signedBytesOf('RS256', MESSAGE);
  const digest = signedBytesOf('PS256', MESSAGE);
  return {
    key: { type: 'rsa', purpose: 'rsa-sign', bytes: RSA.pkcs8 },
    answers: [
      { capability: 'RSA-PKCS1', step: { op: 'sign', mechanism: pkcs, data, length: 256 }, expected: exactly(RSA.rs256) },
      { capability: 'RSA-PKCS1', step: { op: 'verify', mechanism: pkcs, data, signature: RSA.rs256 }, expected: isTrue },
      // Randomised: checked in software.
      { capability: 'RSA-PSS', step: { op: 'sign', mechanism: pss, data: digest, length: 256 }, expected: verifiesPs256 },
      { capability: 'RSA-PSS', step: { op: 'verify', mechanism: pss, data: digest, signature: RSA.ps256 }, expected: isTrue },
    ],
  };
}

function publicOf(pkcs8: Buffer): ReturnType<typeof createPublicKey> {
  return createPublicKey(createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }));
}

function verifiesPs256(result: Uint8Array | boolean): boolean {
  if (typeof result === 'boolean') return false;
  const key = { key: publicOf(RSA.pkcs8), padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  return verify('sha256', MESSAGE, key, result);
}

function rsaDecryption({ oaep }: Profile): TrialGroup {
  const answers: KnownAnswer[] = [
    { capability: 'RSA1_5', step: { op: 'decrypt', mechanism: { name: 'rsa-pkcs' }, data: RSA.rsa15 }, expected: exactly(MESSAGE) },
  ];
  const native = (capability: Capability, hash: 'sha1' | 'sha256', data: Buffer): KnownAnswer => {
    const step = { op: 'decrypt', mechanism: { name: 'rsa-oaep', hash }, data } as const;
    return { capability, step, expected: exactly(MESSAGE) };
  };
  if (oaep.hashes.includes('sha1')) answers.push(native('RSA-OAEP', 'sha1', RSA.oaep));
  if (oaep.sha256 === 'native') answers.push(native('RSA-OAEP-256', 'sha256', RSA.oaep256));
  if (oaep.sha256 === 'raw') {
    const step = { op: 'decrypt', mechanism: { name: 'rsa-raw' }, data: RSA.oaep256 } as const;
    answers.push({ capability: 'RSA-OAEP-256', step, expected: unpadsToMessage });
  }
  return { key: { type: 'rsa', purpose: 'rsa-decrypt', bytes: RSA.pkcs8 }, answers };
}

function unpadsToMessage(result: Uint8Array | boolean): boolean {
  return typeof result !== 'boolean' && unpadOaepSha256(result)?.equals(MESSAGE) === true;
}

function curveGroup({ curve, hash, length, pkcs8, signature }: CurveTest): TrialGroup {
  const mechanism = { name: 'ecdsa' } as const;
  const data = signedBytesOf(`ES${hash.slice(3)}`, MESSAGE);
  const verifies = (result: Uint8Array | boolean): boolean =>
    typeof result !== 'boolean' && verify(hash, MESSAGE, { key: publicOf(pkcs8), dsaEncoding: 'ieee-p1363' }, result);
  return {
    key: { type: 'ec', purpose: 'ec-sign', bytes: pkcs8 },
    answers: [
      { capability: `ECDSA-${curve}`, step: { op: 'sign', mechanism, data, length }, expected: verifies },
      { capability: `ECDSA-${curve}`, step: { op: 'verify', mechanism, data, signature }, expected: isTrue },
    ],
  };
}
