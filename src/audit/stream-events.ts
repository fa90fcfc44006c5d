/**
 * The records by which streams speak of other streams and of the store: a dead stream taken over, a stream given up, a
 * change whose outcome its own process could not record.
 */

import { sequence, type StreamPosition } from './checkpoint.ts';
import type { AuditEvent, AuditRecord } from './record.ts';
import { digest, text } from './record-shape.ts';

const ADOPT = 'stream.adopt';
const ABANDON = 'stream.abandon';
export const RECOVERY_EVENT = 'recovery';

/** Where a stream ends, by the word of another. */
export interface StreamEnd extends StreamPosition {
  readonly by: 'adopted' | 'abandoned';
  /** A line without newline follows, which nobody was answered for. */
  readonly torn: boolean;
}

/** Record of the successor on the same host: from now on the stream must end exactly there. */
export function adoptionEvent({ stream, seq, head, torn }: StreamPosition & { readonly torn: boolean }): AuditEvent {
  return { event: ADOPT, result: 'success', detail: { stream, seq, head, torn } };
}

/**
 * Record for a stream of a host that never returns. The stream may be longer than the store knew, so its end is not
 * held to this one.
 */
export function abandonEvent({ stream, seq, head }: StreamPosition, reason: string): AuditEvent {
  return { event: ABANDON, result: 'success', detail: { stream, seq, head, torn: false, reason } };
}

/** A change that the journal holds and no outcome record tells of. */
export interface Recovery {
  readonly requestId: string;
  /** Of the process that made the change, `<host>/<boot>`. */
  readonly stream: string;
  readonly journalSeq: number;
  readonly table: string;
  readonly vault?: string;
  readonly key?: string;
  readonly version?: number | string;
  /** What else is to be said. */
  readonly note?: string;
}

/** `success`: the change is in the store, whatever its caller was told. */
export function recoveryEvent({ requestId, stream, journalSeq, table, note, ...about }: Recovery): AuditEvent {
  return { event: RECOVERY_EVENT, result: 'success', requestId, ...about, detail: { stream, journalSeq, table, ...(note !== undefined && { note }) } };
}

/** @returns the end that a record states of another stream, undefined if it states none, or why it is malformed */
export function readStreamEnd({ event, detail }: AuditRecord): StreamEnd | string | undefined {
  if (event !== ADOPT && event !== ABANDON) return undefined;
  const { stream, seq, head, torn } = detail ?? {};
  if (!text(stream) || !sequence(seq) || !digest(head) || typeof torn !== 'boolean') return `malformed ${event}`;
  const position = { stream: stream as string, seq: seq as number, head: head as string };
  return { ...position, torn, by: event === ADOPT ? 'adopted' : 'abandoned' };
}
