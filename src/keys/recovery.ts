/** The outcomes that a process owed the audit: one record for each change in the journal whose request has none. */

import type { AuditLog } from '../audit/log.ts';
import { recoveryEvent } from '../audit/stream-events.ts';
import type { KeyStore, ProcessRow } from '../store/store.ts';
import type { Outbox } from './outbox.ts';

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

/**
 * What a process itself still owes, at its end: changes whose record could not be written when its turn was. Nothing of
 * it may be under way any more, so that whatever is not marked has no record. @throws KmsError; then the stream stays open
 */
export async function settleOwn(
  store: Pick<KeyStore, 'unrecorded' | 'markRecorded'>,
  audit: Pick<AuditLog, 'append'>,
  outbox: Outbox,
  own: Pick<ProcessRow, 'hostId' | 'bootId'>,
): Promise<void> {
  await outbox.flush();
  await recordOutcomes(store, audit, own, () => Promise.resolve(new Set<string>()));
}

/** Vault and key of a row, where its primary key names them. */
function aboutRow(table: string, pk: string): { readonly vault?: string; readonly key?: string } {
  const [vault, key] = pk.split('/');
  const named = (table === 'key' || table === 'key_version') && vault !== undefined && key !== undefined;
  return named ? { vault, key } : {};
}
