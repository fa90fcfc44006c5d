/**
 * Plans what a store that was rolled back gets with its new epoch (integrity §6): restrictions that the audit still
 * knows, and keys and versions of the gap whose objects are on the token. What cannot be rebuilt faithfully is named
 * as lost, and its objects stay where they are. Changes nothing.
 */

import { randomUUID } from 'node:crypto';
import type { CryptoEngine, KeyShape } from '../crypto/engine.ts';
import { asKmsError, type KmsError } from '../errors.ts';
import type { Acceptance, KeyStore, NewKey, NewVersion } from '../store/store.ts';
import { beyond, type KeyEvent, type KeyHistory, type Restriction, standing } from './aftermath.ts';
import type { Key, KeyState, Vault } from './key.ts';
import type { Making } from './making.ts';
import { isTombstone } from './state.ts';

export interface Lost {
  readonly vaultId: string;
  readonly keyId: string;
  /** Null for the whole key. */
  readonly version: number | null;
  /** Left on the token, where they are. */
  readonly objectIds: readonly string[];
  readonly why: string;
}

export interface Reapplied {
  readonly vaultId: string;
  readonly keyId: string;
  readonly state: KeyState;
  readonly reason: string;
}

export interface Rebuilt {
  readonly vaultId: string;
  readonly keyId: string;
  readonly state: KeyState;
  readonly versions: readonly number[];
  readonly objectIds: readonly string[];
}

export interface Plan {
  readonly acceptance: Acceptance;
  readonly reapplied: readonly Reapplied[];
  readonly rebuilt: readonly Rebuilt[];
  readonly lost: readonly Lost[];
}

export interface PlanOptions {
  readonly store: Pick<KeyStore, 'vaults' | 'findKey' | 'changesOf' | 'intents'>;
  readonly engine: Pick<CryptoEngine, 'recognise'>;
  readonly bootId: string;
  readonly nowMs: number;
  /** Greatest epoch that any witness has seen. */
  readonly above: number;
  /** Invocations that the audit saw reserved, by CKA_ID. */
  readonly totals: Readonly<Record<string, number>>;
}

const RANK: Readonly<Record<KeyState, number>> = { active: 0, deactivated: 1, compromised: 2, destroyed: 3, destroyed_compromised: 4 };

type Lists = { -readonly [Member in 'keys' | 'versions' | 'changes' | 'destructions' | 'tombstones']: Acceptance[Member][number][] };
type Destroyed = 'destroyed' | 'destroyed_compromised';
type Place = Pick<KeyHistory, 'vaultId' | 'keyId'>;

/** @throws KmsError `token-unavailable`, `store-unavailable` */
export async function planAcceptance(histories: readonly KeyHistory[], options: PlanOptions): Promise<Plan> {
  const planner = new Planner(options);
  const vaults = new Map((await options.store.vaults()).map((vault) => [vault.id, vault]));
  for (const history of histories) await planner.take(history, vaults.get(history.vaultId));
  return planner.plan(await withdrawn(histories, options.store));
}

/** Announced when the store was saved, and completed in the lost future: to undo it would destroy a key that was used. */
async function withdrawn(histories: readonly KeyHistory[], store: PlanOptions['store']): Promise<readonly string[]> {
  const made = new Set(histories.flatMap(({ events }) => events.filter(isMaking).flatMap(({ objectIds }) => objectIds)));
  const intents = (await store.intents()).filter(({ action }) => action !== 'destroy');
  return intents.filter(({ objectIds }) => objectIds.some((id) => made.has(id))).map(({ id }) => id);
}

function byOrdinal(left: KeyEvent, right: KeyEvent): number {
  return (left.making?.ordinal ?? 0) - (right.making?.ordinal ?? 0);
}

function isMaking({ kind }: KeyEvent): boolean {
  return kind === 'create' || kind === 'rotate';
}

class Planner {
  readonly #options: PlanOptions;
  readonly #lists: Lists = { keys: [], versions: [], changes: [], destructions: [], tombstones: [] };
  readonly #reapplied: Reapplied[] = [];
  readonly #rebuilt: Rebuilt[] = [];
  readonly #lost: Lost[] = [];

  constructor(options: PlanOptions) {
    this.#options = options;
  }

