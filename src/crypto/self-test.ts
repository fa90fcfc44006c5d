/**
 * The self-test: every known answer through the token, with test keys that exist for the moment. It is also the
 * capability probe: what the profile claims and the token refuses is unsupported, and answered so by exactly the
 * algorithms concerned; a wrong answer means that nothing of this token can be trusted (security H-9, FIPS 140-3).
 */

import { createPrivateKey, createPublicKey } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { InternalKey } from '../keys/key.ts';
import { isUnsupported, type KeyRef, type Token, type TrialResult } from '../pkcs11/token.ts';
import { wrapForImport } from './import-wrapping.ts';
import { knownAnswers } from './known-answers.ts';
import { checkProof } from './proof.ts';
import type { Capability, KnownAnswer, TestKey, TrialGroup } from './trial-group.ts';

export interface SelfTestReport {
  /** Capabilities that gave every right answer. */
  readonly supported: ReadonlySet<Capability>;
  /** Claimed by the profile, refused by the token: the return value. */
  readonly refused: ReadonlyMap<Capability, number>;
  /** Capabilities with a wrong answer or an error: the token must not be used. */
  readonly failed: readonly Capability[];
}

/** @throws KmsError when the token cannot be asked at all */
export async function runSelfTest(token: Token, importKey: InternalKey): Promise<SelfTestReport> {
  const supported = new Set<Capability>();
  const refused = new Map<Capability, number>();
  const failed = new Set<Capability>();
  await checkProof(token, 'import', importRef(importKey), importKey.proof);
  for (const group of knownAnswers(token.profile)) {
    const results = await tryGroup(token, importKey, group);
    group.answers.forEach((answer, index) => {
      const verdict = judge(answer, results[index]);
      if (verdict === 'right') supported.add(answer.capability);
      else if (verdict === 'wrong') failed.add(answer.capability);
      else refused.set(answer.capability, verdict);
    });
  }
  for (const capability of [...failed, ...refused.keys()]) supported.delete(capability);
  return { supported, refused, failed: [...failed] };
}

function importRef({ objectId }: InternalKey): KeyRef {
  return { objectId, part: 'private' };
}

/** A key the token cannot take is refused for all its answers. */
async function tryGroup(token: Token, importKey: InternalKey, group: TrialGroup): Promise<readonly TrialResult[]> {
  const spki = importKey.publicKey;
  if (spki === null) throw new KmsError('internal', 'the import key has no public half');
  const clear = { ...group.key, publicKey: publicKeyOf(group.key) };
  return token.trial(importRef(importKey), wrapForImport(spki, clear, token.profile), group.answers.map(({ step }) => step));
}

function publicKeyOf({ type, bytes }: TestKey): Uint8Array | null {
  if (type === 'aes' || type === 'secret') return null;
  return createPublicKey(createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' })).export({ format: 'der', type: 'spki' });
}

function judge({ expected }: KnownAnswer, result: TrialResult | undefined): 'right' | 'wrong' | number {
  if (result === undefined) return 'wrong';
  if ('ok' in result) return expected(result.ok) ? 'right' : 'wrong';
  return isUnsupported(result.code) ? result.code : 'wrong';
}
