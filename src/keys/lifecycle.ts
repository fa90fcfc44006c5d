/** The life of a key by its id and state: create, rotate, list, rename, activate, deactivate, delete. */

import { wipe } from '../bytes.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import type { Call, Gate, KeyAddress } from './access.ts';
import type { Alterations } from './alteration.ts';
import { assertMayEnter, type ImportSpec, type KeySpec, versionFacts } from './birth.ts';
import type { Key, KeyState, RevocationReason } from './key.ts';
import { activation, deactivation, newestVersion, softDeletion, tombstoneState, wrongState } from './state.ts';
import { isPublicOnly } from './usage.ts';

export interface KeyListing {
  readonly keys: readonly Key[];
  /** Ordinal of the last key looked at; null when there are no more. */
  readonly next: number | null;
}

export interface LifecycleOptions {
  readonly gate: Gate;
  readonly store: KeyStore;
  readonly alterations: Alterations;
  readonly now: () => number;
  /** Told when a change restricted what a key may do. */
  readonly onRestriction: () => void;
}

export class KeyLifecycle {
  readonly #options: LifecycleOptions;

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** @throws KmsError `conflict` when the id is or was in use in this vault */
  create(call: Call, spec: KeySpec): Promise<Key> {
    const { gate, alterations } = this.#options;
    return gate.manageVault(call, 'key.create', 'key/create', async () => {
      const key = await alterations.create(call, spec);
      return { value: key, facts: { key: key.id, ...versionFacts(key, key.versions[0]) } };
    });
  }

  /**
   * Brings a key of elsewhere into the token, by unwrapping; the token proves that it holds it before the key is there.
   * @throws KmsError as reading it does; `conflict` when the id is or was in use in this vault; `forbidden` where the
   * vault takes no key that was in the clear outside the token
   */
  import(call: Call, spec: ImportSpec): Promise<Key> {
    const { gate, alterations } = this.#options;
    return gate.manageVault(call, 'key.import', 'key/import', async () => {
      assertMayEnter(call.vault, spec);
      const { clear, usages } = await spec.open(call);
      try {
        const { kind, bits, curve } = clear;
        if (spec.bits !== null && spec.bits !== bits) throw invalidField('size', 'expected the size of the imported key');
        const key = await alterations.create(call, { ...spec, kind, bits, curve, usages }, clear);
        return { value: key, facts: { key: key.id, ...versionFacts(key, key.versions[0]) } };
      } finally {
        if (clear.material !== null) wipe(clear.material);
      }
    });
  }

  /**
   * A new version of an active key, like the newest but for its time window; older ones go on processing.
   * @throws KmsError `wrong-state` when the key is not active
   */
  rotate(call: Call, address: KeyAddress): Promise<Key> {
    const { gate, alterations } = this.#options;
    return gate.manage(call, 'key.rotate', 'key/rotate', address, async (key) => {
      if (isPublicOnly(key)) throw new KmsError('wrong-usage', 'a public key alone cannot be rotated: import the new one');
      if (key.state !== 'active') throw wrongState(`the key is ${key.state}`);
      const { usages = key.usages, madeFor = key.usages, tags = [] } = newestVersion(key) ?? {};
      const rotated = await alterations.addVersion(call, key, { enabled: true, nbfMs: null, expMs: null, tags, usages, madeFor });
      return { value: rotated, facts: versionFacts(rotated, newestVersion(rotated)) };
    });
  }

  get(call: Call, address: KeyAddress): Promise<Key> {
    return this.#options.gate.look(call, 'key.get', 'key/get', address, (key) => Promise.resolve({ value: key }));
  }

  /** @param afterOrdinal -1 for the first page */
  list(call: Call, states: readonly KeyState[], afterOrdinal: number, limit: number): Promise<KeyListing> {
    const { gate, store } = this.#options;
    return gate.list(call, async (mayGet) => {
      const listing = await pageOf(limit, afterOrdinal, mayGet, (after, count) =>
        store.listKeys({ vaultId: call.vault.id, states, afterOrdinal: after, limit: count }));
      return { value: listing, facts: { detail: { keys: listing.keys.length } } };
    });
  }

  /** @param label null leaves the key as it is */
  rename(call: Call, keyId: string, label: string | null): Promise<Key> {
    const { gate, alterations } = this.#options;
    const change = label === null ? null : { label };
    return gate.manage(call, 'key.update', 'key/update', keyId, (key) => alterations.change(call, key, () => change));
  }

  activate(call: Call, keyId: string): Promise<Key> {
    const { gate, alterations } = this.#options;
    return gate.manage(call, 'key.activate', 'key/activate', keyId, (key) =>
      alterations.change(call, key, (current) => activation(current, call.vault)));
  }

  deactivate(call: Call, keyId: string, reason: RevocationReason): Promise<Key> {
    const { gate, alterations, now, onRestriction } = this.#options;
    return gate.manage(call, 'key.deactivate', 'key/deactivate', keyId, async (key) => {
      const changed = await alterations.change(call, key, (current) => deactivation(current, reason, now()));
      onRestriction();
      return { ...changed, facts: { detail: { reason } } };
    });
  }

  /** Destroys the token objects at once; in a vault with purge protection, when the days of soft deletion are over. */
  async delete(call: Call, keyId: string): Promise<void> {
    const { gate, alterations, now, onRestriction } = this.#options;
    const soft = call.vault.purgeProtection;
    await gate.manage<undefined>(call, soft ? 'key.delete' : 'key.destroy', 'key/delete', keyId, async (key) => {
      if (soft) {
        const { value: { deletion } } = await alterations.change(call, key, (current) => {
          tombstoneState(current);
          return softDeletion(current, call.vault, now());
        });
        onRestriction();
        return { value: undefined, facts: { detail: { scheduledPurgeMs: deletion?.scheduledPurgeMs ?? 0 } } };
      }
      const objectIds = await alterations.bury(call, key, tombstoneState(key));
      return { value: undefined, facts: { objectIds } };
    });
  }
}

/** Pages of those keys that the caller may see. */
export async function pageOf(
  limit: number,
  afterOrdinal: number,
  mayGet: (key: Key) => boolean,
  load: (after: number, count: number) => Promise<readonly Key[]>,
): Promise<KeyListing> {
  const keys: Key[] = [];
  for (let after = afterOrdinal; ; ) {
    // One more than asked for tells whether there is another page.
    const found = await load(after, limit + 1);
    for (const key of found.filter(mayGet)) {
      if (keys.length === limit) return { keys, next: keys.at(-1)?.ordinal ?? null };
      keys.push(key);
    }
    const last = found.at(-1);
    if (last === undefined || found.length <= limit) return { keys, next: null };
    after = last.ordinal;
  }
}
