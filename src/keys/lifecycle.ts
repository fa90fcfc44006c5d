/**
 * The life of a key: create, rotate, list, rename, activate, deactivate, delete. Each change runs intent → token →
 * commit → audit → reply (design §7), and is acknowledged only when no process serves what was before.
 */

import { randomUUID } from 'node:crypto';
import { wipe } from '../bytes.ts';
import type { ClearMaterial, CryptoEngine } from '../crypto/engine.ts';
import { asKmsError, invalidField, KmsError } from '../errors.ts';
import type { KeyChange, KeyStore } from '../store/store.ts';
import type { Call, Gate, Outcome } from './access.ts';
import { assertAllowed, assertMayEnter, type ImportSpec, type KeySpec, newKey, originOf, versionFacts } from './birth.ts';
import type { Key, KeyState, RevocationReason } from './key.ts';
import { Material } from './material.ts';
import { activation, deactivation, newestVersion, tombstoneState } from './state.ts';
import { isPublicOnly } from './usage.ts';

export interface KeyListing {
  readonly keys: readonly Key[];
  /** Ordinal of the last key looked at; null when there are no more. */
  readonly next: number | null;
}

export interface LifecycleOptions {
  readonly gate: Gate;
  readonly engine: CryptoEngine;
  readonly store: KeyStore;
  readonly bootId: string;
  readonly now: () => number;
  /** Told when a change restricted what a key may do. */
  readonly onRestriction: () => void;
}

/** Two state calls at once are settled by trying again on the newer row. */
const ATTEMPTS = 10;

export class KeyLifecycle {
  readonly #options: LifecycleOptions;
  readonly #material: Material;

  constructor(options: LifecycleOptions) {
    this.#options = options;
    this.#material = new Material(options);
  }

  /** @throws KmsError `conflict` when the id is or was in use in this vault */
  create(call: Call, spec: KeySpec): Promise<Key> {
    const { gate } = this.#options;
    return gate.manageVault(call, 'key.create', 'key/create', async () => {
      const key = await this.#make(call, spec);
      gate.changed();
      return { value: key, facts: { key: key.id, ...versionFacts(key, key.versions[0]) } };
    });
  }

  /**
   * Brings a key of elsewhere into the token, by unwrapping; the token proves that it holds it before the key is there.
   * @throws KmsError as reading it does; `conflict` when the id is or was in use in this vault; `forbidden` where the
   * vault takes no key that was in the clear outside the token
   */
  import(call: Call, spec: ImportSpec): Promise<Key> {
    const { gate } = this.#options;
    return gate.manageVault(call, 'key.import', 'key/import', async () => {
      assertMayEnter(call.vault, spec);
      const { clear, usages } = await spec.open(call);
      try {
        const { kind, bits, curve } = clear;
        if (spec.bits !== null && spec.bits !== bits) throw invalidField('size', 'expected the size of the imported key');
        const key = await this.#make(call, { ...spec, kind, bits, curve, usages }, clear);
        gate.changed();
        return { value: key, facts: { key: key.id, ...versionFacts(key, key.versions[0]) } };
      } finally {
        if (clear.material !== null) wipe(clear.material);
      }
    });
  }

