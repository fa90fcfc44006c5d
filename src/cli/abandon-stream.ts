/**
 * `kms audit abandon`: gives up the audit stream of a host that never returns (integrity §7). What its process changed
 * and nobody recorded is recorded here; whether its own files tell the outcome cannot be known without them.
 */

import { abandonEvent } from '../audit/stream-events.ts';
import type { Config } from '../config.ts';
import { KmsError } from '../errors.ts';
import { LEASE_MS } from '../keys/fleet.ts';
import { recordOutcomes } from '../keys/recovery.ts';
import type { KeyStore, ProcessRow } from '../store/store.ts';
import { operator, withSession } from './session.ts';

export interface AbandonReport {
  readonly stream: string;
  /** The last record that the store knows of. */
  readonly seq: number;
  /** Changes without an outcome, recorded now. */
  readonly recovered: number;
}

const NOTE = 'the stream was abandoned: without its files the outcome that its caller was told cannot be known';

/**
 * @param stream `<host>/<boot>`
 * @throws KmsError `not-found` for a stream that the store does not know, `conflict` for one that is not to be given up
 */
export function abandonStream(config: Config, stream: string, reason: string): Promise<AbandonReport> {
  return withSession(config, async (session) => {
    await session.openStore();
    const { store, audit, bootId } = session;
    const row = await abandonable(store, config, stream);
    const recovered = await recordOutcomes(store, audit, row, () => Promise.resolve(new Set<string>()), NOTE);
    const { seq, head } = row.stream;
    await audit.append({ ...abandonEvent({ stream, seq, head }, reason), requestId: `abandon-${bootId}`, principal: operator(config) });
    if (!(await store.settleStream(row.bootId, 'abandoned', row.stream))) {
      throw new KmsError('conflict', 'the stream was settled by somebody else meanwhile');
    }
    return { stream, seq, recovered };
  });
}

async function abandonable(store: KeyStore, { hostId }: Config, stream: string): Promise<ProcessRow> {
  const row = (await store.processes()).find((known) => `${known.hostId}/${known.bootId}` === stream);
  if (row === undefined) throw new KmsError('not-found', `the store knows no stream ${stream}`);
  if (row.state !== 'open') throw new KmsError('conflict', `the stream is ${row.state} already`);
  if (row.hostId === hostId) throw new KmsError('conflict', 'the stream is of this host: the next server that starts here adopts it');
  const silentMs = (await store.nowMs()) - row.leaseMs;
  if (silentMs <= LEASE_MS) throw new KmsError('conflict', `its process lives: it said so ${Math.round(silentMs / 1000)} s ago`);
  return row;
}
