/**
 * The contract of every store, and its transaction rules. One implementation per database stands beneath it; the same
 * contract suite runs on all of them.
 *
 * Rules that hold for each method that writes:
 * - it is one transaction, durable when its promise resolves;
 * - rows carry a revision; a change names the revision it read (compare-and-set) and fails with `conflict` otherwise;
 * - a database that does not answer is `store-unavailable`, never a 4xx;
 * - a commit whose answer was lost may have happened: whoever gets `store-unavailable` must look.
 *
 * Rows are sealed (integrity §3). Before `unlock` only `installation` answers, unverified, as it names the token that
 * holds the keys; everything else is `store-unavailable`. What fails its seal afterwards is `integrity`, and reported.
 */

import type {
  Assignment,
  Credential,
  CustomRole,
  Deletion,
  Holder,
  Installation,
  Key,
  KeyObject,
  KeyState,
  KeyVersion,
  RevocationReason,
  Tags,
  TokenClient,
  Usage,
  Vault,
} from '../keys/key.ts';
import type { CompareCursor, Damage, Head, StoreMacs, Witness, WitnessVerdict } from './evidence.ts';

export { FAMILIES } from './families.ts';
export type { CompareCursor, Damage, Head, StoreMacs, Witness, WitnessVerdict } from './evidence.ts';

/**
 * Work that was announced before the token is touched (security S-20). `objectIds` are the CKA_IDs it may create or
 * must destroy. A create intent vanishes in the transaction that commits its key; a destroy intent once the token
 * shows none of the objects.
 */
export interface Intent {
  readonly id: string;
  /** `rotate`: a new version of a key that is there. */
  readonly action: 'create' | 'rotate' | 'destroy';
  /** `aborting`: given up by the reconciler; a late commit fails. */
  readonly state: 'announced' | 'aborting';
  readonly vaultId: string;
  readonly keyId: string;
  readonly objectIds: readonly string[];
  /** The server process at work. */
  readonly bootId: string;
  readonly createdMs: number;
  readonly revision: number;
}

/** An intent as its maker hands it over. */
export type Announcement = Omit<Intent, 'revision' | 'action' | 'state'>;

/** A key as its creator hands it over; the store gives ordinal and revisions. */
export type NewKey = Omit<Key, 'ordinal' | 'revision' | 'versions'>;
export type NewVersion = Omit<KeyVersion, 'revision' | 'ordinal' | 'objects'> & { readonly objects: readonly KeyObject[] };

/** What may change on a live key. Members left out stay as they are. */
export interface KeyChange {
  readonly label?: string;
  /** By a version that came from elsewhere. */
  readonly origin?: Key['origin'];
  readonly state?: KeyState;
  readonly activatedMs?: number | null;
  readonly deactivatedMs?: number | null;
  readonly deactivationReason?: RevocationReason | null;
  readonly compromisedMs?: number | null;
  readonly deletion?: Deletion | null;
}

/** What may change on a version. Members left out stay as they are. */
export interface VersionChange {
  readonly updatedMs: number;
  readonly enabled?: boolean;
  readonly nbfMs?: number | null;
  readonly expMs?: number | null;
  readonly usages?: readonly Usage[];
  readonly tags?: Tags;
}

/** Keys by name, in its order. */
export interface NamePage {
  readonly vaultId: string;
  /** Those deleted softly, or the others. */
  readonly deleted: boolean;
  /** Ordinal of the key before the page; -1 for the first page. */
  readonly afterOrdinal: number;
  readonly limit: number;
}

/** What may change on a vault. Members left out stay as they are; purge protection cannot be taken away. */
export interface VaultChange {
  readonly purgeProtection?: true;
  readonly cbc?: boolean;
  readonly rsa15?: boolean;
  readonly rsnull?: boolean;
  readonly compromiseRule?: Vault['compromiseRule'];
  readonly keyQuota?: number | null;
}

/** Who may do what, as it is to change, all or nothing and in this order. */
export interface PolicyChange {
  /** New ones, and changed ones under the id that they have. */
  readonly define?: readonly Omit<CustomRole, 'revision'>[];
  /** Where principal, role and scope are the same as of one that is there, that one stays. */
  readonly assign?: readonly Omit<Assignment, 'revision'>[];
  /** Ids of assignments. */
  readonly withdraw?: readonly string[];
  /** Ids of custom roles. */
  readonly forget?: readonly string[];
}

export interface KeyPage {
  readonly vaultId: string;
  readonly states: readonly KeyState[];
  /** Whether keys that were deleted softly count as `destroyed`, which is so unless the page is of whatever has objects. */
  readonly softly?: 'destroyed' | 'as-they-are';
  /** Keys with a greater ordinal only; -1 for the first page. */
  readonly afterOrdinal: number;
  readonly limit: number;
}

