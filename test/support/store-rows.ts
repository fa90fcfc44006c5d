/** What the store of an installation says, read behind its back with SQL. */

import { join } from 'node:path';
import Database from 'better-sqlite3';

export interface ObjectRow {
  readonly objectId: string;
  readonly versionId: string;
  readonly keyId: string;
  readonly family: string;
}

export interface IntentRow {
  readonly action: string;
  readonly keyId: string;
  readonly objectIds: readonly string[];
}

export interface StoreRows {
  readonly installation: string;
  readonly objects: readonly ObjectRow[];
  readonly intents: readonly IntentRow[];
  /** Requests that changed something, of processes whose audit stream has ended. */
  readonly ended: readonly string[];
  /** Internal keys by name. */
  readonly internal: ReadonlyMap<string, string>;
}

export function readStore(home: string): StoreRows {
  const database = new Database(join(home, 'kms.db'), { readonly: true });
  try {
    const objects = database.prepare(`
      select o.object_id as objectId, o.family, o.key_id as keyId, v.id as versionId from key_object o
      join key_version v on v.vault_id = o.vault_id and v.key_id = o.key_id and v.ordinal = o.version_ordinal`);
    const intents = database.prepare('select action, key_id as keyId, object_ids as objectIds from intent');
    const internal = database.prepare('select name, object_id as objectId from internal_key');
    const changed = database.prepare(`
      select distinct j.request_id as requestId from journal j join process p on p.boot_id = j.stream
      where p.state in ('closed', 'adopted')`);
    const { id } = database.prepare('select id from installation').get() as { id: string };
    return {
      installation: id,
      objects: objects.all() as ObjectRow[],
      intents: (intents.all() as { action: string; keyId: string; objectIds: string }[]).map((row) =>
        ({ ...row, objectIds: JSON.parse(row.objectIds) })),
      ended: (changed.all() as { requestId: string }[]).map(({ requestId }) => requestId),
      internal: new Map((internal.all() as { name: string; objectId: string }[]).map(({ name, objectId }) => [name, objectId])),
    };
  } finally {
    database.close();
  }
}
