/**
 * The audit log of one process: `append` resolves when the record is on disk (S-6). One write is in flight; everything
 * that arrives meanwhile is the next group. While the disk refuses, so does `append`.
 */

import { setImmediate as endOfTurn } from 'node:timers/promises';

import { KmsError } from '../errors.ts';
import { eventMembers, RECORD_BYTES_MAX, type AuditEvent } from './record.ts';
import { SEGMENT_BYTES } from './segment.ts';
import { AuditStream, type PendingRecord } from './stream.ts';

export interface AuditLog {
  /**
   * Resolves when the record is on disk. Rejects with KmsError `audit-unavailable` (retry after 1 s) when it is not and
   * never will be, `internal` when the event is over 15 KiB or holds something else than text, numbers and booleans.
   */
  append(event: AuditEvent): Promise<void>;
  /** False from a failed write until a later one succeeds, and after close. */
  healthy(): boolean;
  stats(): AuditStats;
  /** Writes what waits and cuts the last segment. Rejects with KmsError `audit-unavailable` if the cut fails. */
  close(): Promise<void>;
}

/** Totals since start, of durable records only. */
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
}

interface Waiting extends PendingRecord {
  readonly resolve: () => void;
  readonly reject: (error: KmsError) => void;
}

const GROUP_RECORDS_MAX = 512;
/** A disk that hangs must not take the memory along. */
const WAITING_MAX = 16_384;
const RETRY_MS = 1000;

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
    return new GroupCommitLog(await AuditStream.create({ directory, host: hostId, boot: bootId, segmentBytes }));
  } catch (cause) {
    throw unavailable('the audit stream cannot be created', cause);
  }
}

class GroupCommitLog implements AuditLog {
  readonly #stream: AuditStream;
  readonly #totals = { records: 0, groups: 0, bytes: 0 };
  #waiting: Waiting[] = [];
  #writing: Promise<void> | undefined;
  /** Why appends are refused; undefined while they are not. */
  #fault: KmsError | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  #retrying: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(stream: AuditStream) {
    this.#stream = stream;
  }

  append(event: AuditEvent): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#assertOpen();
      const times = { wall: Date.now(), mono: monotonicMs() };
      this.#waiting.push({ members: eventMembers(event), ...times, resolve, reject });
      this.#writing ??= this.#writeGroups();
    });
  }

  healthy(): boolean {
    return this.#fault === undefined && this.#closing === undefined;
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

  async #writeGroups(): Promise<void> {
    // Answers of the token come many in one turn of the event loop: the first of them waits for the others.
    await endOfTurn();
    while (this.#waiting.length > 0) await this.#writeGroup();
    this.#writing = undefined;
  }

  async #writeGroup(): Promise<void> {
    try {
      const { records, bytes } = await this.#stream.write(this.#waiting.slice(0, GROUP_RECORDS_MAX));
      for (const written of this.#waiting.splice(0, records)) written.resolve();
      this.#totals.records += records;
      this.#totals.groups += 1;
      this.#totals.bytes += bytes;
    } catch (cause) {
      this.#fail(unavailable('the audit log cannot be written', cause));
    }
  }

  #fail(fault: KmsError): void {
    this.#fault = fault;
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

function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