/** Of one key and principal, in the hour that began with the first. */
export interface Failures {
  readonly count: number;
  readonly sinceLastMs: number;
}

/** A server process and its audit stream, as all processes know it. */
export interface ProcessRow {
  /** Boot id. */
  readonly bootId: string;
  readonly hostId: string;
  readonly pid: number;
  /** Start of the process, in clock ticks of its host: with the pid it names a process for good. */
  readonly born: string;
  readonly startedMs: number;
  /** When it last said that it lives, by the database's clock. */
  readonly leaseMs: number;
  readonly stream: StreamPosition;
  readonly state: 'open' | 'closed' | 'adopted' | 'abandoned';
  readonly settledMs: number | null;
}

/** How far an audit stream is known. */
export interface StreamPosition {
  /** Number of the newest record, from 0; -1 before the first. */
  readonly seq: number;
  /** SHA-256 (hex) of the newest record. */
  readonly head: string;
  /** SHA-256 (hex) of the newest checkpoint. */
  readonly checkpoint: string;
}

/** A journal entry whose outcome may be missing in the audit. */
export interface Unrecorded {
  readonly seq: number;
  readonly requestId: string;
  readonly table: string;
  readonly key: string;
}

export interface PinLatch {
  readonly hostId: string;
  /** Fingerprint of the PIN source, never of the PIN. */
  readonly source: string;
  readonly atMs: number;
}

export interface FirstRows {
  readonly installation: Omit<Installation, 'revision'>;
  readonly vaults: readonly Omit<Vault, 'revision'>[];
  readonly credentials: readonly Omit<Credential, 'revision'>[];
  readonly assignments: readonly Omit<Assignment, 'revision'>[];
}

/**
 * What an operator accepts a store with that was rolled back (integrity §6), found out from the audit and the token.
 * Keys named here twice are changed in the order of the members.
 */
export interface Acceptance {
  /** Greatest epoch that any witness has seen. */
  readonly above: number;
  /** Intents whose work the lost future has completed: they must not be undone. */
  readonly withdrawn: readonly string[];
  readonly keys: readonly { readonly key: NewKey; readonly versions: readonly [NewVersion, ...NewVersion[]] }[];
  /** Of keys that are there. */
  readonly versions: readonly { readonly vaultId: string; readonly keyId: string; readonly version: NewVersion }[];
  readonly changes: readonly { readonly vaultId: string; readonly keyId: string; readonly change: KeyChange }[];
  /** Keys that are there, and were destroyed. */
  readonly destructions: readonly {
    readonly change: KeyChange & { readonly state: 'destroyed' | 'destroyed_compromised'; readonly destroyedMs: number };
    readonly intent: Omit<Announcement, 'objectIds'>;
  }[];
  /** Keys that are not there, and were destroyed. */
  readonly tombstones: readonly { readonly key: NewKey; readonly intent: Announcement }[];
  /** Invocations that the audit saw reserved, by CKA_ID. */
  readonly totals: Readonly<Record<string, number>>;
}

export interface Accepted {
  readonly before: Head;
  readonly after: Head;
  /** Invocation counters that were raised. */
  readonly counters: number;
}

/** `requestId` of each change goes to the journal, which is the outbox of the audit. */
export interface KeyStore {
  /** Undefined before `kms init`. Not verified before `unlock`. */
  installation(): Promise<Installation | undefined>;
  /**
   * Writes the installation with its vaults, first credentials and assignments, and the head, all or nothing; the
   * store is unlocked then.
   * @throws KmsError `conflict` when there is one already
   */
  createInstallation(rows: FirstRows, macs: StoreMacs): Promise<void>;

  /**
   * Verifies head, installation and newest journal entries with keys of the token, and opens the store.
   * @param copies `accepted`: by an operator, also when the head says that this is the copy of another store
   * @throws KmsError `integrity` saying what does not fit
   */
  unlock(macs: StoreMacs, copies?: 'refused' | 'accepted'): Promise<void>;
  /** Told of each row that fails its seal, once. */
  onDamage(report: (damage: Damage) => void): void;
  /** The head as this process knows it: of its newest reading or commit. @throws KmsError `store-unavailable` */
  head(): Head;
  /**
   * Reads the head and compares it with what this process knew before.
   * @throws KmsError `integrity` when it went back or beside, or the store is another one; nothing is served then
   */
  pollHead(): Promise<Head>;
  /** Compares the store with what somebody else saw of it (integrity §4). */
  examine(witness: Witness): Promise<WitnessVerdict>;
  /**
   * Verifies the next stretch of journal and rows; call it again until it is done.
   * @param cursor of the call before; undefined to begin
   * @returns the next cursor, undefined at the end
   */
  compare(cursor?: CompareCursor): Promise<CompareCursor | undefined>;

