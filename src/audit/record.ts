/**
 * What an audit record holds, its one line of JSON, its mac, and the hash that chains it to the line before. Only ids,
 * algorithms, sizes and codes go in (S-7): never plaintext, ciphertext, an access token or a PIN. Touches no file.
 *
 * A line is `{"seq":…,"wall":…,"mono":…,"boot":…,"host":…,"prev":…,<event members>,"mac":…}`. The mac covers the UTF-8
 * bytes of the same line without `,"mac":"<64 hex digits>"`, its closing brace included; it is always the last member.
 * The chain hash covers the whole line, mac included.
 */

import { hash } from 'node:crypto';

import { KmsError } from '../errors.ts';

export type AuditResult = 'success' | 'refused' | 'failed';

/** Who called: never a bare name (`design.md` §9). */
export interface AuditPrincipal {
  readonly method: string;
  readonly issuer: string;
  readonly subject: string;
}

/** What a caller hands in. */
export interface AuditEvent {
  /** Such as `key.encrypt`, `request.refused`, `process.start`. */
  readonly event: string;
  readonly result: AuditResult;
  /** The error code when the result is not success. */
  readonly reason?: string;
  readonly requestId?: string;
  readonly vault?: string;
  readonly principal?: AuditPrincipal;
  /** Fingerprint or id of the certificate or access token, never the thing itself. */
  readonly credential?: string;
  /** Client address. */
  readonly source?: string;
  readonly key?: string;
  /** Ordinal or id of the key version. */
  readonly version?: number | string;
  readonly algorithm?: string;
  readonly bits?: number;
  /** CKA_IDs of the token objects concerned. */
  readonly objectIds?: readonly string[];
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** Where and when a record stands in its stream. */
export interface RecordFrame {
  /** From 0, without gaps. */
  readonly seq: number;
  /** Milliseconds since 1970. */
  readonly wall: number;
  /** Milliseconds of a clock that never goes back; its zero is arbitrary. */
  readonly mono: number;
  readonly boot: string;
  readonly host: string;
  /** SHA-256 (hex) of the bytes of the line before, without its newline. */
  readonly prev: string;
}

export interface AuditRecord extends RecordFrame, AuditEvent {
  /** HMAC-SHA-256 (hex) under K_tail; absent before the token was ready, and never absent again in that stream. */
  readonly mac?: string;
}

/** HMAC-SHA-256 under K_tail (integrity §2), 32 bytes. */
export type RecordMac = (bytes: Uint8Array) => Uint8Array;

/** Event of the records that hold a signed checkpoint; the log alone writes them. */
export const CHECKPOINT_EVENT = 'audit.checkpoint';

/** `prev` of the first record of a stream. */
export const FIRST_PREV = '0'.repeat(64);

/** Longest line with its newline; room for the frame is kept by `EVENT_BYTES_MAX`. */
export const RECORD_BYTES_MAX = 16 * 1024;
const EVENT_BYTES_MAX = RECORD_BYTES_MAX - 1024;

/** Now, by the two clocks of a record. */
export function times(): Pick<RecordFrame, 'wall' | 'mono'> {
  return { wall: Date.now(), mono: Number(process.hrtime.bigint() / 1_000_000n) };
}

/** SHA-256 (64 hex characters) of a line without its newline. */
export function chainHash(line: string | Uint8Array): string {
  return hash('sha256', line, 'hex');
}

/**
 * The members of an event as JSON text without braces, in fixed order; members that an event does not have by its type
 * are left out.
 *
 * @throws KmsError `internal` if it is over 15 KiB or a detail is not a string, finite number or boolean
 */
export function eventMembers(event: AuditEvent): string {
  assertNumbers(event);
  const members = JSON.stringify({
    event: event.event,
    result: event.result,
    reason: event.reason,
    requestId: event.requestId,
    vault: event.vault,
    principal: event.principal && principalMembers(event.principal),
    credential: event.credential,
    source: event.source,
    key: event.key,
    version: event.version,
    algorithm: event.algorithm,
    bits: event.bits,
    objectIds: event.objectIds,
    detail: event.detail,
  }).slice(1, -1);
  if (Buffer.byteLength(members) > EVENT_BYTES_MAX) throw new KmsError('internal', 'audit event over 15 KiB');
  return members;
}

/** The line of a record, without newline. JSON escapes NUL and newline, so neither is ever inside a line. */
export function recordLine(frame: RecordFrame, members: string): string {
  const { seq, wall, mono, boot, host, prev } = frame;
  return `${JSON.stringify({ seq, wall, mono, boot, host, prev }).slice(0, -1)},${members}}`;
}

/** The same line with its mac as last member. */
export function withMac(line: string, mac: RecordMac): string {
  return `${line.slice(0, -1)},"mac":"${Buffer.from(mac(Buffer.from(line))).toString('hex')}"}`;
}

/** `,"mac":"`, 64 digits, `"}` */
const MAC_BYTES = 74;

/** Whether the mac at the end of a line is the one of its other bytes. */
export function macHolds(line: Uint8Array, mac: RecordMac): boolean {
  const covered = Buffer.concat([line.subarray(0, -MAC_BYTES), Buffer.from('}')]);
  const tail = `,"mac":"${Buffer.from(mac(covered)).toString('hex')}"}`;
  return Buffer.from(tail).equals(line.subarray(-MAC_BYTES));
}

function principalMembers({ method, issuer, subject }: AuditPrincipal): AuditPrincipal {
  return { method, issuer, subject };
}

/** JSON would write NaN as null and an object as itself, and the stream would no longer verify. */
function assertNumbers({ bits, version, detail }: AuditEvent): void {
  for (const value of [bits ?? 0, version ?? 0, ...Object.values(detail ?? {})]) {
    if (typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) continue;
    throw new KmsError('internal', 'audit event holds a value that is no text, number or boolean');
  }
}