  plan(intents: readonly string[]): Plan {
    const { above, totals } = this.#options;
    const acceptance = { above, totals, withdrawn: intents, ...this.#lists };
    return { acceptance, reapplied: this.#reapplied, rebuilt: this.#rebuilt, lost: this.#lost };
  }

  async take(history: KeyHistory, vault: Vault | undefined): Promise<void> {
    const { vaultId, keyId } = history;
    if (vault === undefined) { this.#loseKey(history, 'the store does not know its vault'); return; }
    let key: Key | undefined;
    try {
      key = await this.#options.store.findKey(vaultId, keyId);
    } catch (error) {
      if (asKmsError(error).code !== 'integrity') throw error;
      this.#loseKey(history, 'its rows are damaged: nothing was applied to it'); return;
    }
    if (key === undefined) await this.#unknownKey(history, vault);
    else if (!isTombstone(key)) await this.#knownKey(history, vault, key);
  }

  async #knownKey(history: KeyHistory, vault: Vault, key: Key): Promise<void> {
    if (history.events.every(({ kind }) => kind === 'create' || kind === 'activate' || kind === 'other')) return;
    const { vaultId, keyId } = history;
    const unknown = beyond(history, await this.#options.store.changesOf(vaultId, keyId));
    const restriction = standing(history, unknown, vault.compromiseRule === 'final');
    if (restriction !== null && isDestroyed(restriction.state)) { this.#destroyed(history, key, restriction); return; }
    const rotations = history.events.filter((event) => event.kind === 'rotate' && unknown.has(event));
    const versions = await this.#versions(history, rotations, key.versions.length);
    for (const version of versions) this.#lists.versions.push({ vaultId, keyId, version });
    this.#restrict(history, key, restriction, versions);
  }

  #restrict(place: Place, key: Key, restriction: Restriction | null, versions: readonly NewVersion[]): void {
    const { vaultId, keyId } = place;
    const rebuilt = versions.length > 0;
    const state = strictest([key.state, restriction?.state ?? 'active', rebuilt ? 'deactivated' : 'active']);
    const reason = restriction?.reason ?? 'unspecified';
    if (rebuilt) {
      const ordinals = versions.map((_, index) => key.versions.length + index);
      this.#rebuilt.push({ vaultId, keyId, state, versions: ordinals, objectIds: idsOf(versions) });
    }
    if (RANK[state] <= RANK[key.state]) return;
    const deactivatedMs = key.deactivatedMs ?? restriction?.deactivatedMs ?? this.#options.nowMs;
    const compromisedMs = key.compromisedMs ?? restriction?.compromisedMs ?? null;
    const change = { state, deactivatedMs, deactivationReason: reason, compromisedMs };
    this.#lists.changes.push({ vaultId, keyId, change });
    if (restriction !== null) this.#reapplied.push({ vaultId, keyId, state, reason });
  }

  #destroyed({ vaultId, keyId }: Place, key: Key, restriction: Restriction): void {
    const { bootId, nowMs } = this.#options;
    const state: Destroyed = key.state === 'compromised' ? 'destroyed_compromised' : (restriction.state as Destroyed);
    const { reason } = restriction;
    const times = { deactivatedMs: key.deactivatedMs ?? restriction.deactivatedMs, compromisedMs: key.compromisedMs ?? restriction.compromisedMs };
    const change = { state, destroyedMs: restriction.destroyedMs ?? nowMs, ...times };
    this.#lists.destructions.push({ change, intent: { id: randomUUID(), vaultId, keyId, bootId, createdMs: nowMs } });
    this.#reapplied.push({ vaultId, keyId, state, reason });
  }

  async #unknownKey(history: KeyHistory, vault: Vault): Promise<void> {
    const create = history.events.find(({ kind }) => kind === 'create');
    if (create?.making === undefined) { this.#loseKey(history, 'the audit holds no complete record of its making'); return; }
    const restriction = standing(history, new Set(history.events), vault.compromiseRule === 'final');
    const key = newKey(history, create.making, restriction, this.#options.nowMs);
    if (isDestroyed(key.state)) { this.#buried(history, key); return; }
    const makings = history.events.filter(isMaking);
    const [first, ...later] = await this.#versions(history, makings, 0);
    if (first === undefined) return;
    const { vaultId, keyId } = history;
    const versions = [first, ...later] as const;
    this.#lists.keys.push({ key, versions });
    this.#rebuilt.push({ vaultId, keyId, state: key.state, versions: versions.map((_, index) => index), objectIds: idsOf(versions) });
    if (restriction !== null) this.#reapplied.push({ vaultId, keyId, state: key.state, reason: restriction.reason });
  }

  #buried(history: KeyHistory, key: NewKey): void {
    const { bootId, nowMs } = this.#options;
    const { vaultId, keyId, events } = history;
    const objectIds = [...new Set(events.flatMap((event) => event.objectIds))];
    this.#lists.tombstones.push({ key, intent: { id: randomUUID(), vaultId, keyId, objectIds, bootId, createdMs: nowMs } });
    this.#reapplied.push({ vaultId, keyId, state: key.state, reason: key.deactivationReason ?? 'unspecified' });
  }

  /** Versions of these makings, as far as they follow each other; the others are lost. @param from ordinal of the first */
  async #versions(place: Place, makings: readonly KeyEvent[], from: number): Promise<NewVersion[]> {
    const versions: NewVersion[] = [];
    for (const { making, objectIds } of makings.toSorted(byOrdinal)) {
      const made = await this.#version(making, from + versions.length);
      if (typeof made !== 'string') versions.push(made);
      else this.#lost.push({ vaultId: place.vaultId, keyId: place.keyId, version: making?.ordinal ?? null, objectIds, why: made });
    }
    return versions;
  }

  /** @returns why it cannot be rebuilt */
  async #version(making: Making | undefined, ordinal: number): Promise<NewVersion | string> {
    if (making === undefined) return 'the audit holds no complete record of its making';
    if (making.ordinal !== ordinal) return 'its place is taken, or a version before it is lost';
    if (making.origin !== 'generated') return 'it was imported: nothing tells whether the object is the one that came';
    try {
      const material = await this.#options.engine.recognise(making.shape, making.versionId, making.objects);
      const { atMs, shape } = making;
      const uses = { usages: shape.usages, madeFor: shape.usages, tags: [] };
      return { id: making.versionId, enabled: true, nbfMs: null, expMs: null, createdMs: atMs, updatedMs: atMs, ...uses, ...material };
    } catch (thrown) {
      const error = asKmsError(thrown);
      if (LOSSES.has(error.code)) return error.message;
      throw error;
    }
  }

  #loseKey({ vaultId, keyId, events }: KeyHistory, why: string): void {
    const objectIds = [...new Set(events.flatMap((event) => event.objectIds))];
    this.#lost.push({ vaultId, keyId, version: null, objectIds, why });
  }
}