  /**
   * Begins a new epoch with everything that the lost future restricted or made, in one transaction. The destructions
   * are announced, and completed as any other. @throws KmsError `integrity`
   */
  acceptRollback(acceptance: Acceptance, requestId: string): Promise<Accepted>;
  /** Request ids of the journal's entries on the row of a key, each as often as there are entries. */
  changesOf(vaultId: string, keyId: string): Promise<readonly string[]>;
  /** Which database this is, whatever its head says: a copy made elsewhere has another name (integrity §4). */
  identity(): Promise<string>;
  /** Who else has this database open now, for people: servers and commands of ours. */
  others(): Promise<readonly string[]>;

  /** In order of creation; the first is the default vault. */
  vaults(): Promise<readonly Vault[]>;
  /** The newest in the order. @throws KmsError `conflict` when a vault has this id or name */
  createVault(vault: Omit<Vault, 'revision'>, requestId: string): Promise<Vault>;
  /** @throws KmsError `conflict` when `revision` is not the row's; `not-found` when there is no such vault */
  updateVault(id: string, revision: number, change: VaultChange, requestId: string): Promise<Vault>;
  credential(issuerKeyHash: string, serial: string): Promise<Credential | undefined>;
  /** In order of creation, also those that are revoked or over. */
  credentials(): Promise<readonly Credential[]>;
  /** With roles of its subject, all or nothing; those that are there already stay. @throws KmsError `conflict` when it is there */
  addCredential(credential: Omit<Credential, 'revision'>, roles: readonly Omit<Assignment, 'revision'>[], requestId: string): Promise<void>;
  /** @throws KmsError `not-found` when there is no such credential, or it is revoked */
  revokeCredential(issuerKeyHash: string, serial: string, revokedMs: number, requestId: string): Promise<void>;
  assignments(holder: Holder): Promise<readonly Assignment[]>;
  /** In order of creation. */
  allAssignments(): Promise<readonly Assignment[]>;
  customRoles(): Promise<readonly CustomRole[]>;
  /**
   * @throws KmsError `not-found` for what is to be withdrawn or forgotten and is not there; `conflict` for the name of another
   *   role, and for a role to forget that somebody has
   */
  changePolicy(change: PolicyChange, requestId: string): Promise<void>;
  /** @returns the one that is there already, where principal, role and scope are the same */
  assign(assignment: Omit<Assignment, 'revision'>, requestId: string): Promise<Assignment>;

  tokenClient(id: string): Promise<TokenClient | undefined>;
  tokenClients(): Promise<readonly TokenClient[]>;
  addTokenClient(client: Omit<TokenClient, 'revision'>, requestId: string): Promise<void>;
  /** @throws KmsError `not-found` when there is no such client, or it is revoked */
  revokeTokenClient(id: string, revokedMs: number, requestId: string): Promise<void>;

  /**
   * The key with its versions and objects, in any state, tombstones included.
   * @throws KmsError `integrity` when a row of it is damaged, or was removed behind the store's back
   */
  findKey(vaultId: string, keyId: string): Promise<Key | undefined>;
  /** The key that has this name now, also when it is deleted softly; names differ by more than case. @throws KmsError `integrity` */
  findKeyByName(vaultId: string, name: string): Promise<Key | undefined>;
  /** Ascending ordinal; damaged keys are left out, and reported. */
  listKeys(page: KeyPage): Promise<readonly Key[]>;
  /** Ascending name in lower case; damaged keys are left out, and reported. */
  listKeysByName(page: NamePage): Promise<readonly Key[]>;
  /** Keys of all vaults whose days of soft deletion are over, some of them. */
  listDuePurges(nowMs: number, limit: number): Promise<readonly Key[]>;
  /** Keys that are not tombstones, over all vaults. */
  countLiveKeys(): Promise<number>;
  /** CKA_IDs of destroyed keys among these, whether or not their destruction is complete. */
  ofTombstones(objectIds: readonly string[]): Promise<ReadonlySet<string>>;

