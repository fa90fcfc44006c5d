/**
 * The making of key material: announce → token → commit (design §7), the same for a new key and for a new version. A
 * crash at any point leaves either the whole or an announced intent.
 */

import { randomUUID } from 'node:crypto';
import { randomHex } from '../bytes.ts';
import { type ClearMaterial, type CryptoEngine, type KeyShape, planObjects, type PlannedObject } from '../crypto/engine.ts';
import { asKmsError, type KmsError } from '../errors.ts';
import type { Announcement, KeyStore, NewVersion } from '../store/store.ts';
import type { VersionSpec } from './birth.ts';
import type { Family, Key, Usage, Vault } from './key.ts';
import { familiesFor } from './usage.ts';

export interface MaterialOptions {
  readonly engine: CryptoEngine;
  readonly store: KeyStore;
  readonly bootId: string;
  readonly now: () => number;
}

/** Which key the material is for. */
export interface Target {
  readonly vault: Vault;
  readonly keyId: string;
  /** Its usages are what the objects are made for. */
  readonly shape: KeyShape;
  readonly version: VersionSpec;
  /** Of the version; those of the shape where it is absent. */
  readonly usages?: readonly Usage[];
  readonly requestId: string;
  /** Material of elsewhere; absent for material that the token makes. The caller wipes it. */
  readonly clear?: Pick<ClearMaterial, 'material' | 'publicKey'>;
}

export interface Steps {
  readonly announce: (intent: Announcement) => Promise<void>;
  readonly commit: (intentId: string, version: NewVersion) => Promise<Key>;
}

const PUBLIC_ONLY: readonly Family[] = ['public-only'];

export class Material {
  readonly #options: MaterialOptions;

  constructor(options: MaterialOptions) {
    this.#options = options;
  }

  async make(target: Target, { announce, commit }: Steps): Promise<Key> {
    const { engine, bootId, now } = this.#options;
    const { shape, vault, keyId, clear, version } = target;
    engine.assertAvailable();
    const families = clear?.material === null ? PUBLIC_ONLY : familiesFor(shape.kind, shape.usages, vault);
    const planned = planObjects(engine.servable(shape, families));
    const intent = { id: randomUUID(), vaultId: vault.id, keyId, objectIds: idsOf(planned), bootId, createdMs: now() };
    await announce(intent);
    const id = randomHex(16);
    try {
      const material = clear === undefined
        ? await engine.generate(shape, id, planned)
        : await engine.importKey(shape, id, planned, clear.material, clear.publicKey);
      const createdMs = now();
      const uses = { usages: target.usages ?? shape.usages, madeFor: shape.usages };
      const { enabled, nbfMs, expMs, tags } = version;
      return await commit(intent.id, { id, enabled, nbfMs, expMs, tags, createdMs, updatedMs: createdMs, ...uses, ...material });
    } catch (error) {
      return await this.#afterFailure(asKmsError(error), intent, id, target.requestId);
    }
  }

  /**
   * A commit that failed without an answer may have happened: then the version is there and nothing is destroyed. Only
   * when the store says that it is not there are its objects removed, and the intent last; what fails here stays
   * announced, and the reconciler sees to it when this process has ended.
   */
  async #afterFailure(error: KmsError, intent: Announcement, versionId: string, requestId: string): Promise<Key> {
    const { store, engine } = this.#options;
    try {
      const committed = await store.findKey(intent.vaultId, intent.keyId);
      if (committed?.versions.some(({ id }) => id === versionId) === true) return committed;
      // Found nowhere, but still announced: it was not committed. Neither: it was, and the key destroyed since.
      const mine = (await store.intents()).find(({ id }) => id === intent.id);
      if (mine === undefined) throw error;
      await store.abortIntent(intent.id, mine.revision, requestId);
      await engine.destroy(intent.objectIds);
      await store.removeIntent(intent.id, requestId);
    } catch {
      throw error;
    }
    throw error;
  }
}

export function idsOf(objects: readonly Pick<PlannedObject, 'objectId'>[]): readonly string[] {
  return [...new Set(objects.map(({ objectId }) => objectId))];
}