/** Failures that say something about the object; any other says something about the moment. */
const LOSSES: ReadonlySet<KmsError['code']> = new Set(['key-missing', 'integrity', 'decryption-failed', 'unsupported-by-token']);

function isDestroyed(state: KeyState): state is Destroyed {
  return state === 'destroyed' || state === 'destroyed_compromised';
}

function strictest(states: readonly KeyState[]): KeyState {
  return states.reduce((left, right) => (RANK[right] > RANK[left] ? right : left));
}

function idsOf(versions: readonly NewVersion[]): readonly string[] {
  return [...new Set(versions.flatMap(({ objects }) => objects.map(({ objectId }) => objectId)))];
}

/** Label and context are lost with the row: its id stands for the label until somebody renames it. */
function newKey({ vaultId, keyId }: Place, making: Making, restriction: Restriction | null, nowMs: number): NewKey {
  const { kind, bits, curve, usages }: KeyShape = making.shape;
  return {
    ...{ vaultId, id: keyId, name: keyId, label: keyId, context: null, kind, bits, curve, usages },
    ...{ origin: making.origin, backupClass: making.backupClass },
    state: restriction?.state ?? 'deactivated',
    createdMs: making.atMs,
    activatedMs: making.atMs,
    deactivatedMs: restriction?.deactivatedMs ?? nowMs,
    deactivationReason: restriction?.reason ?? 'unspecified',
    compromisedMs: restriction?.compromisedMs ?? null,
    destroyedMs: restriction?.destroyedMs ?? null,
    namedHsm: true,
    deletion: null,
  };
}