  /**
   * Announces the creation of a key.
   * @throws KmsError `conflict` when the vault holds or held a key, or an announced one, with this id
   */
  beginCreate(intent: Announcement, requestId: string): Promise<void>;
  /**
   * Turns the announced creation into a key with version 0, and removes the intent, in one transaction.
   * @throws KmsError `conflict` when the intent is gone or given up, or id or name is taken
   */
  commitCreate(intentId: string, key: NewKey, version: NewVersion, requestId: string): Promise<Key>;
  /** Announces a new version of a key. @throws KmsError `not-found`; `wrong-state` when the key is not active */
  beginRotate(intent: Announcement, requestId: string): Promise<void>;
  /**
   * Makes the announced version the newest of its key; its ordinal follows that of the newest one.
   * @throws KmsError `conflict` when the intent is gone or given up; `not-found`, `wrong-state` as `beginRotate`
   */
  commitVersion(
    intentId: string,
    vaultId: string,
    keyId: string,
    version: NewVersion,
    requestId: string,
    change?: Pick<KeyChange, 'origin'>,
  ): Promise<Key>;
  /** Gives an intent up before its objects are removed. @throws KmsError `conflict` when it changed or is gone */
  abortIntent(intentId: string, revision: number, requestId: string): Promise<void>;
  /** Removes an intent whose objects are proved gone from the token. Idempotent. */
  removeIntent(intentId: string, requestId: string): Promise<void>;
  intents(): Promise<readonly Intent[]>;

  /** @throws KmsError `conflict` when `revision` is not the row's; `not-found` when there is no such key */
  updateKey(vaultId: string, keyId: string, revision: number, change: KeyChange, requestId: string): Promise<Key>;
  /** @param revision of the key @throws KmsError as `updateKey` */
  updateVersion(
    version: { readonly vaultId: string; readonly keyId: string; readonly ordinal: number },
    revision: number,
    change: VersionChange,
    requestId: string,
  ): Promise<Key>;
  /**
   * Makes the key a tombstone and announces the destruction of its objects, in one transaction: from here the key is
   * unusable, and the destruction is always completed forwards (security S-25). Versions and objects of a tombstone
   * are no longer returned by `findKey`; its name is free.
   * @param intent its `objectIds` are filled in: all of the key, as the transaction finds them
   */
  beginDestroy(
    vaultId: string,
    keyId: string,
    revision: number,
    tombstone: { readonly state: 'destroyed' | 'destroyed_compromised'; readonly destroyedMs: number },
    intent: Omit<Announcement, 'vaultId' | 'keyId' | 'objectIds'>,
    requestId: string,
  ): Promise<{ readonly key: Key; readonly objectIds: readonly string[] }>;

  /**
   * Resolves when no process serves what was true before this process's newest commit: each has said that it knows
   * better, or cannot have kept it for so long (design §7).
   */
  effectiveEverywhere(): Promise<void>;

  /**
   * Reserves `count` invocations of a token object, durably, before they are used (security P-10). No two callers
   * ever get the same invocation.
   * @returns how many of `count` are left under `limit`, 0 when the object is exhausted; and the total reserved so far
   */
  reserveInvocations(objectId: string, count: number, limit: number): Promise<{ readonly granted: number; readonly total: number }>;
  /** Gives back invocations that were reserved and not used, at shutdown. */
  returnInvocations(objectId: string, count: number): Promise<void>;
  /** Raises counters to what the audit saw reserved, where they are below. @returns how many were below */
  raiseInvocations(totals: Readonly<Record<string, number>>): Promise<number>;

  /** Failures of this key and principal in the hour that is running. */
  failures(keyId: string, principal: string): Promise<Failures>;
  /** One more; the hour begins with the first. @returns how many there are now */
  noteFailure(keyId: string, principal: string): Promise<number>;

  /** Makes this process known, with its first lease. */
  enrol(process: Omit<ProcessRow, 'leaseMs' | 'state' | 'settledMs'>): Promise<void>;
  /** Renews the lease of this process and says how far its audit stream is. */
  renew(bootId: string, stream: StreamPosition): Promise<void>;
  processes(): Promise<readonly ProcessRow[]>;
  /** As the rows say, unverified, also before `unlock`: for reports that say so. */
  claimedProcesses(): Promise<readonly ProcessRow[]>;
  /** By the database's clock. */
  nowMs(): Promise<number>;
  /**
   * Ends a stream: closed by its process, adopted or abandoned by another.
   * @returns false when it is not open any more
   */
  settleStream(bootId: string, state: 'closed' | 'adopted' | 'abandoned', stream: StreamPosition): Promise<boolean>;
  /** Entries of a process whose outcome nobody has marked as recorded. */
  unrecorded(bootId: string): Promise<readonly Unrecorded[]>;
  /** The audit holds the outcome of these requests. */
  markRecorded(bootId: string, requestIds: readonly string[]): Promise<void>;
  /** Takes, or goes on with, work that one process does for all. @returns false while another has it */
  takeDuty(name: string, bootId: string, forMs: number): Promise<boolean>;

  pinLatches(): Promise<readonly PinLatch[]>;
  setPinLatch(latch: Omit<PinLatch, 'atMs'>): Promise<void>;
  clearPinLatches(): Promise<void>;

  /** Runs `run` while no other process of the installation does, on whatever host. */
  exclusively<T>(run: () => Promise<T>): Promise<T>;
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
