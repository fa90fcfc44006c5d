/**
 * The life of a key: create, list, rename, activate, deactivate, delete. Each change runs intent → token → commit →
 * audit → reply (design §7), so that a crash at any point leaves either a whole key or an announced intent.
 */

import { randomBytes, randomUUID } from 'node:crypto';
import { type CryptoEngine, type KeyShape, planObjects, type PlannedObject } from '../crypto/engine.ts';
import { asKmsError, KmsError } from '../errors.ts';
import type { Intent, KeyChange, KeyStore, NewKey } from '../store/store.ts';
import type { Call, Gate, Outcome } from './access.ts';
import type { Key, KeyState, RevocationReason, Usage } from './key.ts';
import { activation, deactivation, tombstoneState } from './state.ts';
import { familiesFor } from './usage.ts';

/** A key to be made; checked by the door, complete. */
export interface KeySpec extends KeyShape {
  /** UUID chosen by the caller, or null. */
  readonly id: string | null;
  readonly label: string;
  readonly context: string | null;
  readonly usages: readonly Usage[];
}

export interface KeyListing {
  readonly keys: readonly Key[];
  /** Ordinal of the last key looked at; null when there are no more. */
  readonly next: number | null;
}

type Announced = Pick<Intent, 'id' | 'vaultId' | 'keyId' | 'objectIds'>;

export interface LifecycleOptions {
  readonly gate: Gate;
  readonly engine: CryptoEngine;
  readonly store: KeyStore;
  readonly bootId: string;
  readonly now: () => number;
}

/** Two state calls at once are settled by trying again on the newer row. */
const ATTEMPTS = 10;

export class KeyLifecycle {
  readonly #options: LifecycleOptions;

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** @throws KmsError `conflict` when the id is or was in use in this vault */
  create(call: Call, spec: KeySpec): Promise<Key> {
    const { gate } = this.#options;
    return gate.manageVault(call, 'key.create', 'key/create', async () => {
      const key = await this.#generate(call, spec);
      gate.changed();
      const objectIds = key.versions.flatMap(({ objects }) => objects.map(({ objectId }) => objectId));
      const bits = key.bits === null ? {} : { bits: key.bits };
      const algorithm = key.curve ?? key.kind;
      return { value: key, facts: { key: key.id, version: 0, algorithm, ...bits, objectIds: [...new Set(objectIds)] } };
    });
  }

  get(call: Call, keyId: string): Promise<Key> {
    return this.#options.gate.manage(call, 'key.get', 'key/get', keyId, (key) => Promise.resolve({ value: key }));
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
    return gate.manage(call, 'key.update', 'key/update', keyId, (key) => this.#change(key, () => change));
  }

  activate(call: Call, keyId: string): Promise<Key> {
    return this.#options.gate.manage(call, 'key.activate', 'key/activate', keyId, (key) =>
      this.#change(key, (current) => activation(current, call.vault)));
  }

  deactivate(call: Call, keyId: string, reason: RevocationReason): Promise<Key> {
    const { gate, now } = this.#options;
    return gate.manage(call, 'key.deactivate', 'key/deactivate', keyId, async (key) => {
      const changed = await this.#change(key, (current) => deactivation(current, reason, now()));
      return { ...changed, facts: { detail: { reason } } };
    });
  }

  /** Destroys the token objects at once; there is no way back. */
  delete(call: Call, keyId: string): Promise<void> {
    const { gate } = this.#options;
    return gate.manage(call, 'key.destroy', 'key/delete', keyId, async (key) => {
      if (call.vault.purgeProtection) {
        throw new KmsError('not-implemented', 'deletion in a vault with purge protection is not implemented yet');
      }
      const objectIds = await this.#bury(key);
      return { value: undefined, facts: { objectIds } };
    });
  }

  /**
   * Completes destructions that were announced and not seen through, by whomever (security S-25). Harmless while
   * their owner is still at it.
   */
  async completeDestructions(): Promise<void> {
    const { store, engine } = this.#options;
    for (const intent of await store.intents()) {
      if (intent.action !== 'destroy') continue;
      await engine.destroy(intent.objectIds);
      await store.removeIntent(intent.id);
    }
  }

  async #generate(call: Call, spec: KeySpec): Promise<Key> {
    const { store, engine, bootId, now } = this.#options;
    const keyId = spec.id ?? randomUUID();
    engine.assertAvailable();
    const families = engine.servable(spec, familiesFor(spec.kind, spec.usages, call.vault));
    const planned = planObjects(families);
    const intent = {
      id: randomUUID(),
      vaultId: call.vault.id,
      keyId,
      objectIds: idsOf(planned),
      bootId,
      createdMs: now(),
    };
    await store.beginCreate(intent);
    const versionId = randomBytes(16).toString('hex');
    try {
      const material = await engine.generate(spec, versionId, planned);
      const row = newKey(call, spec, keyId, now());
      const version = { id: versionId, ordinal: 0, enabled: true, nbfMs: null, expMs: null };
      const times = { createdMs: row.createdMs, updatedMs: row.createdMs };
      return await store.commitCreate(intent.id, row, { ...version, ...times, ...material });
    } catch (error) {
      return await this.#afterFailure(asKmsError(error), intent);
    }
  }

