/**
 * What became of keys by the word of the audit: for a store that was rolled back, and no longer knows it (integrity §6).
 * Pure. When in doubt, the most restrictive reading wins.
 */

import type { AuditRecord } from '../audit/record.ts';
import type { KeyState, RevocationReason } from './key.ts';
import { readMaking, type Making } from './making.ts';
import { isCompromise } from './state.ts';

/** A decision on a key that succeeded. */
export interface KeyEvent {
  readonly kind: 'create' | 'rotate' | 'activate' | 'deactivate' | 'enable' | 'disable' | 'recover' | 'delete' | 'destroy' | 'other';
  /** `<host>/<boot>`. */
  readonly stream: string;
  readonly seq: number;
  /** Milliseconds, by the clock of its host. */
  readonly atMs: number;
  readonly requestId: string;
  readonly reason: RevocationReason;
  readonly objectIds: readonly string[];
  /** Of create and rotate; undefined when the record lacks what is needed. */
  readonly making: Making | undefined;
}

export interface KeyHistory {
  readonly vaultId: string;
  readonly keyId: string;
  /** By time. */
  readonly events: readonly KeyEvent[];
}

/** What must hold for a key from now on; times are those of the records. */
export interface Restriction {
  readonly state: Exclude<KeyState, 'active'>;
  readonly reason: RevocationReason;
  readonly deactivatedMs: number | null;
  readonly compromisedMs: number | null;
  readonly destroyedMs: number | null;
}

const KINDS: ReadonlyMap<string, KeyEvent['kind']> = new Map([
  ['key.create', 'create'],
  ['key.import', 'create'],
  ['key.rotate', 'rotate'],
  ['key.version.create', 'rotate'],
  ['key.version.import', 'rotate'],
  ['key.update', 'other'],
  ['key.version.disable', 'disable'],
  ['key.version.enable', 'enable'],
  ['key.delete', 'delete'],
  ['key.recover', 'recover'],
  ['key.activate', 'activate'],
  ['key.deactivate', 'deactivate'],
  ['key.destroy', 'destroy'],
  ['reconcile.destroyed', 'destroy'],
]);

/** Clocks of two hosts may differ by so much; `kms doctor` complains beyond it. */
const DOUBT_MS = 2000;

export class Histories {
  readonly #keys = new Map<string, { readonly vaultId: string; readonly keyId: string; readonly events: KeyEvent[] }>();

  take(record: AuditRecord): void {
    const kind = KINDS.get(record.event);
    const { vault, key } = record;
    if (kind === undefined || record.result !== 'success' || vault === undefined || key === undefined) return;
    const name = `${vault}/${key}`;
    const history = this.#keys.get(name) ?? { vaultId: vault, keyId: key, events: [] };
    this.#keys.set(name, history);
    history.events.push(toEvent(kind, record));
  }

  all(): readonly KeyHistory[] {
    return [...this.#keys.values()].map((history) => ({ ...history, events: history.events.toSorted(byTime) }));
  }
}

function toEvent(kind: KeyEvent['kind'], record: AuditRecord): KeyEvent {
  return {
    kind,
    stream: `${record.host}/${record.boot}`,
    seq: record.seq,
    atMs: record.wall,
    requestId: record.requestId ?? '',
    reason: (record.detail?.['reason'] ?? 'unspecified') as RevocationReason,
    objectIds: record.objectIds ?? [],
    making: kind === 'create' || kind === 'rotate' ? readMaking(record) : undefined,
  };
}

function byTime(left: KeyEvent, right: KeyEvent): number {
  if (left.stream === right.stream) return left.seq - right.seq;
  return left.atMs - right.atMs;
}

/**
 * Events that the store does not know of. A request id is the caller's choice, so that each entry of the journal stands
 * for one event only, the earliest.
 *
 * @param journaled request ids of the journal's entries on the key, each as often as there are entries
 */
export function beyond({ events }: KeyHistory, journaled: readonly string[]): ReadonlySet<KeyEvent> {
  const left = new Map<string, number>();
  for (const id of journaled) left.set(id, (left.get(id) ?? 0) + 1);
  return new Set(events.filter(({ requestId }) => {
    const entries = left.get(requestId) ?? 0;
    left.set(requestId, entries - 1);
    return entries <= 0;
  }));
}

/** What lifts what: nothing else undoes a restriction, and nothing a destruction. */
const LIFTED_BY: Readonly<Partial<Record<KeyEvent['kind'], KeyEvent['kind']>>> = { activate: 'deactivate', enable: 'disable', recover: 'delete' };
const RESTRICTIONS: ReadonlySet<KeyEvent['kind']> = new Set(['deactivate', 'disable', 'delete', 'destroy']);

/**
 * Restrictions among `unknown` that nothing lifted: a later event of the other kind lifts those that were certainly before it,
 * and no compromise where that is final. A disabled version and a soft deletion come back as a key that is deactivated:
 * nothing less restricts as much.
 */
export function standing({ events }: KeyHistory, unknown: ReadonlySet<KeyEvent>, final: boolean): Restriction | null {
  let stand: KeyEvent[] = [];
  for (const event of events) {
    if (LIFTED_BY[event.kind] !== undefined) stand = stand.filter((earlier) => !lifts(event, earlier, final));
    else if (unknown.has(event) && RESTRICTIONS.has(event.kind)) stand.push(event);
  }
  return mostRestrictive(stand);
}

function lifts(activation: KeyEvent, earlier: KeyEvent, final: boolean): boolean {
  if (earlier.kind !== LIFTED_BY[activation.kind] || (final && isCompromise(earlier.reason))) return false;
  if (activation.stream === earlier.stream) return activation.seq > earlier.seq;
  return activation.atMs > earlier.atMs + DOUBT_MS;
}

function mostRestrictive(stand: readonly KeyEvent[]): Restriction | null {
  const [first] = stand;
  if (first === undefined) return null;
  const compromise = stand.find(({ kind, reason }) => kind === 'deactivate' && isCompromise(reason));
  const deactivation = stand.find(({ kind }) => kind === 'deactivate') ?? stand.find(({ kind }) => kind !== 'destroy');
  const destruction = stand.find(({ kind }) => kind === 'destroy');
  const live = compromise === undefined ? 'deactivated' : 'compromised';
  const dead = compromise === undefined ? 'destroyed' : 'destroyed_compromised';
  return {
    state: destruction === undefined ? live : dead,
    reason: (compromise ?? deactivation ?? first).reason,
    deactivatedMs: deactivation?.atMs ?? null,
    compromisedMs: compromise?.atMs ?? null,
    destroyedMs: destruction?.atMs ?? null,
  };
}
