/**
 * The lines of a backup file. JSON, one value a line: the header, one line per row, one per audit stream, the trailer.
 *
 * The trailer holds SHA-256 and number of lines of each section (`header`, each table, `streams`) and of all lines before
 * it, newlines included, and its own signature: ES256 by the token's audit key, DER, over `kms-bkup` 0x01 and the
 * trailer's line without `,"signature":"…"`. Anybody with audit-key.pem and openssl can verify it. Pure.
 */

import { KmsError } from '../errors.ts';
import type { HeadTable } from './schema.ts';
import { type AnyRow, SCHEMA_NUMBER, type Value } from './sealed-tables.ts';
import { TRANSFER_TABLES, type TransferTable } from './transfer.ts';

export const BACKUP_VERSION = 1;

export interface BackupHeader {
  readonly format: 'kms-backup';
  readonly version: number;
  readonly installation: string;
  readonly kind: string;
  /** RFC 3339. */
  readonly created: string;
  /** Of the seals. */
  readonly schema: number;
  readonly storeId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Of the newest journal entry, hex. */
  readonly mac: string;
  readonly keyEpoch: number;
  readonly liveRows: number;
  readonly tombstones: number;
  /** Of the head these members are taken from, hex. */
  readonly headSeal: string;
}

export interface BackupStream {
  /** `<host id>/<boot id>`. */
  readonly stream: string;
  readonly seq: number;
  readonly head: string;
  readonly state: string;
}

export interface Section {
  readonly lines: number;
  /** Hex. */
  readonly sha256: string;
}

export interface Trailer {
  readonly trailer: number;
  readonly lines: number;
  readonly sha256: string;
  readonly sections: Readonly<Record<string, Section>>;
}

export type Line =
  | { readonly section: 'header'; readonly header: BackupHeader }
  | { readonly section: TransferTable; readonly row: AnyRow }
  | { readonly section: 'streams'; readonly stream: BackupStream }
  | { readonly section: 'trailer'; readonly trailer: Trailer; readonly signed: Buffer; readonly signature: Buffer };

export function headerOf(head: HeadTable, of: { readonly id: string; readonly kind: string }, created: Date): BackupHeader {
  return {
    format: 'kms-backup', version: BACKUP_VERSION, installation: of.id, kind: of.kind, created: created.toISOString(),
    schema: SCHEMA_NUMBER, storeId: head.store_id, epoch: head.epoch, seq: head.seq, mac: hex(head.mac),
    keyEpoch: head.key_epoch, liveRows: head.live_rows, tombstones: head.tombstones, headSeal: hex(head.seal),
  };
}

/** The head the header was taken from. Only a store that serves is backed up. */
export function headOf(header: BackupHeader): HeadTable {
  return {
    singleton: 1, epoch: header.epoch, seq: header.seq, mac: Buffer.from(header.mac, 'hex'), key_epoch: header.keyEpoch,
    live_rows: header.liveRows, tombstones: header.tombstones, store_id: header.storeId, status: 'serving',
    seal: Buffer.from(header.headSeal, 'hex'),
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

export function rowLine(table: TransferTable, row: AnyRow): string {
  const columns = Object.entries(row).map(([name, value]): [string, unknown] =>
    [name, value instanceof Uint8Array ? { base64: Buffer.from(value).toString('base64') } : value]);
  return JSON.stringify({ table, row: Object.fromEntries<unknown>(columns) });
}

const SIGNED = Buffer.from('kms-bkup\u0001', 'latin1');
const SIGNATURE = /,"signature":"([A-Za-z0-9+/]+={0,2})"\}$/;

export function signedBytes(trailer: Trailer): Buffer {
  return Buffer.concat([SIGNED, Buffer.from(JSON.stringify(trailer))]);
}

export function trailerLine(trailer: Trailer, signature: Uint8Array): string {
  return `${JSON.stringify(trailer).slice(0, -1)},"signature":"${Buffer.from(signature).toString('base64')}"}`;
}

/**
 * @param number from 1, for the message
 * @throws KmsError `integrity` for anything but one of the four kinds of line
 */
export function parseLine(text: string, number: number): Line {
  try {
    const line = read(JSON.parse(text) as Readonly<Record<string, unknown>>, text, number);
    if (line !== undefined) return line;
  } catch (cause) {
    throw refused(`line ${number} is no line of a backup`, cause);
  }
  throw refused(`line ${number} is no line of a backup`);
}

/** Bytes that are no JSON of ours never come this far in a file whose signature holds. */
function read(value: Readonly<Record<string, unknown>>, text: string, number: number): Line | undefined {
  if (number === 1) return value['format'] === 'kms-backup' ? { section: 'header', header: value as unknown as BackupHeader } : undefined;
  if ('row' in value) return rowOf(value);
  if ('stream' in value) return { section: 'streams', stream: value as unknown as BackupStream };
  if (!('trailer' in value)) return undefined;
  const [, signature] = SIGNATURE.exec(text) ?? [];
  if (signature === undefined) return undefined;
  const { trailer, lines, sha256, sections } = value as unknown as Trailer;
  const signed = Buffer.concat([SIGNED, Buffer.from(text.replace(SIGNATURE, '}'))]);
  return { section: 'trailer', trailer: { trailer, lines, sha256, sections }, signed, signature: Buffer.from(signature, 'base64') };
}

function rowOf({ table, row }: Readonly<Record<string, unknown>>): Line | undefined {
  const section = TRANSFER_TABLES.find((name) => name === table);
  if (section === undefined) return undefined;
  const columns = Object.entries(row as Readonly<Record<string, unknown>>).map(([name, value]) => [name, columnOf(value)]);
  return { section, row: Object.fromEntries(columns) as AnyRow };
}

function columnOf(value: unknown): Value {
  if (value === null || typeof value === 'string' || typeof value === 'number') return value;
  const { base64 } = value as { readonly base64: unknown };
  if (typeof base64 !== 'string') throw new TypeError('not a column');
  return Buffer.from(base64, 'base64');
}

/** The file cannot be believed. @param what of it */
export function refused(what: string, cause?: unknown): KmsError {
  return new KmsError('integrity', `the backup is refused: ${what}`, { cause });
}