  /**
   * A commit that failed without an answer may have happened: then the key is there and nothing is destroyed. Only
   * when the store says that the key is not there are its objects removed, and the intent last; what fails here stays
   * announced by its intent.
   */
  async #afterFailure(error: KmsError, intent: Announced): Promise<Key> {
    const { store, engine } = this.#options;
    try {
      const committed = await store.findKey(intent.vaultId, intent.keyId);
      if (committed !== undefined) return committed;
      await engine.destroy(intent.objectIds);
      await store.removeIntent(intent.id);
    } catch {
      throw error;
    }
    throw error;
  }

  async #change(key: Key, decide: (current: Key) => KeyChange | null): Promise<Outcome<Key>> {
    const { store, gate } = this.#options;
    let current = key;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const change = decide(current);
      if (change === null) return { value: current };
      try {
        const changed = await store.updateKey(current.vaultId, current.id, current.revision, change);
        gate.changed();
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

  async #bury(key: Key): Promise<readonly string[]> {
    const { store, engine, gate, bootId, now } = this.#options;
    // Nothing is announced that could not be seen through now.
    engine.assertAvailable();
    const objectIds = idsOf(key.versions.flatMap(({ objects }) => objects));
    const tombstone = { state: tombstoneState(key), destroyedMs: now() };
    const intent = { id: randomUUID(), objectIds, bootId, createdMs: now() };
    await this.#tombstone(key, tombstone, intent);
    gate.changed();
    await engine.destroy(objectIds);
    await store.removeIntent(intent.id);
    return objectIds;
  }

  /** A change in between may have made the key active again, so the decision is the caller's to repeat. */
  async #tombstone(
    key: Key,
    tombstone: Parameters<KeyStore['beginDestroy']>[3],
    intent: Parameters<KeyStore['beginDestroy']>[4],
  ): Promise<void> {
    try {
      await this.#options.store.beginDestroy(key.vaultId, key.id, key.revision, tombstone, intent);
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

function idsOf(objects: readonly Pick<PlannedObject, 'objectId'>[]): readonly string[] {
  return [...new Set(objects.map(({ objectId }) => objectId))];
}

function newKey(call: Call, spec: KeySpec, keyId: string, nowMs: number): NewKey {
  return {
    vaultId: call.vault.id,
    id: keyId,
    name: keyId,
    label: spec.label,
    context: spec.context,
    kind: spec.kind,
    bits: spec.bits,
    curve: spec.curve,
    usages: spec.usages,
    origin: 'generated',
    backupClass: 'never',
    state: 'active',
    createdMs: nowMs,
    activatedMs: nowMs,
    deactivatedMs: null,
    deactivationReason: null,
    compromisedMs: null,
    destroyedMs: null,
  };
}
