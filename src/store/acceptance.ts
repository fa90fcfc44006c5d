/**
 * The transaction that accepts a store which was rolled back: whoever sees the new epoch sees every restriction with it,
 * so that a crash at any point leaves either the refused store or the accepted one.
 */

import type { Changes } from './changes.ts';
import { raiseAll } from './counter-statements.ts';
import { beginEpoch } from './epoch.ts';
import { announceDestroy } from './intent-statements.ts';
import { changedColumns } from './key-rows.ts';
import { buryKey, insertKey, insertTombstone, noSuchKey, restoreVersion } from './key-statements.ts';
import type { Acceptance } from './store.ts';

/** Invocations of one object that may have been reserved in the lost future and that no checkpoint tells of. */
const UNKNOWN_INVOCATIONS = 2 ** 20;

/** @returns how many invocation counters were raised */
export async function acceptAll(changes: Changes, storeId: string, acceptance: Acceptance): Promise<number> {
  await beginEpoch(changes, storeId, acceptance.above);
  for (const id of acceptance.withdrawn) await changes.remove('intent', { id });
  for (const { key, versions: [first, ...later] } of acceptance.keys) {
    await insertKey(changes, key, first);
    for (const version of later) await restoreVersion(changes, { vaultId: key.vaultId, keyId: key.id }, version);
  }
  for (const { version, ...place } of acceptance.versions) await restoreVersion(changes, place, version);
  for (const { vaultId, keyId, change } of acceptance.changes) {
    await changes.update('key', { vault_id: vaultId, id: keyId }, null, changedColumns(change));
  }
  await destroyAll(changes, acceptance);
  const counted = await changes.db.selectFrom('key_object').select('object_id').where('family', 'in', ['gcm', 'dk']).execute();
  return raiseAll(changes.db, acceptance.totals, counted.map(({ object_id }) => object_id), UNKNOWN_INVOCATIONS);
}

async function destroyAll(changes: Changes, { destructions, tombstones }: Acceptance): Promise<void> {
  for (const { change, intent } of destructions) {
    const { vaultId, keyId } = intent;
    const key = await changes.find('key', { vault_id: vaultId, id: keyId });
    if (key === undefined) throw noSuchKey();
    const { state, destroyedMs, ...rest } = change;
    const columns = { ...changedColumns(rest), state, destroyed_ms: destroyedMs };
    const objectIds = await buryKey(changes, { vaultId, keyId }, key.revision, columns);
    await announceDestroy(changes, { ...intent, objectIds });
  }
  for (const { key, intent } of tombstones) {
    await insertTombstone(changes, key);
    await announceDestroy(changes, intent);
  }
}
