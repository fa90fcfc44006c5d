/** States and transitions (design §3): when a key may be used, and what a state call does to it. Pure. */

import { KmsError, type Reason } from '../errors.ts';
import type { KeyChange } from '../store/store.ts';
import type { Key, KeyVersion, RevocationReason, Usage, Vault } from './key.ts';
import type { Operation } from './usage.ts';

const DAY_MS = 86_400_000;

const COMPROMISE: ReadonlySet<RevocationReason> = new Set(['key_compromise', 'ca_compromise']);

export function isCompromise(reason: RevocationReason): boolean {
  return COMPROMISE.has(reason);
}

export function isTombstone(key: Key): boolean {
  return key.state === 'destroyed' || key.state === 'destroyed_compromised';
}

export function newestVersion(key: Key): KeyVersion | undefined {
  return key.versions.at(-1);
}

/**
 * What the OKMS door and reports show: a disabled newest version looks deactivated there, and a key that was deleted
 * softly destroyed (design §3).
 */
export function visibleState(key: Key): Key['state'] {
  if (key.deletion !== null) return 'destroyed';
  return key.state === 'active' && newestVersion(key)?.enabled === false ? 'deactivated' : key.state;
}

/**
 * The versions that may serve this operation now, newest first; never empty. Only the newest applies protection.
 * @throws KmsError `wrong-state` with the reason
 */
export function usableVersions(key: Key, operation: Operation, nowMs: number): readonly [KeyVersion, ...KeyVersion[]] {
  assertActive(key);
  const enabled = key.versions.toReversed().filter((version) => version.enabled);
  const [newest, ...older] = enabled;
  if (newest === undefined) throw wrongState('every version of the key is disabled', 'disabled');
  if (operation.direction === 'process') return withUsage([newest, ...older], operation);
  if (newest !== newestVersion(key)) throw wrongState('the newest version of the key is disabled', 'disabled');
  assertInWindow(newest, nowMs);
  return [newest];
}

/** Usages are of versions: an older one may have fewer than the newest. */
function withUsage(versions: readonly KeyVersion[], { usage }: Operation): readonly [KeyVersion, ...KeyVersion[]] {
  const [first, ...others] = versions.filter(({ usages }) => usages.includes(usage));
  if (first === undefined) throw lacksUsage(usage);
  return [first, ...others];
}

export function lacksUsage(usage: Usage): KmsError {
  return new KmsError('wrong-usage', `the key lacks the usage ${usage}`);
}

/**
 * One version, for this operation, now: state, then time window, then usage.
 * @param versionId null for the newest
 * @throws KmsError `not-found`, `wrong-state`, `wrong-usage`
 */
export function usableVersion(key: Key, versionId: string | null, operation: Operation, nowMs: number): KeyVersion {
  const version = versionOf(key, versionId);
  assertActive(key);
  if (!version.enabled) throw wrongState('the key version is disabled', 'disabled');
  if (operation.direction === 'apply') assertInWindow(version, nowMs);
  if (!version.usages.includes(operation.usage)) throw lacksUsage(operation.usage);
  return version;
}

/** @param versionId null for the newest @throws KmsError `not-found` */
export function versionOf(key: Key, versionId: string | null): KeyVersion {
  const version = versionId === null ? newestVersion(key) : key.versions.find(({ id }) => id === versionId);
  if (version === undefined) throw new KmsError('not-found', 'no such version of the key');
  return version;
}

/** @throws KmsError `wrong-state` */
function assertActive({ state }: Key): void {
  if (state !== 'active') throw wrongState(`the key is ${state}`, 'inactive');
}

/** `expMs` is the first moment outside. */
function assertInWindow({ nbfMs, expMs }: KeyVersion, nowMs: number): void {
  if (nbfMs !== null && nowMs < nbfMs) throw wrongState('the key version is not active yet', 'not-yet-valid');
  if (expMs !== null && nowMs >= expMs) throw wrongState('the key version has expired', 'expired');
}

export function wrongState(message: string, reason?: Reason): KmsError {
  return new KmsError('wrong-state', message, reason === undefined ? {} : { reason });
}

/** @returns null when the key is active already @throws KmsError `wrong-state` */
export function activation(key: Key, vault: Vault): KeyChange | null {
  if (newestVersion(key)?.enabled === false) throw wrongState('the newest version of the key is disabled');
  if (key.state === 'active') return null;
  if (key.state === 'compromised' && vault.compromiseRule === 'final') {
    throw wrongState('a compromised key of this vault stays compromised');
  }
  return { state: 'active', deactivatedMs: null, deactivationReason: null, compromisedMs: null };
}

/** @returns null when nothing changes: a compromised key stays compromised whatever the new reason */
export function deactivation(key: Key, reason: RevocationReason, nowMs: number): KeyChange | null {
  const deactivatedMs = key.deactivatedMs ?? nowMs;
  if (COMPROMISE.has(reason)) {
    const compromisedMs = key.compromisedMs ?? nowMs;
    return { state: 'compromised', deactivatedMs, deactivationReason: reason, compromisedMs };
  }
  if (key.state === 'compromised') return null;
  return { state: 'deactivated', deactivatedMs, deactivationReason: reason };
}

/** @returns null for a key that is deleted already */
export function softDeletion({ deletion }: Key, { softDeleteDays }: Vault, nowMs: number): KeyChange | null {
  return deletion === null ? { deletion: { atMs: nowMs, scheduledPurgeMs: nowMs + softDeleteDays * DAY_MS } } : null;
}

/** @throws KmsError `wrong-state` while the key could still be used */
export function tombstoneState(key: Key): 'destroyed' | 'destroyed_compromised' {
  const usable = key.state === 'active' && key.versions.some(({ enabled }) => enabled);
  if (usable) throw wrongState('the key is active: deactivate it before deleting it');
  return key.state === 'compromised' ? 'destroyed_compromised' : 'destroyed';
}
