/** States and transitions (design §3): when a key may be used, and what a state call does to it. Pure. */

import { KmsError } from '../errors.ts';
import type { KeyChange } from '../store/store.ts';
import type { Key, KeyVersion, RevocationReason, Vault } from './key.ts';
import type { Operation } from './usage.ts';

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

/** What the OKMS door and reports show: a disabled newest version looks deactivated there (design §3). */
export function visibleState(key: Key): Key['state'] {
  return key.state === 'active' && newestVersion(key)?.enabled === false ? 'deactivated' : key.state;
}

/**
 * The versions that may serve this operation now, newest first; never empty. Only the newest applies protection.
 * @throws KmsError `wrong-state` with the reason
 */
export function usableVersions(key: Key, operation: Operation, nowMs: number): readonly [KeyVersion, ...KeyVersion[]] {
  if (key.state !== 'active') throw wrongState(`the key is ${key.state}`);
  const enabled = key.versions.toReversed().filter((version) => version.enabled);
  const [newest, ...older] = enabled;
  if (newest === undefined) throw wrongState('every version of the key is disabled');
  if (operation.direction === 'process') return [newest, ...older];
  assertMayApply(key, newest, nowMs);
  return [newest];
}

function assertMayApply(key: Key, version: KeyVersion, nowMs: number): void {
  if (version !== newestVersion(key)) throw wrongState('the newest version of the key is disabled');
  if (version.nbfMs !== null && nowMs < version.nbfMs) throw wrongState('the key version is not active yet');
  if (version.expMs !== null && nowMs >= version.expMs) throw wrongState('the key version has expired');
}

export function wrongState(message: string): KmsError {
  return new KmsError('wrong-state', message);
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

/** @throws KmsError `wrong-state` while the key could still be used */
export function tombstoneState(key: Key): 'destroyed' | 'destroyed_compromised' {
  const usable = key.state === 'active' && key.versions.some(({ enabled }) => enabled);
  if (usable) throw wrongState('the key is active: deactivate it before deleting it');
  return key.state === 'compromised' ? 'destroyed_compromised' : 'destroyed';
}
