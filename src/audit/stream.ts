/**
 * The chain of one process start over its segments: turns events into lines, writes them, and knows the last durable
 * record. One call at a time; queueing, groups and health are `log.ts`.
 *
 * Invariant: sequence, head and position are those of the last record known to be on disk. A failed write moves none of
 * them, so the next one overwrites whatever the failed one left.
 */

import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { chainHash, FIRST_PREV, recordLine } from './record.ts';
import { Segment, syncDirectory } from './segment.ts';
import { SegmentSupply } from './supply.ts';

/** An event waiting for its place in the chain, with the times at which it was handed in. */
export interface PendingRecord {
  readonly members: string;
  readonly wall: number;
  readonly mono: number;
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

  /**
   * Writes the leading records that fit into one segment, at least one.
   *
   * @returns how many records, and bytes, are now on disk
   * Rejects with the system error: then none of them is on the chain.
   */
  async write(pending: readonly PendingRecord[]): Promise<{ readonly records: number; readonly bytes: number }> {
    let group = this.#compose(pending);
    if (group.records === 0) {
      await this.#rotate();
      group = this.#compose(pending);
    }
    await this.#commit(group);
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
    const { boot, host } = this.#place;
    const lines: string[] = [];
    let room = this.#segment.size - this.#position;
    let head = this.#head;
    for (const { members, wall, mono } of pending) {
      const line = recordLine({ seq: this.#seq + lines.length, wall, mono, boot, host, prev: head }, members);
      room -= Buffer.byteLength(line) + 1;
      if (room < 0) break;
      lines.push(`${line}\n`);
      head = chainHash(line);
    }
    return { records: lines.length, bytes: Buffer.from(lines.join('')), head };
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
