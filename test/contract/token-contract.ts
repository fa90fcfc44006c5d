/**
 * What every PKCS#11 module must do for us, one suite for all of them (style "Tests"). A module lacks something only
 * under a name: its tests then show that it is refused, and the run prints the name.
 */

import { afterAll, beforeAll, describe, test } from '@jest/globals';
import type { TestToken } from '../support/token.ts';
import { cipherSuite } from './token/cipher-suite.ts';
import { concurrencySuite } from './token/concurrency-suite.ts';
import { dataSuite } from './token/data-suite.ts';
import { destructionSuite } from './token/destruction-suite.ts';
import { generationSuite } from './token/generation-suite.ts';
import { guardSuite } from './token/guard-suite.ts';
import { importSuite } from './token/import-suite.ts';
import { keyWrapSuite } from './token/key-wrap-suite.ts';
import { lifeSuite } from './token/life-suite.ts';
import { refusedImportSuite } from './token/refused-import-suite.ts';
import { rsaDecryptionSuite } from './token/rsa-decryption-suite.ts';
import { selfTestSuite } from './token/self-test-suite.ts';
import { signatureSuite } from './token/signature-suite.ts';
import { surveySuite } from './token/survey-suite.ts';
import { swapSuite } from './token/swap-suite.ts';

/** What a module may lack. */
export type Optional =
  /** The curve, for generation, import, signing and verification. */
  | 'ECDSA-P-256K'
  /** RFC 5649 for lengths that are no multiple of 8 bytes, or shorter than 16, when wrapping. */
  | 'KWP-any-length'
  /** OAEP with SHA-256 in the token: without it the token decrypts raw and the padding is taken off here. */
  | 'RSA-OAEP-256-in-token'
  /** The attribute that binds a key to its mechanisms. */
  | 'CKA_ALLOWED_MECHANISMS'
  | 'CKA_COPYABLE'
  /** Whether a permanent object was made in the token. */
  | 'CKA_LOCAL'
  /** An unwrapped private key has the usages of its template, and not all of its type. */
  | 'private-usages-on-import'
  /** Bad PKCS #1 v1.5 padding is an error; a module without it answers with bytes that nobody can predict, which is better. */
  | 'RSA1_5-explicit-rejection'
  /** Two objects of one class with one CKA_ID. */
  | 'several-objects-of-one-id'
  /** Permanent data objects: without them the token can hold no anchor. */
  | 'data-objects';

export interface Contract {
  /** Read inside tests only. */
  readonly at: () => TestToken;
  readonly lacks: (name: Optional) => boolean;
  /** A test of something optional; `otherwise` shows how a module without it answers. */
  readonly optional: (name: Optional, title: string, run: () => Promise<void> | void, otherwise: () => Promise<void> | void) => void;
}

export function tokenContract(name: string, setup: () => Promise<TestToken>, optOuts: ReadonlySet<Optional>): void {
  const without = [...optOuts].join(', ') || 'nothing';
  console.warn(`token contract on ${name} opts out of: ${without}`);
  describe(`token contract on ${name}`, () => {
    let made: TestToken | undefined;
    beforeAll(async () => {
      made = await setup();
    });
    afterAll(async () => {
      await made?.remove();
    });
    const contract: Contract = {
      at: () => made!,
      lacks: (optional) => optOuts.has(optional),
      optional: (optional, title, run, otherwise) => {
        if (optOuts.has(optional)) test(`without ${optional}: ${title}`, otherwise);
        else test(title, run);
      },
    };
    lifeSuite(contract);
    generationSuite(contract);
    guardSuite(contract);
    cipherSuite(contract);
    keyWrapSuite(contract);
    signatureSuite(contract);
    rsaDecryptionSuite(contract);
    importSuite(contract);
    refusedImportSuite(contract);
    concurrencySuite(contract);
    destructionSuite(contract);
    dataSuite(contract);
    surveySuite(contract);
    swapSuite(contract);
    selfTestSuite(contract);
  });
}
