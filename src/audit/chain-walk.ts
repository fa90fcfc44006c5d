/** Follows the chain of one stream, record by record, and names the first one that does not belong. Reads no files. */

import type { StreamPosition } from './checkpoint.ts';
import type { Line } from './lines.ts';
import { type AuditRecord, chainHash, FIRST_PREV } from './record.ts';
import { readRecord } from './record-shape.ts';

/** A line of a segment; the first line is 1. */
export interface Position {
  readonly file: string;
  readonly line: number;
}

export interface Problem extends Position {
  readonly reason: string;
}

/** A record that fits the chain so far. */
export interface Linked {
  readonly record: AuditRecord;
  /** Of the line, without its newline. */
  readonly bytes: Uint8Array;
  readonly hash: string;
  readonly here: Position;
}

/** What else is asked of the records. */
export interface Witness {
  /** @returns the reason why the record does not belong after all */
  take(linked: Linked): string | undefined;
  /** What a record that does not fit signs of those before it, if its signature holds. */
  signedBy(record: AuditRecord): Pick<StreamPosition, 'seq' | 'head'> | undefined;
}

/** Two neighbours that do not fit; what comes after them tells which of the two was changed. */
interface Mismatch {
  readonly before: Position | undefined;
  readonly here: Position;
  readonly record: AuditRecord;
  readonly hash: string;
}

const NOT_CHAINED = 'prev is not the hash of the record before';
const CHANGED = 'the record after it holds another hash';

export class ChainWalk {
  readonly #host: string;
  readonly #boot: string;
  readonly #witness: Witness;
  #records = 0;
  #head = FIRST_PREV;
  #last: Position | undefined;
  #torn: Position | undefined;
  #mismatch: Mismatch | undefined;

  constructor(host: string, boot: string, witness: Witness) {
    this.#host = host;
    this.#boot = boot;
    this.#witness = witness;
  }

  /** Records that fit so far. */
  get records(): number {
    return this.#records;
  }

  /** Hash of the last record that fits. */
  get head(): string {
    return this.#head;
  }

  get torn(): boolean {
    return this.#torn !== undefined;
  }

  /** Takes the next line; returns the problem as soon as there is one. */
  take(line: Line, here: Position): Problem | undefined {
    if (this.#torn !== undefined) return { ...this.#torn, reason: 'line without newline, and more after it' };
    if (this.#mismatch !== undefined) return this.#settle(this.#mismatch, line);
    if (line.end === 'too-long') return { ...here, reason: 'line longer than any record' };
    if (line.end === 'newline') return this.#takeRecord(line.bytes, here);
    this.#torn = here;
    return undefined;
  }

  /**
   * The problem, if it is about the last two records and only somebody who knows the hash of the last can settle it.
   *
   * @param known whether the record of that sequence has that hash
   */
  settledBy(known: (seq: number, hash: string) => boolean): Problem | undefined {
    const mismatch = this.#mismatch;
    return mismatch && known(this.#records, mismatch.hash) ? blame(mismatch, true) : undefined;
  }

  /** The problem that only the end of the stream settles. */
  end(): Problem | undefined {
    return this.#mismatch && this.#settleAtEnd(this.#mismatch);
  }

  #takeRecord(bytes: Uint8Array, here: Position): Problem | undefined {
    const record = readRecord(bytes);
    if (typeof record === 'string') return { ...here, reason: record };
    if (record.host !== this.#host || record.boot !== this.#boot) {
      return { ...here, reason: 'record of another stream' };
    }
    if (record.seq !== this.#records) {
      return { ...here, reason: `seq ${record.seq} instead of ${this.#records}` };
    }
    const hash = chainHash(bytes);
    if (record.prev === this.#head) return this.#accept({ record, bytes, hash, here });
    this.#mismatch = { before: this.#last, here, record, hash };
    return undefined;
  }

  #accept(linked: Linked): Problem | undefined {
    const reason = this.#witness.take(linked);
    if (reason !== undefined) return { ...linked.here, reason };
    this.#records += 1;
    this.#head = linked.hash;
    this.#last = linked.here;
    return undefined;
  }

  /** If the record after the mismatch vouches for the second of the two, the first was changed. */
  #settle(mismatch: Mismatch, next: Line): Problem {
    if (next.end !== 'newline') return this.#settleAtEnd(mismatch);
    const record = readRecord(next.bytes);
    const vouched = typeof record !== 'string' && record.prev === mismatch.hash;
    return blame(mismatch, vouched);
  }

  /** Nothing comes after: a signature over the first of the two tells as well. */
  #settleAtEnd(mismatch: Mismatch): Problem {
    const signed = this.#witness.signedBy(mismatch.record);
    return blame(mismatch, signed?.seq === this.#records - 1 && signed.head !== this.#head);
  }
}

function blame({ before, here }: Mismatch, first: boolean): Problem {
  return first && before !== undefined ? { ...before, reason: CHANGED } : { ...here, reason: NOT_CHAINED };
}
