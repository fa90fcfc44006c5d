/**
 * How keys change, the same for every door: intent → token → commit, decided anew when somebody was quicker, and
 * acknowledged only when no process serves what was before (design §7).
 */

import { randomUUID } from 'node:crypto';
import type { ClearMaterial, CryptoEngine } from '../crypto/engine.ts';
import { asKmsError, KmsError } from '../errors.ts';
import type { KeyChange, KeyStore, VersionChange } from '../store/store.ts';
import type { Call, Gate, Outcome } from './access.ts';
import { assertAllowed, type KeySpec, newKey, originOf, type VersionSpec } from './birth.ts';
import type { Key, KeyVersion, Usage } from './key.ts';
import { Material } from './material.ts';
import { versionOf } from './state.ts';
import { shapeOf } from './usage.ts';

export interface AlterationOptions {
  readonly gate: Gate;
  readonly engine: CryptoEngine;
  readonly store: KeyStore;
  readonly bootId: string;
  readonly now: () => number;
  /** Told when a change restricted what a key may do. */
  readonly onRestriction: () => void;
}

/** What a new version of a key is. */
export interface NextVersion extends VersionSpec {
  readonly usages: readonly Usage[];
  readonly madeFor: readonly Usage[];
  /** Material of elsewhere. */
  readonly clear?: ClearMaterial;
}

/** Two changes at once are settled by trying again on the newer row. */
const ATTEMPTS = 10;

export class Alterations {
  readonly #options: AlterationOptions;
  readonly #material: Material;

  constructor(options: AlterationOptions) {
    this.#options = options;
    this.#material = new Material(options);
  }

  /** @throws KmsError `conflict` when id or name is or was in use in this vault */
  async create(call: Call, spec: KeySpec, clear?: ClearMaterial): Promise<Key> {
    const { store, now, gate } = this.#options;
    const { vault, requestId } = call;
    assertAllowed(vault, spec);
    const keyId = spec.id ?? randomUUID();
    const key = await this.#material.make({ vault, keyId, shape: spec, version: spec, requestId, ...(clear && { clear }) }, {
      announce: (intent) => store.beginCreate(intent, requestId),
      commit: (intentId, version) =>
        store.commitCreate(intentId, newKey(call, spec, { keyId, origin: originOf(clear), nowMs: now() }), version, requestId),
    });
    gate.changed();
    return key;
  }

  /** Makes the newest version of a key. @throws KmsError `wrong-state` when the key is not active */
  async addVersion(call: Call, key: Key, next: NextVersion): Promise<Key> {
    const { store } = this.#options;
    const { vault, requestId } = call;
    const { usages, clear } = next;
    const origin = clear === undefined ? {} : { origin: originOf(clear) };
    const shape = shapeOf(key, next);
    assertAllowed(vault, shape);
    const target = { vault, keyId: key.id, shape, usages, version: next, requestId, ...(clear && { clear }) };
    const changed = await this.#material.make(target, {
      announce: (intent) => store.beginRotate(intent, requestId),
      commit: (intentId, version) => store.commitVersion(intentId, key.vaultId, key.id, version, requestId, origin),
    });
    await this.#everywhere();
    return changed;
  }

  /** @param decide null leaves the key as it is */
  async change(call: Call, key: Key, decide: (current: Key) => KeyChange | null): Promise<Outcome<Key>> {
    const { store } = this.#options;
    const changed = await this.#retried(key, async (current) => {
      const change = decide(current);
      return change === null ? current : store.updateKey(current.vaultId, current.id, current.revision, change, call.requestId);
    });
    return { value: changed };
  }

  /** @param versionId null for the newest */
  async changeVersion(
    call: Call,
    key: Key,
    versionId: string | null,
    decide: (current: Key, version: KeyVersion) => VersionChange,
  ): Promise<Key> {
    const { store } = this.#options;
    return this.#retried(key, (current) => {
      const version = versionOf(current, versionId);
      const at = { vaultId: current.vaultId, keyId: current.id, ordinal: version.ordinal };
      return store.updateVersion(at, current.revision, decide(current, version), call.requestId);
    });
  }

  /** Destroys the token objects at once; there is no way back. @returns their CKA_IDs */
  async bury(call: Pick<Call, 'requestId'>, key: Key, state: 'destroyed' | 'destroyed_compromised'): Promise<readonly string[]> {
    const { store, engine, bootId, now } = this.#options;
    // Nothing is announced that could not be seen through now.
    engine.assertAvailable();
    const intent = { id: randomUUID(), bootId, createdMs: now() };
    const objectIds = await this.#tombstone(call, key, { state, destroyedMs: now() }, intent);
    this.#options.onRestriction();
    await this.#everywhere();
    await engine.destroy(objectIds);
    await store.removeIntent(intent.id, call.requestId);
    return objectIds;
  }

  /** Our own next question sees it, and every other process has been told. */
  async #everywhere(): Promise<void> {
    this.#options.gate.changed();
    await this.#options.store.effectiveEverywhere();
  }

  async #retried(key: Key, write: (current: Key) => Promise<Key>): Promise<Key> {
    let current = key;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      try {
        const changed = await write(current);
        if (changed !== current) await this.#everywhere();
        return changed;
      } catch (error) {
        if (asKmsError(error).code !== 'conflict' || asKmsError(error).reason !== undefined) throw error;
      }
      current = await this.#reread(current);
    }
    throw beingChanged();
  }

  async #reread(key: Key): Promise<Key> {
    const current = await this.#options.store.findKey(key.vaultId, key.id);
    const same = current !== undefined && current.versions.length > 0 && (current.deletion === null) === (key.deletion === null);
    if (!same) throw new KmsError('not-found', 'no such key');
    return current;
  }

  /** A change in between may have made the key active again, so the decision is the caller's to repeat. */
  async #tombstone(
    call: Pick<Call, 'requestId'>,
    { vaultId, id, revision }: Key,
    tombstone: Parameters<KeyStore['beginDestroy']>[3],
    intent: Parameters<KeyStore['beginDestroy']>[4],
  ): Promise<readonly string[]> {
    try {
      return (await this.#options.store.beginDestroy(vaultId, id, revision, tombstone, intent, call.requestId)).objectIds;
    } catch (error) {
      if (asKmsError(error).code !== 'conflict') throw error;
      throw beingChanged();
    }
  }
}

function beingChanged(): KmsError {
  return new KmsError('overloaded', 'the key is being changed by others', { retryAfter: 1 });
}
