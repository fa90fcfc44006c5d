/** The outcomes that a process owed the audit: one record for each change in the journal whose request has none. */

import type { AuditLog } from '../audit/log.ts';
import { recoveryEvent } from '../audit/stream-events.ts';
import type { KeyStore, ProcessRow } from '../store/store.ts';

const AT_ONCE = 200;

/**
 * @param told which of these requests have a record of their own
 * @param note goes into each record
 * @returns how many records were written
 */
export async function recordOutcomes(
  store: Pick<KeyStore, 'unrecorded' | 'markRecorded'>,
  audit: Pick<AuditLog, 'append'>,
  { hostId, bootId }: Pick<ProcessRow, 'hostId' | 'bootId'>,
  told: (requests: ReadonlySet<string>) => Promise<ReadonlySet<string>>,
  note?: string,
): Promise<number> {
  const entries = await store.unrecorded(bootId);
  const requests = new Set(entries.map(({ requestId }) => requestId));
  const known = await told(requests);
  const owed = entries.filter(({ requestId }) => !known.has(requestId));
  for (const { seq, requestId, table, key } of owed) {
    const about = { requestId, stream: `${hostId}/${bootId}`, journalSeq: seq, table, ...aboutRow(table, key) };
    await audit.append(recoveryEvent({ ...about, ...(note !== undefined && { note }) }));
  }
  const done = [...requests];
  for (let from = 0; from < done.length; from += AT_ONCE) await store.markRecorded(bootId, done.slice(from, from + AT_ONCE));
  return owed.length;
}

/** Vault and key of a row, where its primary key names them. */
function aboutRow(table: string, pk: string): { readonly vault?: string; readonly key?: string } {
  const [vault, key] = pk.split('/');
  const named = (table === 'key' || table === 'key_version') && vault !== undefined && key !== undefined;
  return named ? { vault, key } : {};
}
