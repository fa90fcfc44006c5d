/**
 * The chain of one process start over its segments: turns events into lines, writes them, and knows the last durable
 * record. One call at a time; queueing, groups and health are `log.ts`.
 *
 * Invariant: sequence, head and position are those of the last record known to be on disk. A failed write moves none of
 * them, so the next one overwrites whatever the failed one left.
 */

import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { StreamPosition } from './checkpoint.ts';
import { chainHash, FIRST_PREV, RECORD_BYTES_MAX, recordLine, type RecordMac, withMac } from './record.ts';
import { Segment, syncDirectory } from './segment.ts';
import { SegmentSupply } from './supply.ts';

/** An event waiting for its place in the chain, with the times at which it was handed in. */
export interface PendingRecord {
  readonly members: string;
  readonly wall: number;
  readonly mono: number;
  /** It may use the end of a segment that is kept free for it, and ends one that is nearly full. */
  readonly checkpoint?: boolean;
}

/** What a write put on disk. */
export interface Written {
  readonly records: number;
  readonly bytes: number;
}

/** Which stream: `directory/host/boot/000001.jsonl` and on. */
export interface StreamPlace {
  readonly directory: string;
  readonly host: string;
  readonly boot: string;
  readonly segmentBytes: number;
}

interface Group {
  readonly records: number;
  readonly bytes: Buffer;
  readonly head: string;
  /** Its last record is a checkpoint that ends the segment. */
  readonly ends: boolean;
}

export class AuditStream {
  readonly #place: StreamPlace;
  readonly #supply: SegmentSupply;
  #segment: Segment;
  #position = 0;
  /** End of the bytes that a failed write may have left after `#position`. */
  #dirtyEnd = 0;
  #seq = 0;
  #head = FIRST_PREV;
  /** The segment has no room for the next record, and there is no other one yet. */
  #full = false;
  #mac: RecordMac | undefined;
  #cuts: Promise<unknown> = Promise.resolve();

  private constructor(place: StreamPlace, segment: Segment) {
    this.#place = place;
    this.#supply = new SegmentSupply(join(place.directory, place.host, place.boot), place.segmentBytes);
    this.#segment = segment;
  }

  /** Creates the directory with its first segment. Rejects with the system error, also if the stream exists. */
  static async create(place: StreamPlace): Promise<AuditStream> {
    const parent = join(place.directory, place.host);
    await mkdir(parent, { recursive: true, mode: 0o700 });
    const segment = await createDirectory(parent, place);
    await syncDirectory(parent);
    await syncDirectory(place.directory);
    return new AuditStream(place, segment);
  }

  /** From the next record on, each has its mac. */
  seal(mac: RecordMac): void {
    this.#mac = mac;
  }

  /** The last record on disk. */
  get position(): StreamPosition {
    return { stream: `${this.#place.host}/${this.#place.boot}`, seq: this.#seq - 1, head: this.#head };
  }

  /** The segment is so full that the next checkpoint ends it. */
  get ripe(): boolean {
    return !this.#full && this.#position >= ripeAt(this.#segment.size);
  }

  /**
   * Writes the leading records that fit into one segment, at least one.
   *
   * @returns how many records, and bytes, are now on disk
   * Rejects with the system error: then none of them is on the chain.
   */
  async write(pending: readonly PendingRecord[]): Promise<Written> {
    let group = this.#full ? undefined : this.#compose(pending);
    if (group === undefined || group.records === 0) {
      await this.#rotate();
      group = this.#compose(pending);
    }
    await this.#commit(group);
    this.#full = group.ends;
    // From the middle of a segment on: short-lived processes never need a second one.
    if (this.#position * 2 >= this.#segment.size) this.#supply.prepareAhead();
    return { records: group.records, bytes: group.bytes.length };
  }

  /** Clears what a failed write left and makes sure that the next one has room. Rejects with the system error. */
  async repair(): Promise<void> {
    await this.#segment.zero(this.#position, this.#dirtyEnd);
    this.#dirtyEnd = this.#position;
    if (this.#full) await this.#supply.prepared();
  }

  /** Cuts the segment after the last durable record. Rejects with the system error. */
  async close(): Promise<void> {
    await this.#supply.close();
    await this.#cuts;
    await this.#segment.cut(this.#position);
  }

  #compose(pending: readonly PendingRecord[]): Group {
    const lines: string[] = [];
    let bytes = 0;
    let head = this.#head;
    let ends = false;
    for (const record of pending) {
      const line = this.#line(record, this.#seq + lines.length, head);
      const end = bytes + Buffer.byteLength(line) + 1;
      if (end > this.#room(record, bytes)) break;
      bytes = end;
      lines.push(`${line}\n`);
      head = chainHash(line);
      ends = record.checkpoint === true && this.#position + bytes >= ripeAt(this.#segment.size);
      if (ends) break;
    }
    return { records: lines.length, bytes: Buffer.from(lines.join('')), head, ends };
  }

  #line({ members, wall, mono }: PendingRecord, seq: number, prev: string): string {
    const { boot, host } = this.#place;
    const line = recordLine({ seq, wall, mono, boot, host, prev }, members);
    return this.#mac === undefined ? line : withMac(line, this.#mac);
  }

  /** Bytes of the segment that a group may fill whose first `before` bytes are composed. */
  #room({ checkpoint }: PendingRecord, before: number): number {
    const { size } = this.#segment;
    const free = this.#mac === undefined || checkpoint === true || this.#position + before === 0;
    return size - this.#position - (free ? 0 : keptFree(size));
  }

  async #commit(group: Group): Promise<void> {
    const end = this.#position + group.bytes.length;
    this.#dirtyEnd = Math.max(this.#dirtyEnd, end);
    try {
      await this.#segment.write(group.bytes, this.#position);
    } catch (error) {
      // Before the callers hear of the failure: should the process die now, no refused record may be found in the file.
      await this.#segment.zero(this.#position, this.#dirtyEnd).catch(() => undefined);
      throw error;
    }
    this.#position = end;
    this.#dirtyEnd = end;
    this.#seq += group.records;
    this.#head = group.head;
  }

  async #rotate(): Promise<void> {
    this.#full = true;
    const next = await this.#supply.take();
    // A cut that fails leaves zeros behind the last record, and readers stop there.
    this.#cuts = Promise.all([this.#cuts, this.#segment.cut(this.#position).catch(() => undefined)]);
    this.#segment = next;
    this.#position = 0;
    this.#dirtyEnd = 0;
    this.#full = false;
  }
}

/** From there on a checkpoint ends the segment: an eighth before its end, in small ones a quarter. */
function ripeAt(size: number): number {
  return size - Math.max(size / 8, Math.min(size / 4, 64 * 1024));
}

/** Only a checkpoint may use so many bytes at the end of a segment. */
function keptFree(size: number): number {
  return Math.min(size / 8, RECORD_BYTES_MAX);
}

/** The directory gets its name last: one without a segment is then never a start that was cut short. */
async function createDirectory(parent: string, { boot, segmentBytes }: StreamPlace): Promise<Segment> {
  const draft = join(parent, `.${boot}`);
  await mkdir(draft, { mode: 0o700 });
  try {
    const segment = await Segment.prepare(draft, 1, segmentBytes);
    await rename(draft, join(parent, boot)).catch((error: unknown) => segment.abandon(error));
    return segment;
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}
