/** What one test key is asked in the self-test, and what the token must answer. */

import type { Profile, Purpose, TrialStep } from '../pkcs11/token.ts';

/** What a token can or cannot do, in the units in which algorithms depend on it. */
export type Capability =
  | 'AES-GCM'
  /** That the token makes its own IV, where the profile says so. */
  | 'AES-GCM-IV'
  | 'AES-CBC'
  | 'AES-KW'
  | 'AES-KWP'
  | 'HMAC'
  | 'RSA-PKCS1'
  | 'RSA-PSS'
  | 'RSA-OAEP'
  | 'RSA-OAEP-256'
  | 'RSA1_5'
  | `ECDSA-${Profile['curves'][number]}`;

export interface TestKey {
  readonly type: 'aes' | 'secret' | 'rsa' | 'ec';
  readonly purpose: Purpose;
  /** Raw bytes, or PKCS#8 DER. */
  readonly bytes: Buffer;
}

export interface KnownAnswer {
  readonly capability: Capability;
  readonly step: TrialStep;
  /** Whether the result is right. */
  readonly expected: (result: Uint8Array | boolean) => boolean;
}

export interface TrialGroup {
  readonly key: TestKey;
  readonly answers: readonly KnownAnswer[];
}

export function exactly(expected: Buffer): KnownAnswer['expected'] {
  return (result) => typeof result !== 'boolean' && expected.equals(result);
}

export const isTrue: KnownAnswer['expected'] = (result) => result === true;
