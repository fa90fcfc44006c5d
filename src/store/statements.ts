/**
 * The KeyStore over any engine: each of its methods is a statement of the `…-statements.ts` beside this file, run as
 * `transactions.ts` runs them.
 */

import { KmsError } from '../errors.ts';
import type { Assignment, Credential, Holder, Key, KeyState, TokenClient, Vault } from '../keys/key.ts';
import { acceptAll } from './acceptance.ts';
import * as access from './access-statements.ts';
import * as budgets from './budget-statements.ts';
import { Changes } from './changes.ts';
import { compareNext } from './compare.ts';
import * as counters from './counter-statements.ts';
import { type Engine, meaning } from './engine.ts';
import type { CompareCursor, Damage, Head, Witness } from './evidence.ts';
import * as intents from './intent-statements.ts';
import { findHead } from './journal-statements.ts';
import { changedColumns, type KeyPlace } from './key-rows.ts';
import * as keys from './key-statements.ts';
import * as processes from './process-statements.ts';
import { damaged, type StoreMacs } from './seal.ts';
import type {
  Acceptance, Announcement, FirstRows, KeyChange, KeyPage, KeyStore, NamePage, NewKey, NewVersion, PinLatch,
  PolicyChange, ProcessRow, StreamPosition, VaultChange, VersionChange,
} from './store.ts';
import { Transactions } from './transactions.ts';
import { loadSteadily } from './verified.ts';

type Tombstone = Parameters<KeyStore['beginDestroy']>[3];

export class StatementStore implements KeyStore {
  readonly #engine: Engine;
  readonly #bootId: string;
  readonly #tx: Transactions;

  /** @param bootId names this process, and its audit stream, in the journal */
  constructor(engine: Engine, bootId: string) {
    this.#engine = engine;
    this.#bootId = bootId;
    this.#tx = new Transactions(engine, bootId);
  }

  installation() {
    return this.#tx.guard(() => access.findInstallation(this.#engine.reader));
  }

