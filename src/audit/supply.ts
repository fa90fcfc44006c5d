/** The segments of one stream, each prepared while the one before it fills, off the request path. */

import { Segment } from './segment.ts';

/** Pause after a failed preparation, so that a full disk is not filled and emptied with every group. */
const PAUSE_MS = 1000;

export class SegmentSupply {
  readonly #directory: string;
  readonly #segmentBytes: number;
  /** Number of the segment to be prepared next; the first one came with the directory. */
  #number = 2;
  #prepared: Promise<Segment> | undefined;
  #pausedUntil = 0;

  constructor(directory: string, segmentBytes: number) {
    this.#directory = directory;
    this.#segmentBytes = segmentBytes;
  }

  /** Starts preparing the next segment unless that is under way or just failed. Returns at once. */
  prepareAhead(): void {
    if (performance.now() < this.#pausedUntil) return;
    this.prepared().catch(() => undefined);
  }

  /** Resolves when the next segment is ready; prepares it now if need be. Rejects with the system error. */
  prepared(): Promise<Segment> {
    this.#prepared ??= this.#prepare();
    return this.#prepared;
  }

  /** Hands over the next segment. Rejects with the system error, and can then be asked again. */
  async take(): Promise<Segment> {
    const segment = await this.prepared();
    this.#prepared = undefined;
    this.#number += 1;
    return segment;
  }

  /** Removes a segment that was prepared for nothing. An empty one left behind does no harm to readers. */
  async close(): Promise<void> {
    const spare = await this.#prepared?.catch(() => undefined);
    await spare?.discard(this.#directory).catch(() => undefined);
  }

  async #prepare(): Promise<Segment> {
    try {
      return await Segment.prepare(this.#directory, this.#number, this.#segmentBytes);
    } catch (error) {
      this.#prepared = undefined;
      this.#pausedUntil = performance.now() + PAUSE_MS;
      throw error;
    }
  }
}
