/**
 * The audit log of one process: `append` resolves when the record is on disk (S-6). One write is in flight; everything
 * that arrives meanwhile is the next group. While the disk refuses, so does `append`; no signature is waited for.
 */

import { setImmediate as endOfTurn } from 'node:timers/promises';

import { KmsError } from '../errors.ts';
import { FIRST_PREVIOUS } from './checkpoint.ts';
import { type AuditEvent, CHECKPOINT_EVENT, eventMembers, RECORD_BYTES_MAX, times } from './record.ts';
import { Sealer, type SealingParts, type StreamHead } from './sealer.ts';
import { SEGMENT_BYTES } from './segment.ts';
import { AuditStream, type PendingRecord } from './stream.ts';

export type { PeerHead } from './checkpoint.ts';
export type { SealingParts, StreamHead } from './sealer.ts';

export interface AuditLog {
  /**
   * Resolves when the record is on disk. Rejects with KmsError `audit-unavailable` (retry after 1 s) when it is not and
   * never will be, `internal` when the event is over 15 KiB or holds something else than text, numbers and booleans.
   */
  append(event: AuditEvent): Promise<void>;
  /**
   * Once, when the token is ready: from now on records carry a mac, and checkpoints are signed.
   *
   * @throws KmsError `internal` the second time
   */
  seal(parts: SealingParts): void;
  /** The last record on disk. */
  head(): StreamHead;
  /**
   * False from a failed write until a later one succeeds, after close, and while more records wait for a signature than
   * the limit; those are recorded nevertheless.
   */
  healthy(): boolean;
  stats(): AuditStats;
  /**
   * Writes what waits, closes the stream with a last checkpoint if the token signs in time, and cuts the last segment.
   * Rejects with KmsError `audit-unavailable` if the cut fails.
   */
  close(): Promise<void>;
}

/** Totals since start, of durable records only, checkpoints included. */
export interface AuditStats {
  readonly records: number;
  readonly groups: number;
  readonly bytes: number;
}

export interface AuditLogOptions {
  readonly directory: string;
  /** Names of directories: letters, digits, dot, dash and underscore, at most 128, no dot in front. */
  readonly hostId: string;
  readonly bootId: string;
  /** At least 16 KiB, by default 8 MiB. */
  readonly segmentBytes?: number;
  /** So many records may wait for a signature, by default 100,000. */
  readonly unsignedMax?: number;
  /** How long close waits for the last signature, in milliseconds, by default 2,000. */
  readonly closeMs?: number;
}

interface Waiting extends PendingRecord {
  readonly resolve: () => void;
  readonly reject: (error: KmsError) => void;
}

const GROUP_RECORDS_MAX = 512;
/** A disk that hangs must not take the memory along. */
const WAITING_MAX = 16_384;
const RETRY_MS = 1000;
const UNSIGNED_MAX = 100_000;
const CLOSE_MS = 2000;

/**
 * Opens a new stream `directory/hostId/bootId`; a stream is never continued.
 *
 * @throws KmsError `audit-unavailable` if it cannot be created or exists, `internal` for an option outside its rule
 */
export async function openAuditLog(options: AuditLogOptions): Promise<AuditLog> {
  const { directory, hostId, bootId, segmentBytes = SEGMENT_BYTES } = options;
  const named = [hostId, bootId].every((id) => /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/.test(id));
  if (!named || !Number.isSafeInteger(segmentBytes) || segmentBytes < RECORD_BYTES_MAX) {
    throw new KmsError('internal', 'audit: host id, boot id or segment size outside its rule');
  }
  try {
    const stream = await AuditStream.create({ directory, host: hostId, boot: bootId, segmentBytes });
    return new GroupCommitLog(stream, options);
  } catch (cause) {
    throw unavailable('the audit stream cannot be created', cause);
  }
}

