/** Transport keys: RSA keys of ours that others wrap a key for, to be imported (okms-rest-api §2.11, design §5). */

import { type CryptoEngine, type EncryptedContent, openContent, type RsaEncryption } from '../crypto/engine.ts';
import { wipe } from '../bytes.ts';
import { asKmsError, decryptionFailed, invalidField } from '../errors.ts';
import type { Call, Gate } from './access.ts';
import { type FailureBudget, onTick } from './failure-budget.ts';
import type { Key, KeyVersion } from './key.ts';
import { objectOf } from './operations.ts';
import { OPERATIONS, shapeOf } from './usage.ts';

export { CONTENT_ENCRYPTIONS, type ContentEncryption, type RsaEncryption } from '../crypto/engine.ts';

/** A key under a content-encryption key, which is under a transport key. */
export interface Wrapped extends EncryptedContent {
  readonly alg: RsaEncryption;
  readonly encryptedKey: Uint8Array;
  /** Names it in errors. */
  readonly field: string;
}

export class TransportKeys {
  readonly #gate: Gate;
  readonly #engine: CryptoEngine;
  readonly #budget: FailureBudget;

  constructor(gate: Gate, engine: CryptoEngine, budget: FailureBudget) {
    this.#gate = gate;
    this.#engine = engine;
    this.#budget = budget;
  }

  /**
   * What is wrapped for this key; which version it was wrapped for nothing says, so every usable one is tried.
   * The caller wipes the result.
   * @throws KmsError `decryption-failed`, the same whatever does not fit
   */
  open(call: Call, keyId: string, wrapped: Wrapped): Promise<Buffer> {
    const { alg, field } = wrapped;
    return onTick(() => this.#gate.use(call, OPERATIONS.openImport, keyId, async (key, versions) => {
      if (alg === 'RSA1_5' && !call.vault.rsa15) throw invalidField(field, 'expected alg RSA-OAEP or RSA-OAEP-256');
      return this.#budget.spend(call, key, async () => {
        for (const version of versions) {
          const content = await this.#content(key, version, wrapped);
          if (content === undefined) continue;
          return { value: content, facts: { version: version.ordinal, algorithm: alg } };
        }
        throw decryptionFailed();
      });
    }));
  }

  async #content(key: Key, version: KeyVersion, wrapped: Wrapped): Promise<Buffer | undefined> {
    const contentKey = await this.#contentKey(key, version, wrapped);
    try {
      return openContent(contentKey, wrapped);
    } finally {
      if (contentKey !== undefined) wipe(contentKey);
    }
  }

  async #contentKey(key: Key, version: KeyVersion, { alg, encryptedKey }: Wrapped): Promise<Uint8Array | undefined> {
    try {
      return await this.#engine.decryptRsa(objectOf(version, 'private'), shapeOf(key, version), alg, encryptedKey);
    } catch (error) {
      if (asKmsError(error).code === 'decryption-failed') return undefined;
      throw error;
    }
  }
}