  async createInstallation(rows: FirstRows, macs: StoreMacs) {
    const storeId = await this.#tx.guard(() => this.#engine.storeId());
    await this.#tx.transaction(async (db) => {
      // The head first: whoever forestalled us committed both at once.
      const head = await findHead(db);
      if (await access.hasInstallation(db)) throw access.alreadyInstalled();
      if (head !== undefined) throw damaged('the store has a head and no installation');
      const first = this.#tx.heads.first(storeId);
      const changes = await Changes.begin(db, this.#tx.context(macs, storeId), 'init', first);
      await access.insertInstallation(changes, rows);
      await changes.finish();
    });
    await this.unlock(macs);
  }

  async unlock(macs: StoreMacs, copies: 'refused' | 'accepted' = 'refused') {
    await this.#tx.guard(async () => {
      await this.#tx.heads.unlock(macs, copies);
      const { damage } = await loadSteadily(() => access.checkInstallation(this.#engine.reader, macs));
      const [first] = damage;
      if (first !== undefined) throw damaged(`${first.table} ${first.row}: the stored row is damaged (${first.reason})`);
    });
    this.#tx.unlock(macs);
  }

  onDamage(report: (damage: Damage) => void) {
    this.#tx.onDamage(report);
  }

  head(): Head {
    this.#tx.assertOpen();
    this.#tx.macs();
    return this.#tx.heads.known();
  }

  pollHead() {
    return this.#tx.guard(() => this.#tx.heads.poll());
  }

  examine(witness: Witness) {
    return this.#tx.guard(() => this.#tx.heads.examine(witness));
  }

  compare(cursor?: CompareCursor) {
    return this.#tx.guard(async () => {
      const { next, damage } = await compareNext(this.#engine, this.#tx.macs(), this.#tx.heads, cursor);
      damage.forEach((of) => { this.#tx.tell(of); });
      return next;
    });
  }

  async acceptRollback(acceptance: Acceptance, requestId: string) {
    const storeId = await this.#tx.guard(() => this.#engine.storeId());
    const before = this.head();
    const counters = await this.#tx.change(requestId, (changes) => acceptAll(changes, storeId, acceptance));
    return { before, after: this.head(), counters };
  }

  changesOf(vaultId: string, keyId: string) {
    return this.#tx.guard(() => keys.listRequests(this.#engine.reader, `${vaultId}/${keyId}`));
  }

  identity() {
    return this.#tx.guard(() => this.#engine.storeId());
  }

  others() {
    return this.#tx.guard(() => this.#engine.others());
  }

  vaults() {
    return this.#tx.whole((db, macs) => access.listVaults(db, macs));
  }

  createVault(vault: Omit<Vault, 'revision'>, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.insertVault(changes, vault));
  }

  updateVault(id: string, revision: number, change: VaultChange, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.changeVault(changes, id, revision, change));
  }

  credential(issuerKeyHash: string, serial: string) {
    return this.#tx.whole((db, macs) => access.findCredential(db, macs, issuerKeyHash, serial));
  }

  credentials() {
    return this.#tx.partly((db, macs) => access.listCredentials(db, macs));
  }

  addCredential(credential: Omit<Credential, 'revision'>, roles: readonly Omit<Assignment, 'revision'>[], requestId: string) {
    return this.#tx.change(requestId, (changes) => access.insertCredential(changes, credential, roles));
  }

  revokeCredential(issuerKeyHash: string, serial: string, revokedMs: number, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.revokeCredential(changes, issuerKeyHash, serial, revokedMs));
  }

  assignments(holder: Holder) {
    return this.#tx.whole((db, macs) => access.findAssignments(db, macs, holder));
  }

  allAssignments() {
    return this.#tx.partly((db, macs) => access.listAssignments(db, macs));
  }

  customRoles() {
    return this.#tx.partly((db, macs) => access.listCustomRoles(db, macs));
  }

  changePolicy(change: PolicyChange, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.changePolicy(changes, change));
  }

  assign(assignment: Omit<Assignment, 'revision'>, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.insertAssignment(changes, assignment));
  }

  tokenClient(id: string) {
    return this.#tx.whole((db, macs) => access.findTokenClient(db, macs, id));
  }

  tokenClients() {
    return this.#tx.partly((db, macs) => access.listTokenClients(db, macs));
  }

  addTokenClient(client: Omit<TokenClient, 'revision'>, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.insertTokenClient(changes, client));
  }

  revokeTokenClient(id: string, revokedMs: number, requestId: string) {
    return this.#tx.change(requestId, (changes) => access.revokeTokenClient(changes, id, revokedMs));
  }

  findKey(vaultId: string, keyId: string) {
    return this.#tx.whole((db, macs) => keys.loadKey(db, macs, vaultId, keyId));
  }

  findKeyByName(vaultId: string, name: string) {
    return this.#tx.whole((db, macs) => keys.loadKeyByName(db, macs, vaultId, name));
  }

  listKeysByName(page: NamePage) {
    return this.#tx.partly((db, macs) => keys.loadNamePage(db, macs, page));
  }

  listDuePurges(nowMs: number, limit: number) {
    return this.#tx.partly((db, macs) => keys.loadDuePurges(db, macs, nowMs, limit));
  }

  listKeys(page: KeyPage) {
    return this.#tx.partly((db, macs) => keys.loadPage(db, macs, page));
  }

  countLiveKeys() {
    return this.#tx.guard(() => keys.countLiveKeys(this.#engine.reader));
  }

  ofTombstones(objectIds: readonly string[]) {
    return this.#tx.guard(() => keys.ofTombstones(this.#engine.reader, this.#tx.macs(), objectIds));
  }

  beginCreate(intent: Announcement, requestId: string) {
    return this.#tx.change(requestId, (changes) => intents.announceCreate(changes, intent));
  }

  async commitCreate(intentId: string, key: NewKey, version: NewVersion, requestId: string) {
    return this.#changeKey(requestId, { vaultId: key.vaultId, keyId: key.id }, async (changes) => {
      await intents.redeem(changes, 'create', intentId, key.vaultId, key.id);
      await keys.insertKey(changes, key, version);
    });
  }

  beginRotate(intent: Announcement, requestId: string) {
    return this.#tx.change(requestId, (changes) => intents.announceRotate(changes, intent));
  }

  async commitVersion(
    intentId: string,
    vaultId: string,
    keyId: string,
    version: NewVersion,
    requestId: string,
    change: Pick<KeyChange, 'origin'> = {},
  ) {
    return this.#changeKey(requestId, { vaultId, keyId }, async (changes) => {
      await intents.redeem(changes, 'rotate', intentId, vaultId, keyId);
      await keys.addVersion(changes, { vaultId, keyId }, version, changedColumns(change));
    });
  }

  abortIntent(intentId: string, revision: number, requestId: string) {
    return this.#tx.change(requestId, (changes) => intents.abortIntent(changes, intentId, revision));
  }

  removeIntent(intentId: string, requestId: string) {
    return this.#tx.change(requestId, (changes) => intents.removeIntent(changes, intentId));
  }

  intents() {
    return this.#tx.partly((db, macs) => intents.listIntents(db, macs));
  }

  async updateKey(vaultId: string, keyId: string, revision: number, change: KeyChange, requestId: string) {
    if (isTombstone(change.state)) throw new KmsError('internal', 'only beginDestroy makes a tombstone');
    const place = { vaultId, keyId };
    return this.#changeKey(requestId, place, (changes) => keys.changeKey(changes, place, revision, changedColumns(change)));
  }

  updateVersion(
    version: { readonly vaultId: string; readonly keyId: string; readonly ordinal: number },
    revision: number,
    change: VersionChange,
    requestId: string,
  ) {
    return this.#changeKey(requestId, version, (changes) => keys.changeVersion(changes, version, revision, change));
  }

  async beginDestroy(
    vaultId: string,
    keyId: string,
    revision: number,
    tombstone: Tombstone,
    intent: Omit<Announcement, 'vaultId' | 'keyId' | 'objectIds'>,
    requestId: string,
  ) {
    const columns = { state: tombstone.state, destroyed_ms: tombstone.destroyedMs };
    let objectIds: readonly string[] = [];
    const key = await this.#changeKey(requestId, { vaultId, keyId }, async (changes) => {
      objectIds = await keys.buryKey(changes, { vaultId, keyId }, revision, columns);
      await intents.announceDestroy(changes, { ...intent, vaultId, keyId, objectIds });
    });
    return { key, objectIds };
  }

  async effectiveEverywhere() {
    const { seq } = this.head();
    const others = (await this.#liveProcesses()).filter((bootId) => bootId !== this.#bootId);
    if (others.length > 0) await this.#engine.seenEverywhere(seq, others);
  }

  reserveInvocations(objectId: string, count: number, limit: number) {
    return this.#tx.write((db) => counters.reserve(db, this.#engine.rowLocks, objectId, count, limit));
  }

  returnInvocations(objectId: string, count: number) {
    return this.#tx.write((db) => counters.giveBack(db, objectId, count));
  }

  raiseInvocations(totals: Readonly<Record<string, number>>) {
    return this.#tx.write((db) => counters.raise(db, totals));
  }

  failures(keyId: string, principal: string) {
    return this.#tx.guard(async () => {
      const { reader } = this.#engine;
      return budgets.failures(reader, keyId, principal, await this.#engine.nowMs(reader));
    });
  }

  noteFailure(keyId: string, principal: string) {
    return this.#tx.write(async (db) => {
      const nowMs = await this.#engine.nowMs(db);
      await budgets.forgetFailures(db, nowMs);
      return budgets.noteFailure(db, keyId, principal, nowMs);
    });
  }

  enrol(process: Omit<ProcessRow, 'leaseMs' | 'state' | 'settledMs'>) {
    return this.#tx.write(async (db, macs) => {
      const leaseMs = await this.#engine.nowMs(db);
      await processes.enrol(db, macs, { ...process, leaseMs, state: 'open', settledMs: null });
    });
  }

  renew(bootId: string, stream: StreamPosition) {
    return this.#tx.write(async (db, macs) => {
      const leaseMs = await this.#engine.nowMs(db);
      await processes.changeProcess(db, macs, this.#engine.rowLocks, bootId, { leaseMs, stream });
    });
  }

  claimedProcesses() {
    return this.#tx.guard(() => processes.listClaimed(this.#engine.reader));
  }

  processes() {
    return this.#tx.partly((db, macs) => processes.listProcesses(db, macs));
  }

  nowMs() {
    return this.#tx.guard(() => this.#engine.nowMs(this.#engine.reader));
  }

  settleStream(bootId: string, state: 'closed' | 'adopted' | 'abandoned', stream: StreamPosition) {
    return this.#tx.write(async (db, macs) => {
      const settledMs = await this.#engine.nowMs(db);
      return processes.changeProcess(db, macs, this.#engine.rowLocks, bootId, { state, settledMs, stream });
    });
  }

  unrecorded(bootId: string) {
    return this.#tx.guard(() => processes.listUnrecorded(this.#engine.reader, bootId));
  }

  markRecorded(bootId: string, requestIds: readonly string[]) {
    return this.#tx.write((db) => processes.markRecorded(db, bootId, requestIds));
  }

  takeDuty(name: string, bootId: string, forMs: number) {
    return this.#tx.write(async (db) =>
      processes.takeDuty(db, this.#engine.rowLocks, name, bootId, await this.#engine.nowMs(db), forMs));
  }

  pinLatches() {
    return this.#tx.guard(() => processes.listPinLatches(this.#engine.reader));
  }

  setPinLatch(latch: Omit<PinLatch, 'atMs'>) {
    return this.#tx.transaction(async (db) => processes.setPinLatch(db, { ...latch, atMs: await this.#engine.nowMs(db) }));
  }

  clearPinLatches() {
    return this.#tx.transaction((db) => processes.clearPinLatches(db));
  }

  /** The lock is the database's, which may fail it; what `run` throws is its own. */
  exclusively<T>(run: () => Promise<T>): Promise<T> {
    this.#tx.assertOpen();
    return this.#engine.exclusively(run).catch((error: unknown) => {
      throw this.#engine.fault(error) === 'database' ? meaning(this.#engine, error) : error;
    });
  }

  changeCounter(): number {
    this.#tx.assertOpen();
    this.#tx.macs();
    this.#tx.heads.assertSound();
    try {
      return this.#engine.changeCounter();
    } catch (error) {
      throw meaning(this.#engine, error);
    }
  }

  ping() {
    return this.#tx.guard(() => this.#engine.ping());
  }

  /** Refuses new work, lets the running end, closes. Idempotent. */
  async close() {
    if (await this.#tx.close()) await this.#engine.close();
  }

  async #liveProcesses(): Promise<readonly string[]> {
    const all = await this.processes();
    return all.filter(({ state }) => state === 'open').map(({ bootId }) => bootId);
  }

  /** @returns the key as the change left it */
  async #changeKey(requestId: string, { vaultId, keyId }: KeyPlace, work: (changes: Changes) => Promise<void>): Promise<Key> {
    const key = await this.#tx.changeAndLoad(requestId, work, (db, macs) => keys.loadKey(db, macs, vaultId, keyId));
    if (key === undefined) throw keys.noSuchKey();
    return key;
  }
}

function isTombstone(state: KeyState | undefined): boolean {
  return state === 'destroyed' || state === 'destroyed_compromised';
}
