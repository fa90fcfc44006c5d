/** Follows the chain of one stream, record by record, and names the first one that does not belong. Reads no files. */

import type { Line } from './lines.ts';
import { chainHash, FIRST_PREV } from './record.ts';
import { readRecord } from './record-shape.ts';

/** A line of a segment; the first line is 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
}

export interface Problem extends Position {
  readonly reason: string;
}

/** Two neighbours that do not fit; the record after them tells which of the two was changed. */
interface Mismatch {
  readonly before: Position | undefined;
  readonly here: Position;
  readonly hereHash: string;
}

const NOT_CHAINED = 'prev is not the hash of the record before';

export class ChainWalk {
  readonly #host: string;
  readonly #boot: string;
  #records = 0;
  #head = FIRST_PREV;
  #last: Position | undefined;
  #torn: Position | undefined;
  #mismatch: Mismatch | undefined;

  constructor(host: string, boot: string) {
    this.#host = host;
    this.#boot = boot;
  }

  /** Records that fit so far. */
  get records(): number {
    return this.#records;
  }

  get torn(): boolean {
    return this.#torn !== undefined;
  }

  /** Takes the next line; returns the problem as soon as there is one. */
  take(line: Line, here: Position): Problem | undefined {
    if (this.#torn !== undefined) return { ...this.#torn, reason: 'line without newline, and more after it' };
    if (this.#mismatch !== undefined) return settle(this.#mismatch, line);
    if (line.end === 'too-long') return { ...here, reason: 'line longer than any record' };
    if (line.end === 'newline') return this.#takeRecord(line.bytes, here);
    this.#torn = here;
    return undefined;
  }

  /** The problem that only the end of the stream settles. */
  end(): Problem | undefined {
    return this.#mismatch && { ...this.#mismatch.here, reason: NOT_CHAINED };
  }

  #takeRecord(bytes: Uint8Array, here: Position): Problem | undefined {
    const record = readRecord(bytes);
    if (typeof record === 'string') return { ...here, reason: record };
    if (record.host !== this.#host || record.boot !== this.#boot) {
      return { ...here, reason: 'record of another stream' };
    }
    if (record.seq !== this.#records) {
      return { ...here, reason: `seq ${String(record.seq)} instead of ${String(this.#records)}` };
    }
    if (record.prev === this.#head) this.#accept(bytes, here);
    else this.#mismatch = { before: this.#last, here, hereHash: chainHash(bytes) };
    return undefined;
  }

  #accept(bytes: Uint8Array, here: Position): void {
    this.#records += 1;
    this.#head = chainHash(bytes);
    this.#last = here;
  }
}

/** If the record after the mismatch vouches for the second of the two, the first was changed. */
function settle({ before, here, hereHash }: Mismatch, next: Line): Problem {
  const record = next.end === 'newline' ? readRecord(next.bytes) : 'torn';
  const vouched = typeof record !== 'string' && record.prev === hereHash;
  if (vouched && before !== undefined) return { ...before, reason: 'the record after it holds another hash' };
  return { ...here, reason: NOT_CHAINED };
}
