/**
 * The life of a key by its name: versions with attributes of their own, soft deletion, recovery, purge (design §3). What a
 * caller sends is read behind the gate, once it is known that he may ask for it.
 */

import { wipe } from '../bytes.ts';
import { asKmsError, invalidField, KmsError } from '../errors.ts';
import type { KeyStore, VersionChange } from '../store/store.ts';
import type { Call, Gate, Outcome } from './access.ts';
import type { Alterations } from './alteration.ts';
import { assertMayEnter, type Imported, type VersionSpec, versionFacts } from './birth.ts';
import type { Key, KeyVersion, Kind, Permission, Usage } from './key.ts';
import { type KeyListing, pageOf } from './lifecycle.ts';
import { newestVersion, softDeletion, versionOf } from './state.ts';
import { isPublicOnly } from './usage.ts';

export interface NamedKeysOptions {
  readonly gate: Gate;
  readonly store: KeyStore;
  readonly alterations: Alterations;
  readonly now: () => number;
  /** Told when a change restricted what a key may do. */
  readonly onRestriction: () => void;
}

/** A key with the version that was asked for. */
export interface Versioned {
  readonly key: Key;
  readonly version: KeyVersion;
}

/** A key to be made, or a new version of the one that has the name. */
export interface NamedSpec extends VersionSpec, Pick<Key, 'kind' | 'bits' | 'curve' | 'usages' | 'namedHsm'> {}

export interface NamedImport extends VersionSpec, Pick<Key, 'namedHsm'> {
  readonly open: () => Promise<Imported>;
}

/** Members that are absent leave the version as it is. */
export type VersionPatch = Omit<VersionChange, 'updatedMs'>;

