/**
 * Follows macs and checkpoints of one stream, record by record. Remembers the hashes of those records only that a
 * checkpoint to come may cover.
 *
 * Accepted besides a checkpoint at each end of a segment: none there. The token was away, and the next checkpoint
 * covers that segment too; it only cannot be kept or handed on without the next one.
 */

import type { Linked, Position, Witness } from './chain-walk.ts';
import {
  type Checkpoint,
  CHECKPOINT_LAG_MAX,
  type CheckpointKey,
  FIRST_PREVIOUS,
  type PeerHead,
  readCheckpoint,
  type StreamPosition,
} from './checkpoint.ts';
import { type AuditRecord, CHECKPOINT_EVENT, FIRST_PREV, macHolds, type RecordMac } from './record.ts';
import { readStreamEnd, type StreamEnd } from './stream-events.ts';

/** What a record says of another stream. */
export type Statement = (PeerHead | StreamEnd) & { readonly here: Position };

export interface SealWalkOptions {
  /** `<host>/<boot>`. */
  readonly stream: string;
  readonly key: CheckpointKey;
  readonly installation?: string;
  /** Checks the mac of each record that no checkpoint covers. */
  readonly mac?: RecordMac;
  readonly onStatement?: (statement: Statement) => void;
}

interface BadMac extends Position {
  readonly seq: number;
}

/** More are not kept: no honest stream has one. */
const BAD_MACS_MAX = 10_000;

export class SealWalk implements Witness {
  readonly #options: SealWalkOptions;
  readonly #counters = new Map<string, number>();
  /** Hashes of the records after the last one that is covered. */
  readonly #recent = new Map<number, string>();
  #badMacs: BadMac[] = [];
  #records = 0;
  /** Records before the first with a mac. */
  #withoutMac = 0;
  #checkpoint: Checkpoint | undefined;
  #previous = FIRST_PREVIOUS;
  #checkpoints = 0;
  #unsealedSegments = 0;
  #last: { readonly file: string; readonly checkpoint: boolean } | undefined;

  constructor(options: SealWalkOptions) {
    this.#options = options;
  }

  get checkpoint(): Checkpoint | undefined {
    return this.#checkpoint;
  }

  get checkpoints(): number {
    return this.#checkpoints;
  }

  /** Segments before the last one whose last record is no checkpoint. */
  get unsealedSegments(): number {
    return this.#unsealedSegments;
  }

  /** Highest total of each object in any checkpoint. */
  get counters(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counters);
  }

  /** Records after those that the last checkpoint covers, its own not counted. */
  get tail(): number {
    return this.#records - this.#covered - Math.min(1, this.#checkpoints);
  }

  /** Records of the tail without a mac. */
  get unauthenticated(): number {
    return Math.max(0, this.#withoutMac - this.#covered);
  }

  /** First record of the tail whose mac does not hold. */
  get badMac(): Position | undefined {
    const [first] = this.#badMacs;
    return first && { file: first.file, line: first.line };
  }

  take({ record, bytes, hash, here }: Linked): string | undefined {
    const reason = this.#takeMac(record, bytes, here) ?? this.#takeEvent(record, here);
    if (reason !== undefined) return reason;
    this.#records += 1;
    this.#recent.set(record.seq, hash);
    this.#recent.delete(record.seq - CHECKPOINT_LAG_MAX - 1);
    const before = this.#last;
    if (before !== undefined && before.file !== here.file && !before.checkpoint) this.#unsealedSegments += 1;
    this.#last = { file: here.file, checkpoint: record.event === CHECKPOINT_EVENT };
    return undefined;
  }

  signedBy({ event, detail }: AuditRecord): Pick<StreamPosition, 'seq' | 'head'> | undefined {
    if (event !== CHECKPOINT_EVENT) return undefined;
    const signed = readCheckpoint(detail, this.#options.key);
    return typeof signed === 'string' ? undefined : signed.checkpoint;
  }

  get #covered(): number {
    return this.#checkpoint?.count ?? 0;
  }

  #takeMac(record: AuditRecord, bytes: Uint8Array, { file, line }: Position): string | undefined {
    const { mac } = this.#options;
    if (record.mac === undefined) {
      if (this.#withoutMac < this.#records) return 'no mac, and a record before has one';
      this.#withoutMac += 1;
    } else if (mac !== undefined && this.#badMacs.length < BAD_MACS_MAX && !macHolds(bytes, mac)) {
      this.#badMacs.push({ seq: record.seq, file, line });
    }
    return undefined;
  }

  #takeEvent(record: AuditRecord, here: Position): string | undefined {
    if (this.#checkpoint?.closed === true) return 'record after the stream was closed';
    if (record.event === CHECKPOINT_EVENT) return this.#takeCheckpoint(record, here);
    const end = readStreamEnd(record);
    if (typeof end === 'string') return end;
    if (end !== undefined) this.#options.onStatement?.({ ...end, here });
    return undefined;
  }

  #takeCheckpoint(record: AuditRecord, here: Position): string | undefined {
    const signed = readCheckpoint(record.detail, this.#options.key);
    if (typeof signed === 'string') return signed;
    const { checkpoint, hash } = signed;
    const reason = this.#misplaced(checkpoint) ?? this.#disagreement(checkpoint, record.seq);
    if (reason !== undefined) return `checkpoint: ${reason}`;
    this.#checkpoint = checkpoint;
    this.#previous = hash;
    this.#checkpoints += 1;
    this.#forgetCovered(checkpoint);
    for (const [objectId, total] of Object.entries(checkpoint.counters)) {
      this.#counters.set(objectId, Math.max(total, this.#counters.get(objectId) ?? 0));
    }
    for (const peer of checkpoint.peers) this.#options.onStatement?.({ ...peer, here });
    return undefined;
  }

  #misplaced({ stream, host, boot, installation, previous, count, seq }: Checkpoint): string | undefined {
    const wanted = this.#options.installation ?? installation;
    if (installation !== wanted) return 'of another installation';
    if (stream !== this.#options.stream || stream !== `${host}/${boot}`) return 'of another stream';
    if (previous !== this.#previous) return 'does not name the checkpoint before it';
    return count === seq + 1 ? undefined : 'seq and count do not agree';
  }

  /** Whether it says of this stream what is there. */
  #disagreement({ seq, head, count, closed }: Checkpoint, own: number): string | undefined {
    if (seq >= own) return 'covers records after itself';
    if (this.#checkpoints > 0 && count <= this.#covered) return 'covers no more than the one before';
    const there = seq < 0 ? FIRST_PREV : this.#recent.get(seq);
    if (there === undefined) return 'stands too far behind what it covers';
    if (there !== head) return `signs another hash of record ${seq}`;
    return closed && seq !== own - 1 ? 'closes the stream before its last record' : undefined;
  }

  #forgetCovered({ seq }: Checkpoint): void {
    for (const known of this.#recent.keys()) {
      if (known > seq) break;
      this.#recent.delete(known);
    }
    this.#badMacs = this.#badMacs.filter((bad) => bad.seq > seq);
  }
}
