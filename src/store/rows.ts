/** What all row mapping shares, and intents. Pure. */

import { KmsError } from '../errors.ts';
import type { Flag, IntentTable } from './schema.ts';
import type { Intent } from './store.ts';

/** What every row begins with; `commitCreate` asks for it. */
export const FIRST_REVISION = 0;

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

export function intentRow(of: Fresh<Intent>): IntentTable {
  return {
    id: of.id,
    action: of.action,
    vault_id: of.vaultId,
    key_id: of.keyId,
    object_ids: JSON.stringify(of.objectIds),
    boot_id: of.bootId,
    created_ms: of.createdMs,
    revision: FIRST_REVISION,
  };
}

export function toIntent(row: IntentTable): Intent {
  return {
    id: row.id,
    action: row.action,
    vaultId: row.vault_id,
    keyId: row.key_id,
    objectIds: readList(row.object_ids),
    bootId: row.boot_id,
    createdMs: row.created_ms,
    revision: row.revision,
  };
}
