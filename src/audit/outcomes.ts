/** Finds the records of some requests in a segment by its raw bytes: only lines that name one of them are parsed. */

import type { AuditRecord } from './record.ts';
import { readRecord } from './record-shape.ts';
import { RECOVERY_EVENT } from './stream-events.ts';

const NEWLINE = 0x0a;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** As JSON.stringify writes the member. Inside a text its quotes would be escaped. */
const MEMBER = Buffer.from('"requestId":"');

/**
 * @param segment with or without its zeros
 * @returns those of the requests that a record names which is no recovery
 */
export function requestsIn(segment: Buffer, requestIds: ReadonlySet<string>): ReadonlySet<string> {
  const bytes = beforeNul(segment);
  const wanted = new Set([...requestIds].map((requestId) => JSON.stringify(requestId).slice(1, -1)));
  const found = new Set<string>();
  for (let at = bytes.indexOf(MEMBER); at >= 0; at = bytes.indexOf(MEMBER, at)) {
    const start = at + MEMBER.length;
    at = endOfText(bytes, start);
    if (!wanted.has(bytes.toString('utf8', start, at))) continue;
    const record = recordAround(bytes, start);
    // A detail may have a member of that name too.
    const requestId = record?.event === RECOVERY_EVENT ? undefined : record?.requestId;
    if (requestId !== undefined && requestIds.has(requestId)) found.add(requestId);
  }
  return found;
}

function beforeNul(segment: Buffer): Buffer {
  const nul = segment.indexOf(0);
  return nul < 0 ? segment : segment.subarray(0, nul);
}

/** Position of the quote that ends a JSON text, or the end of the bytes. */
function endOfText(bytes: Buffer, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return Math.min(at, bytes.length);
}

function recordAround(bytes: Buffer, at: number): AuditRecord | undefined {
  const end = bytes.indexOf(NEWLINE, at);
  if (end < 0) return undefined;
  const record = readRecord(bytes.subarray(bytes.lastIndexOf(NEWLINE, at) + 1, end));
  return typeof record === 'string' ? undefined : record;
}
