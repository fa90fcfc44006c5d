/** Parts of the built package for tests that run token threads: a thread's entry exists only there. */

import type * as EngineModule from '../../src/crypto/engine.ts';
import type * as ImportModule from '../../src/crypto/import-wrapping.ts';
import type * as InternalKeysModule from '../../src/crypto/internal-keys.ts';
import type * as AnchorModule from '../../src/crypto/anchor.ts';
import type * as IntegrityKeysModule from '../../src/crypto/integrity-keys.ts';
import type * as AlgorithmsModule from '../../src/crypto/algorithms.ts';
import type * as ErrorsModule from '../../src/errors.ts';
import type * as TokenModule from '../../src/pkcs11/token.ts';

async function built(path: string): Promise<unknown> {
  return import(new URL(`../../build/modules/${path}`, import.meta.url).href);
}

export const { CryptoEngine, planObjects } = (await built('crypto/engine.js')) as typeof EngineModule;
export const { publicHalf, wrapForImport } = (await built('crypto/import-wrapping.js')) as typeof ImportModule;
export const { makeInternalKey } = (await built('crypto/internal-keys.js')) as typeof InternalKeysModule;
export const { Anchors, decodeAnchor, encodeAnchor } = (await built('crypto/anchor.js')) as typeof AnchorModule;
export const { deriveMacs } = (await built('crypto/integrity-keys.js')) as typeof IntegrityKeysModule;
export const { signatureAlgorithm } = (await built('crypto/algorithms.js')) as typeof AlgorithmsModule;
export const { decryptionFailed } = (await built('errors.js')) as typeof ErrorsModule;
export const { labelPrefixes, loadProfile, Token } = (await built('pkcs11/token.js')) as typeof TokenModule;
