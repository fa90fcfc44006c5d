/**
 * One file of an audit stream: fixed size, filled with zeros and synced before its first record, so that a record costs
 * one positional O_DSYNC write and no change of file size (`runtime-notes.md` §6). Knows bytes, not records.
 */

import { constants } from 'node:fs';
import { open, rename, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

/** 8 MiB, the lower end of `runtime-notes.md` §6: about 20,000 records. */
export const SEGMENT_BYTES = 8 * 1024 * 1024;

const ZEROS = Buffer.alloc(1024 * 1024);

/** `000001.jsonl` for 1. */
export function segmentName(number: number): string {
  return `${String(number).padStart(6, '0')}.jsonl`;
}

/** The number in a segment's name, or undefined if the name is not one. */
export function segmentNumber(name: string): number | undefined {
  const digits = /^([0-9]{6,})\.jsonl$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Makes created, renamed and removed names in `directory` durable. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export class Segment {
  readonly name: string;
  /** Size in bytes until it is cut. */
  readonly size: number;
  readonly #file: FileHandle;

  private constructor(name: string, size: number, file: FileHandle) {
    this.name = name;
    this.size = size;
    this.#file = file;
  }

  /**
   * Creates the segment under its final name, all zeros and durable, directory entry included. Rejects with the system
   * error; what it had written until then is removed, so that a full disk gets its space back.
   */
  static async prepare(directory: string, number: number, size: number): Promise<Segment> {
    const name = segmentName(number);
    const draft = join(directory, `${name}.draft`);
    try {
      await fillWithZeros(draft, size);
      const file = await open(draft, constants.O_WRONLY | constants.O_DSYNC);
      return await publish(new Segment(name, size, file), draft, directory);
    } catch (error) {
      await unlink(draft).catch(() => undefined);
      throw error;
    }
  }

  /** Resolves when every byte is on disk; a rejection leaves any part of them in the file. */
  async write(bytes: Uint8Array, position: number): Promise<void> {
    await writeFully(this.#file, bytes, position);
  }

  /** Puts zeros on the disk from byte `start` up to, not including, byte `end`. */
  async zero(start: number, end: number): Promise<void> {
    await writeZeros(this.#file, start, end);
  }

  /** Ends the segment at `length` bytes and closes it; closed also when it rejects. */
  async cut(length: number): Promise<void> {
    try {
      await this.#file.truncate(length);
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }

  /** Closes and removes a segment that never held a record. */
  async discard(directory: string): Promise<void> {
    await this.#file.close();
    await unlink(join(directory, this.name));
    await syncDirectory(directory);
  }

  /** Closes a segment that could not get its name, and throws `reason`. */
  async abandon(reason: unknown): Promise<never> {
    await this.#file.close();
    throw reason;
  }
}

async function publish(segment: Segment, draft: string, directory: string): Promise<Segment> {
  try {
    await rename(draft, join(directory, segment.name));
    await syncDirectory(directory);
    return segment;
  } catch (error) {
    return await segment.abandon(error);
  }
}

async function fillWithZeros(path: string, size: number): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await writeZeros(file, 0, size);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeZeros(file: FileHandle, start: number, end: number): Promise<void> {
  for (let at = start; at < end; at += ZEROS.length) {
    await writeFully(file, ZEROS.subarray(0, Math.min(ZEROS.length, end - at)), at);
  }
}

/** A full disk shows as a short write first and as an error only when asked for the rest. */
async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    if (bytesWritten === 0) throw new Error('nothing was written');
    done += bytesWritten;
  }
}