export interface VersionListing {
  readonly key: Key;
  readonly versions: readonly KeyVersion[];
  /** Ordinal of the last version; null when there are no more. */
  readonly next: number | null;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export class NamedKeys {
  readonly #options: NamedKeysOptions;

  constructor(options: NamedKeysOptions) {
    this.#options = options;
  }

  /**
   * @param read @throws KmsError `invalid-field`
   * @throws KmsError `conflict` for a name whose key is deleted softly, is not active, or is of another kind
   */
  create(call: Call, name: string, read: () => NamedSpec): Promise<Versioned> {
    return this.#options.gate.manageNamed(call, 'key.create', 'key/create', name, (key) => this.#make(call, name, key, read()));
  }

  /** @throws KmsError as `create`, and as reading the key does */
  import(call: Call, name: string, read: () => NamedImport): Promise<Versioned> {
    return this.#options.gate.manageNamed(call, 'key.import', 'key/import', name, async (key) => {
      const spec = read();
      assertMayEnter(call.vault, { secret: true });
      if (key !== undefined) assertMayGrow(key);
      const { clear, usages } = await spec.open();
      try {
        const { kind, bits, curve } = clear;
        return await this.#make(call, name, key, { ...spec, kind, bits, curve, usages }, clear);
      } finally {
        if (clear.material !== null) wipe(clear.material);
      }
    });
  }

  /** @param versionId null for the newest */
  get(call: Call, name: string, versionId: string | null): Promise<Versioned> {
    return this.#options.gate.look(call, 'key.get', 'key/get', { name }, (key) =>
      Promise.resolve({ value: { key, version: versionOf(key, versionId) } }));
  }

  /** By name. @param afterOrdinal -1 for the first page */
  list(call: Call, deleted: boolean, afterOrdinal: number, limit: number): Promise<KeyListing> {
    const { gate, store } = this.#options;
    return gate.list(call, async (mayGet) => {
      const listing = await pageOf(limit, afterOrdinal, mayGet, (after, count) =>
        store.listKeysByName({ vaultId: call.vault.id, deleted, afterOrdinal: after, limit: count }));
      return { value: listing, facts: { detail: { keys: listing.keys.length } } };
    }, deleted ? 'key/deleted/list' : 'key/list');
  }

  /** By version id. @param afterOrdinal of the version before the page; -1 for the first page */
  listVersions(call: Call, name: string, afterOrdinal: number, limit: number): Promise<VersionListing> {
    return this.#options.gate.look(call, 'key.versions', 'key/list', { name }, (key) => {
      const after = key.versions.find(({ ordinal }) => ordinal === afterOrdinal)?.id ?? '';
      const rest = key.versions.filter(({ id }) => id > after).toSorted((left, right) => (left.id < right.id ? -1 : 1));
      const versions = rest.slice(0, limit);
      const next = rest.length > limit ? (versions.at(-1)?.ordinal ?? null) : null;
      return Promise.resolve({ value: { key, versions, next } });
    });
  }

  /**
   * @param versionId null for the newest
   * @throws KmsError `conflict` for enabling a version of a key that is not active; `invalid-field` for usages beyond
   * those that the version was made for
   */
  update(call: Call, name: string, versionId: string | null, read: (kind: Kind) => VersionPatch): Promise<Versioned> {
    const { gate, alterations, now, onRestriction } = this.#options;
    return gate.manage(call, 'key.update', 'key/update', { name }, async (key) => {
      const { id } = versionOf(key, versionId);
      const patch = read(key.kind);
      const changed = await alterations.changeVersion(call, key, id, (current, version) => {
        assertMayChange(current, version, patch);
        return { ...patch, updatedMs: now() };
      });
      onRestriction();
      const version = versionOf(changed, id);
      return { value: { key: changed, version }, facts: { version: version.ordinal, ...eventOf(patch) } };
    });
  }

  /** Soft: until its scheduled purge it can be recovered. */
  delete(call: Call, name: string): Promise<Versioned> {
    const { gate, alterations, now, onRestriction } = this.#options;
    return gate.manage(call, 'key.delete', 'key/delete', { name }, async (key) => {
      const { value } = await alterations.change(call, key, (current) => softDeletion(current, call.vault, now()));
      onRestriction();
      return newest(value);
    });
  }

  getDeleted(call: Call, name: string): Promise<Versioned> {
    return this.#options.gate.look(call, 'key.deleted.get', 'key/deleted/get', { name }, (key) => Promise.resolve(newest(key)), 'deleted');
  }

  /** As it was before. */
  recover(call: Call, name: string): Promise<Versioned> {
    const { gate, alterations } = this.#options;
    return gate.manage(call, 'key.recover', 'key/recover', { name }, async (key) => {
      const { value } = await alterations.change(call, key, () => ({ deletion: null }));
      return newest(value);
    }, 'deleted');
  }

  /** Destroys the token objects at once; there is no way back. @throws KmsError `forbidden` under purge protection */
  purge(call: Call, name: string): Promise<void> {
    const { gate, alterations } = this.#options;
    return gate.manage(call, 'key.destroy', 'key/purge', { name }, async (key) => {
      if (call.vault.purgeProtection) throw new KmsError('forbidden', 'purge protection: the key is destroyed on its scheduled date');
      const objectIds = await alterations.bury(call, key, key.state === 'compromised' ? 'destroyed_compromised' : 'destroyed');
      return { value: undefined, facts: { objectIds } };
    }, 'deleted');
  }

  /** An operation of a later release. @throws KmsError `not-implemented` to whoever may ask for it, with a key that is there */
  async later(call: Call, event: string, permission: Permission, name: string | null): Promise<never> {
    const refuse = (): Promise<never> => Promise.reject(new KmsError('not-implemented', 'this operation is not in this release'));
    const { gate } = this.#options;
    return name === null ? gate.useVault(call, event, permission, refuse) : gate.look(call, event, permission, { name }, refuse);
  }

  async #make(call: Call, name: string, key: Key | undefined, spec: NamedSpec, clear?: Imported['clear']): Promise<Outcome<Versioned>> {
    const { alterations, store } = this.#options;
    if (key !== undefined) return this.#grow(call, key, spec, clear);
    try {
      const id = await this.#idFor(call, name);
      const made = await alterations.create(call, { ...spec, id, name, label: name, context: null }, clear);
      return { value: versioned(made), facts: { key: made.id, ...versionFacts(made, made.versions[0]) } };
    } catch (error) {
      if (asKmsError(error).code !== 'conflict' || asKmsError(error).reason !== undefined) throw error;
      // Somebody else made a key of this name meanwhile.
      const other = await store.findKeyByName(call.vault.id, name);
      if (other === undefined) throw error;
      return this.#grow(call, other, spec, clear);
    }
  }

  async #grow(call: Call, key: Key, spec: NamedSpec, clear?: Imported['clear']): Promise<Outcome<Versioned>> {
    assertMayGrow(key);
    const { kind, bits, curve, usages, namedHsm } = spec;
    if (kind !== key.kind || bits !== key.bits || curve !== key.curve || namedHsm !== key.namedHsm) {
      throw new KmsError('conflict', `the key ${key.name} is of another type, size or curve, which its first version fixed`);
    }
    const next = { ...spec, usages, madeFor: usages, ...(clear && { clear }) };
    const grown = await this.#options.alterations.addVersion(call, key, next);
    const event = clear === undefined ? 'key.version.create' : 'key.version.import';
    return { value: versioned(grown), facts: { event, key: grown.id, ...versionFacts(grown, newestVersion(grown)) } };
  }

  /** A name that looks like an id becomes the id, unless an earlier key had it (design §3). */
  async #idFor({ vault }: Call, name: string): Promise<string | null> {
    if (!UUID.test(name)) return null;
    const id = name.toLowerCase();
    const holder = await this.#options.store.findKey(vault.id, id);
    if (holder === undefined) return id;
    if (holder.versions.length > 0) throw new KmsError('conflict', 'a key of this vault has this name as its id', { reason: 'inactive' });
    return null;
  }
}

function versioned(key: Key): Versioned {
  return { key, version: versionOf(key, null) };
}

function newest(key: Key): Outcome<Versioned> {
  const value = versioned(key);
  return { value, facts: { version: value.version.ordinal } };
}

/** @throws KmsError `conflict` */
function assertMayGrow(key: Key): void {
  if (key.deletion !== null) {
    throw new KmsError('conflict', `the key ${key.name} is deleted but recoverable: recover or purge it first`, { reason: 'deleted' });
  }
  if (key.state !== 'active') throw new KmsError('conflict', `the key ${key.name} is ${key.state}`, { reason: 'inactive' });
  if (isPublicOnly(key)) throw new KmsError('conflict', `the key ${key.name} is a public key alone`, { reason: 'inactive' });
}

/** @throws KmsError `conflict`, `invalid-field` */
function assertMayChange(key: Key, { madeFor }: KeyVersion, { enabled, usages = [] }: VersionPatch): void {
  if (enabled === true && key.state !== 'active') {
    throw new KmsError('conflict', `the key ${key.name} is ${key.state}: it must be activated first`, { reason: 'inactive' });
  }
  const beyond: Usage | undefined = usages.find((usage) => !madeFor.includes(usage));
  if (beyond !== undefined) {
    throw invalidField('key_ops', `${beyond} is beyond the operations that this version was made for (${madeFor.join(', ')}): make a new key`);
  }
}

/** A version that is disabled is a restriction that the audit must know by name. */
function eventOf({ enabled }: VersionPatch): { readonly event?: string } {
  if (enabled === undefined) return {};
  return { event: enabled ? 'key.version.enable' : 'key.version.disable' };
}