  /** A new version of an active key; older ones go on processing. @throws KmsError `wrong-state` when it is not active */
  rotate(call: Call, keyId: string): Promise<Key> {
    const { gate, store } = this.#options;
    return gate.manage(call, 'key.rotate', 'key/rotate', keyId, async (key) => {
      if (isPublicOnly(key)) throw new KmsError('wrong-usage', 'a public key alone cannot be rotated: import the new one');
      const { requestId, vault } = call;
      const rotated = await this.#material.make({ vault, keyId: key.id, shape: key, requestId }, {
        announce: (intent) => store.beginRotate(intent, requestId),
        commit: (intentId, version) => store.commitVersion(intentId, key.vaultId, key.id, version, requestId),
      });
      await this.#everywhere();
      return { value: rotated, facts: versionFacts(rotated, newestVersion(rotated)) };
    });
  }

  get(call: Call, keyId: string): Promise<Key> {
    return this.#options.gate.look(call, 'key.get', 'key/get', keyId, (key) => Promise.resolve({ value: key }));
  }

  /** @param afterOrdinal -1 for the first page */
  list(call: Call, states: readonly KeyState[], afterOrdinal: number, limit: number): Promise<KeyListing> {
    return this.#options.gate.list(call, async (mayGet) => {
      const listing = await this.#page(call, states, afterOrdinal, limit, mayGet);
      return { value: listing, facts: { detail: { keys: listing.keys.length } } };
    });
  }

  /** @param label null leaves the key as it is */
  rename(call: Call, keyId: string, label: string | null): Promise<Key> {
    const { gate } = this.#options;
    const change = label === null ? null : { label };
    return gate.manage(call, 'key.update', 'key/update', keyId, (key) => this.#change(call, key, () => change));
  }

  activate(call: Call, keyId: string): Promise<Key> {
    return this.#options.gate.manage(call, 'key.activate', 'key/activate', keyId, (key) =>
      this.#change(call, key, (current) => activation(current, call.vault)));
  }

  deactivate(call: Call, keyId: string, reason: RevocationReason): Promise<Key> {
    const { gate, now } = this.#options;
    return gate.manage(call, 'key.deactivate', 'key/deactivate', keyId, async (key) => {
      const changed = await this.#change(call, key, (current) => deactivation(current, reason, now()));
      this.#options.onRestriction();
      return { ...changed, facts: { detail: { reason } } };
    });
  }

  /** Destroys the token objects at once; there is no way back. */
  delete(call: Call, keyId: string): Promise<void> {
    const { gate } = this.#options;
    return gate.manage(call, 'key.destroy', 'key/delete', keyId, async (key) => {
      // Such a key is owed its days of soft deletion, which come with the Key Vault API: until then it stays.
      if (call.vault.purgeProtection) {
        throw new KmsError('not-implemented', 'a key of a vault with purge protection cannot be deleted in this release: deactivate it');
      }
      const objectIds = await this.#bury(call, key);
      return { value: undefined, facts: { objectIds } };
    });
  }

  #make(call: Call, spec: KeySpec, clear?: ClearMaterial): Promise<Key> {
    const { store, now } = this.#options;
    const { vault, requestId } = call;
    assertAllowed(vault, spec);
    const keyId = spec.id ?? randomUUID();
    return this.#material.make({ vault, keyId, shape: spec, requestId, ...(clear && { clear }) }, {
      announce: (intent) => store.beginCreate(intent, requestId),
      commit: (intentId, version) =>
        store.commitCreate(intentId, newKey(call, spec, { keyId, origin: originOf(clear), nowMs: now() }), version, requestId),
    });
  }

  /** Our own next question sees it, and every other process has been told. */
  async #everywhere(): Promise<void> {
    this.#options.gate.changed();
    await this.#options.store.effectiveEverywhere();
  }

  async #change(call: Call, key: Key, decide: (current: Key) => KeyChange | null): Promise<Outcome<Key>> {
    const { store } = this.#options;
    let current = key;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const change = decide(current);
      if (change === null) return { value: current };
      try {
        const changed = await store.updateKey(current.vaultId, current.id, current.revision, change, call.requestId);
        await this.#everywhere();
        return { value: changed };
      } catch (error) {
        if (asKmsError(error).code !== 'conflict') throw error;
      }
      current = await this.#reread(current);
    }
    throw new KmsError('overloaded', 'the key is being changed by others', { retryAfter: 1 });
  }

  async #reread(key: Key): Promise<Key> {
    const current = await this.#options.store.findKey(key.vaultId, key.id);
    if (current === undefined || current.versions.length === 0) throw new KmsError('not-found', 'no such key');
    return current;
  }

  async #bury(call: Call, key: Key): Promise<readonly string[]> {
    const { store, engine, bootId, now } = this.#options;
    // Nothing is announced that could not be seen through now.
    engine.assertAvailable();
    const tombstone = { state: tombstoneState(key), destroyedMs: now() };
    const intent = { id: randomUUID(), bootId, createdMs: now() };
    const objectIds = await this.#tombstone(call, key, tombstone, intent);
    this.#options.onRestriction();
    await this.#everywhere();
    await engine.destroy(objectIds);
    await store.removeIntent(intent.id, call.requestId);
    return objectIds;
  }

  /** A change in between may have made the key active again, so the decision is the caller's to repeat. */
  async #tombstone(
    call: Call,
    { vaultId, id, revision }: Key,
    tombstone: Parameters<KeyStore['beginDestroy']>[3],
    intent: Parameters<KeyStore['beginDestroy']>[4],
  ): Promise<readonly string[]> {
    try {
      return (await this.#options.store.beginDestroy(vaultId, id, revision, tombstone, intent, call.requestId)).objectIds;
    } catch (error) {
      if (asKmsError(error).code !== 'conflict') throw error;
      throw new KmsError('overloaded', 'the key is being changed by others', { retryAfter: 1 });
    }
  }

  async #page(
    call: Call,
    states: readonly KeyState[],
    afterOrdinal: number,
    limit: number,
    mayGet: (key: Key) => boolean,
  ): Promise<KeyListing> {
    const { store } = this.#options;
    const keys: Key[] = [];
    for (let after = afterOrdinal; ; ) {
      // One more than asked for tells whether there is another page.
      const found = await store.listKeys({ vaultId: call.vault.id, states, afterOrdinal: after, limit: limit + 1 });
      for (const key of found.filter(mayGet)) {
        if (keys.length === limit) return { keys, next: keys.at(-1)?.ordinal ?? null };
        keys.push(key);
      }
      const last = found.at(-1);
      if (last === undefined || found.length <= limit) return { keys, next: null };
      after = last.ordinal;
    }
  }
}
