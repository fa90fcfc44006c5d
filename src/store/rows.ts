/** What all row mapping shares, and intents. Pure. */

import { KmsError } from '../errors.ts';
import type { Unsealed } from './changes.ts';
import type { Flag, IntentTable, PinLatchTable, ProcessTable } from './schema.ts';
import type { Announcement, Intent, PinLatch, ProcessRow } from './store.ts';

/** A row as its maker hands it over. */
export type Fresh<T> = Omit<T, 'revision'>;

export function flag(value: boolean): Flag {
  return value ? 1 : 0;
}

/** @throws KmsError `integrity` when a list column holds anything but a JSON list of strings; our code writes no other */
export function readList(text: string): string[] {
  const list = parse(text);
  if (Array.isArray(list) && list.every((item) => typeof item === 'string')) return list;
  throw new KmsError('integrity', 'a stored list is damaged');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param slot see `IntentTable` */
export function intentRow(of: Announcement, action: Intent['action']): Unsealed<'intent'> {
  return {
    id: of.id,
    action,
    state: 'announced',
    slot: action === 'rotate' ? null : `${action}/${of.vaultId}/${of.keyId}`,
    vault_id: of.vaultId,
    key_id: of.keyId,
    object_ids: JSON.stringify(of.objectIds),
    boot_id: of.bootId,
    created_ms: of.createdMs,
  };
}

export function toIntent(row: IntentTable): Intent {
  return {
    id: row.id,
    action: row.action,
    state: row.state,
    vaultId: row.vault_id,
    keyId: row.key_id,
    objectIds: readList(row.object_ids),
    bootId: row.boot_id,
    createdMs: row.created_ms,
    revision: row.revision,
  };
}

export function processRow(of: ProcessRow): Omit<ProcessTable, 'seal'> {
  return {
    boot_id: of.bootId,
    host_id: of.hostId,
    pid: of.pid,
    born: of.born,
    started_ms: of.startedMs,
    lease_ms: of.leaseMs,
    stream_seq: of.stream.seq,
    head: of.stream.head,
    checkpoint: of.stream.checkpoint,
    state: of.state,
    settled_ms: of.settledMs,
  };
}

export function toProcess(row: ProcessTable): ProcessRow {
  return {
    bootId: row.boot_id,
    hostId: row.host_id,
    pid: row.pid,
    born: row.born,
    startedMs: row.started_ms,
    leaseMs: row.lease_ms,
    stream: { seq: row.stream_seq, head: row.head, checkpoint: row.checkpoint },
    state: row.state,
    settledMs: row.settled_ms,
  };
}

export function toPinLatch(row: PinLatchTable): PinLatch {
  return { hostId: row.host_id, source: row.source, atMs: row.at_ms };
}
