/**
 * The contract of every store, and its transaction rules. One implementation per database stands beside it; the same
 * contract suite runs on all of them.
 *
 * Rules that hold for each method that writes:
 * - it is one transaction, durable when its promise resolves;
 * - rows carry a revision; a change names the revision it read (compare-and-set) and fails with `conflict` otherwise;
 * - a database that does not answer is `store-unavailable`, never a 4xx.
 */

import type {
  Assignment,
  Credential,
  Installation,
  Key,
  KeyObject,
  KeyState,
  KeyVersion,
  RevocationReason,
  Vault,
} from '../keys/key.ts';

/**
 * Work that was announced before the token is touched (security S-20). `objectIds` are the CKA_IDs it may create or
 * must destroy. A create intent vanishes in the transaction that commits its key; a destroy intent once the token
 * shows none of the objects.
 */
export interface Intent {
  readonly id: string;
  readonly action: 'create' | 'destroy';
  readonly vaultId: string;
  readonly keyId: string;
  readonly objectIds: readonly string[];
  /** The server process at work. */
  readonly bootId: string;
  readonly createdMs: number;
  readonly revision: number;
}

/** A key as its creator hands it over; the store gives ordinal and revisions. */
export type NewKey = Omit<Key, 'ordinal' | 'revision' | 'versions'>;
export type NewVersion = Omit<KeyVersion, 'revision' | 'objects'> & { readonly objects: readonly KeyObject[] };

/** What may change on a live key. Members left out stay as they are. */
export interface KeyChange {
  readonly label?: string;
  readonly state?: KeyState;
  readonly activatedMs?: number | null;
  readonly deactivatedMs?: number | null;
  readonly deactivationReason?: RevocationReason | null;
  readonly compromisedMs?: number | null;
}

export interface KeyPage {
  readonly vaultId: string;
  readonly states: readonly KeyState[];
  /** Keys with a greater ordinal only; -1 for the first page. */
  readonly afterOrdinal: number;
  readonly limit: number;
}

export interface KeyStore {
  /** Undefined before `kms init`. */
  installation(): Promise<Installation | undefined>;
  /**
   * Writes the installation with its vaults, first credentials and assignments, all or nothing.
   * @throws KmsError `conflict` when there is one already
   */
  createInstallation(rows: {
    readonly installation: Omit<Installation, 'revision'>;
    readonly vaults: readonly Omit<Vault, 'revision'>[];
    readonly credentials: readonly Omit<Credential, 'revision'>[];
    readonly assignments: readonly Omit<Assignment, 'revision'>[];
  }): Promise<void>;

  /** In order of creation; the first is the default vault. */
  vaults(): Promise<readonly Vault[]>;
  credential(issuerKeyHash: string, serial: string): Promise<Credential | undefined>;
  assignments(method: Assignment['method'], issuer: string, subject: string): Promise<readonly Assignment[]>;

  /** The key with its versions and objects, in any state, tombstones included. */
  findKey(vaultId: string, keyId: string): Promise<Key | undefined>;
  /** Ascending ordinal. */
  listKeys(page: KeyPage): Promise<readonly Key[]>;
  /** Keys that are not tombstones, over all vaults. */
  countLiveKeys(): Promise<number>;

  /**
   * Announces the creation of a key.
   * @throws KmsError `conflict` when the vault holds or held a key, or an announced one, with this id
   */
  beginCreate(intent: Omit<Intent, 'revision' | 'action'>): Promise<void>;
  /**
   * Turns the announced creation into a key, and removes the intent, in one transaction.
   * @throws KmsError `conflict` when the intent is gone or no longer at its first revision, or id or name is taken
   */
  commitCreate(intentId: string, key: NewKey, version: NewVersion): Promise<Key>;
  /** Removes an intent whose objects are proved gone from the token. Idempotent. */
  removeIntent(intentId: string): Promise<void>;
  intents(): Promise<readonly Intent[]>;

  /** @throws KmsError `conflict` when `revision` is not the row's; `not-found` when there is no such key */
  updateKey(vaultId: string, keyId: string, revision: number, change: KeyChange): Promise<Key>;
  /**
   * Makes the key a tombstone and announces the destruction of its objects, in one transaction: from here the key is
   * unusable, and the destruction is always completed forwards (security S-25). Versions and objects of a tombstone
   * are no longer returned by `findKey`; its name is free.
   */
  beginDestroy(
    vaultId: string,
    keyId: string,
    revision: number,
    tombstone: { readonly state: 'destroyed' | 'destroyed_compromised'; readonly destroyedMs: number },
    intent: Omit<Intent, 'revision' | 'action' | 'vaultId' | 'keyId'>,
  ): Promise<Key>;

  /**
   * Reserves `count` invocations of a token object, durably, before they are used (security P-10). No two callers
   * ever get the same invocation.
   * @returns how many of `count` are left under `limit`; 0 when the object is exhausted
   */
  reserveInvocations(objectId: string, count: number, limit: number): Promise<number>;
  /** Gives back invocations that were reserved and not used, at shutdown. */
  returnInvocations(objectId: string, count: number): Promise<void>;

  /**
   * A number that differs from the last one whenever anything may have been committed, by this process or another,
   * since. Cheap enough for every turn of the event loop.
   * @throws KmsError `store-unavailable`
   */
  changeCounter(): number;
  /** A cheap round trip. @throws KmsError `store-unavailable` */
  ping(): Promise<void>;
  close(): Promise<void>;
}