class GroupCommitLog implements AuditLog {
  readonly #stream: AuditStream;
  readonly #totals = { records: 0, groups: 0, bytes: 0 };
  readonly #unsignedMax: number;
  readonly #closeMs: number;
  #sealer: Sealer | undefined;
  /** Records on disk, checkpoints not counted. */
  #recorded = 0;
  #waiting: Waiting[] = [];
  /** A checkpoint goes ahead of all that waits. */
  #checkpoint: Waiting | undefined;
  #ended = false;
  #writing: Promise<void> | undefined;
  /** Why appends are refused; undefined while they are not. */
  #fault: KmsError | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #retrying: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(stream: AuditStream, { unsignedMax = UNSIGNED_MAX, closeMs = CLOSE_MS }: AuditLogOptions) {
    this.#stream = stream;
    this.#unsignedMax = unsignedMax;
    this.#closeMs = closeMs;
  }

  append(event: AuditEvent): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      if (event.event === CHECKPOINT_EVENT) throw new KmsError('internal', 'the audit log alone writes checkpoints');
      this.#waiting.push({ members: eventMembers(event), ...times(), resolve, reject });
      this.#writing ??= this.#writeGroups();
    });
  }

  seal(parts: SealingParts): void {
    if (this.#sealer !== undefined) throw new KmsError('internal', 'the audit log is sealed already');
    this.#stream.seal(parts.mac);
    this.#sealer = new Sealer(parts, {
      position: () => this.#stream.position,
      recorded: () => this.#recorded,
      ripe: () => this.#stream.ripe,
      append: (event) => this.#appendCheckpoint(event),
    });
  }

  head(): StreamHead {
    return this.#sealer?.head ?? { ...this.#stream.position, checkpoint: FIRST_PREVIOUS, closed: false };
  }

  healthy(): boolean {
    const unsigned = this.#recorded - (this.#sealer?.covered ?? 0);
    return this.#fault === undefined && this.#closing === undefined && unsigned <= this.#unsignedMax;
  }

  stats(): AuditStats {
    return { ...this.#totals };
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw unavailable('the audit log is closed');
    if (this.#fault !== undefined) throw this.#fault;
    if (this.#waiting.length >= WAITING_MAX) throw unavailable('too many records wait for the disk');
  }

  /** Also while the log closes; one at a time. */
  #appendCheckpoint(event: AuditEvent): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#ended) throw unavailable('the audit log is closed');
      if (this.#fault !== undefined) throw this.#fault;
      this.#checkpoint = { members: eventMembers(event), ...times(), checkpoint: true, resolve, reject };
      this.#writing ??= this.#writeGroups();
    });
  }

  async #writeGroups(): Promise<void> {
    // Answers of the token come many in one turn of the event loop: the first of them waits for the others.
    await endOfTurn();
    for (;;) {
      this.#promoteCheckpoint();
      if (this.#waiting.length === 0) break;
      await this.#writeGroup();
    }
    this.#writing = undefined;
  }

  #promoteCheckpoint(): void {
    if (this.#checkpoint !== undefined) this.#waiting.unshift(this.#checkpoint);
    this.#checkpoint = undefined;
  }

  async #writeGroup(): Promise<void> {
    try {
      const { records, bytes } = await this.#stream.write(this.#waiting.slice(0, GROUP_RECORDS_MAX));
      const written = this.#waiting.splice(0, records);
      this.#totals.records += records;
      this.#totals.groups += 1;
      this.#totals.bytes += bytes;
      // Only the first of a group can be one.
      this.#recorded += records - (written[0]?.checkpoint === true ? 1 : 0);
      for (const { resolve } of written) resolve();
      this.#sealer?.recorded();
    } catch (cause) {
      this.#fail(unavailable('the audit log cannot be written', cause));
    }
  }

  #fail(fault: KmsError): void {
    this.#fault = fault;
    this.#promoteCheckpoint();
    for (const lost of this.#waiting.splice(0)) lost.reject(fault);
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#closing !== undefined) return;
    this.#retryTimer = setTimeout(() => {
      this.#retrying = this.#retry();
    }, RETRY_MS).unref();
  }

  async #retry(): Promise<void> {
    try {
      await this.#stream.repair();
      this.#fault = undefined;
    } catch {
      this.#retryLater();
    }
  }

  async #end(): Promise<void> {
    clearTimeout(this.#retryTimer);
    await this.#writing;
    await this.#retrying;
    await this.#sealer?.close(this.#closeMs);
    this.#ended = true;
    await this.#writing;
    try {
      await this.#stream.close();
    } catch (cause) {
      throw unavailable('the audit log cannot be closed', cause);
    }
  }
}

function unavailable(message: string, cause?: unknown): KmsError {
  return new KmsError('audit-unavailable', message, { retryAfter: 1, cause });
}
