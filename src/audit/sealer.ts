/**
 * Has checkpoints of one stream signed: at most 100 ms or 1,000 records after the first that none covers, again with
 * pauses while the token cannot sign, and a last one at close. Nothing waits for it but that close: records flow on
 * while a signature is made, so a checkpoint stands a few records after those it covers.
 *
 * At rotation: a segment that is nearly full asks for a checkpoint, whose record then ends it. When the token cannot
 * sign before the segment is full, the stream goes on in the next one, and the next checkpoint covers both.
 */

import { KmsError } from '../errors.ts';
import {
  type Checkpoint,
  CHECKPOINT_LAG_MAX,
  checkpointEvent,
  checkpointText,
  FIRST_PREVIOUS,
  type PeerHead,
  signedBytes,
  type StoreHead,
  type StreamPosition,
} from './checkpoint.ts';
import { takeFitting } from './fitting.ts';
import { type AuditEvent, chainHash, times } from './record.ts';
import { within } from './within.ts';

/** What `audit` needs of token and store, handed in when the token is ready. */
export interface SealingParts {
  readonly installation: string;
  readonly kind: 'dev' | 'prod';
  /** HMAC-SHA-256 under K_tail, 32 bytes. */
  readonly mac: (bytes: Uint8Array) => Uint8Array;
  /** ES256 over the bytes, by the token's audit key; raw r‖s, 64 bytes. May reject while the token is away. */
  readonly sign: (bytes: Uint8Array) => Promise<Uint8Array>;
  /** SubjectPublicKeyInfo (DER) of the audit key. */
  readonly publicKey: Uint8Array;
  /** Head of the store as this process knows it now. */
  readonly storeHead: () => StoreHead;
  /** Newest heads of the other streams, from the store. When it rejects or takes over 1 s, those before are named. */
  readonly peers: () => Promise<readonly PeerHead[]>;
  /** CKA_ID to reserved GCM invocations in total, of the objects that reserved since the last call. */
  readonly takeCounters: () => Readonly<Record<string, number>>;
  /** Told after each durable checkpoint: what goes to the store. */
  readonly onCheckpoint: (head: StreamHead) => void;
}

/** The last record on disk, and the last checkpoint. */
export interface StreamHead extends StreamPosition {
  /** SHA-256 (hex) of the text of the last checkpoint on disk; zeros before the first. */
  readonly checkpoint: string;
  readonly closed: boolean;
}

/** What the sealer needs of its log. */
export interface SealedLog {
  /** The last record on disk. */
  readonly position: () => StreamPosition;
  /** Records on disk, checkpoints not counted. */
  readonly recorded: () => number;
  /** Its segment is nearly full. */
  readonly ripe: () => boolean;
  /** Resolves when the checkpoint is on disk, ahead of records that still wait. */
  readonly append: (event: AuditEvent) => Promise<void>;
}

interface Draft {
  readonly checkpoint: Checkpoint;
  /** Records on disk when it was drafted, checkpoints not counted. */
  readonly recorded: number;
}

const PERIOD_MS = 100;
const PERIOD_RECORDS = 1000;
const PEERS_MS = 1000;
const PAUSE_MS = 200;
const PAUSE_MAX_MS = 5000;
/** Records that may come between the check of the lag and the record of the checkpoint: the group in flight. */
const LAG_MARGIN = 1024;
/** Of the 15 KiB of an event: what counters, and what peers, may take in one checkpoint. */
const SHARE_BYTES = 6 * 1024;

export class Sealer {
  readonly #parts: SealingParts;
  readonly #log: SealedLog;
  readonly #fingerprint: string;
  readonly #counters = new Map<string, number>();
  #peers: readonly PeerHead[] = [];
  /** Peers that the last checkpoint had no room for come first in the next. */
  #firstPeer = 0;
  #previous = FIRST_PREVIOUS;
  #covered = 0;
  #closed = false;
  /** When the first record was there that no checkpoint, nor the one being made, covers; ms of `performance.now()`. */
  #waitingSince: number | undefined;
  #drafted = 0;
  #pause = 0;
  #timer: NodeJS.Timeout | undefined;
  #making: Promise<void> | undefined;
  #ending = false;

  constructor(parts: SealingParts, log: SealedLog) {
    this.#parts = parts;
    this.#log = log;
    this.#fingerprint = chainHash(parts.publicKey);
    this.recorded();
  }

  /** Records that a checkpoint on disk covers, checkpoints not counted. */
  get covered(): number {
    return this.#covered;
  }

  get head(): StreamHead {
    return { ...this.#log.position(), checkpoint: this.#previous, closed: this.#closed };
  }

  /** To be called when records have reached the disk. */
  recorded(): void {
    if (this.#log.recorded() > this.#drafted) this.#waitingSince ??= performance.now();
    if (this.#making !== undefined || this.#pause > 0 || this.#ending) return;
    const waiting = this.#log.recorded() - this.#covered;
    if (waiting === 0 && this.#counters.size === 0) return;
    if (waiting === 0 || waiting >= PERIOD_RECORDS || this.#log.ripe()) this.#start();
    else this.#startIn(PERIOD_MS - (performance.now() - (this.#waitingSince ?? 0)));
  }

  /** Makes the checkpoint that closes the stream, if the token signs within `ms`; else ends without. Never rejects. */
  async close(ms: number): Promise<void> {
    clearTimeout(this.#timer);
    this.#ending = true;
    await within(this.#last(), ms, undefined);
  }

  async #last(): Promise<void> {
    await this.#making;
    do await this.#make(true);
    while (!this.#closed);
  }

  #startIn(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#start();
    }, Math.max(0, ms)).unref();
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#making = this.#attempt();
  }

  async #attempt(): Promise<void> {
    try {
      await this.#make(false);
      this.#pause = 0;
    } catch {
      // Seen in the log's health when it lasts; the records are safe in the chain meanwhile.
      this.#pause = Math.min(Math.max(PAUSE_MS, this.#pause * 2), PAUSE_MAX_MS);
    }
    this.#making = undefined;
    if (this.#ending) return;
    if (this.#pause > 0) this.#startIn(this.#pause);
    else this.recorded();
  }

  async #make(last: boolean): Promise<void> {
    await this.#askPeers();
    const { checkpoint, recorded } = this.#draft(last);
    const text = checkpointText(checkpoint);
    const signature = await this.#parts.sign(signedBytes(text));
    this.#assertRecent(checkpoint);
    await this.#log.append(checkpointEvent(text, signature));
    this.#previous = chainHash(text);
    this.#covered = recorded;
    this.#closed = checkpoint.closed;
    for (const objectId of Object.keys(checkpoint.counters)) this.#counters.delete(objectId);
    this.#parts.onCheckpoint(this.head);
  }

  async #askPeers(): Promise<void> {
    this.#peers = await within(this.#parts.peers(), PEERS_MS, this.#peers);
  }

  #draft(last: boolean): Draft {
    const { installation, kind, storeHead } = this.#parts;
    const { stream, seq, head } = this.#log.position();
    const [host = '', boot = ''] = stream.split('/');
    this.#drafted = this.#log.recorded();
    this.#waitingSince = undefined;
    const counters = this.#someCounters();
    const checkpoint: Checkpoint = {
      ...{ version: 1, kind, installation, stream, host, boot, seq, head, count: seq + 1, previous: this.#previous },
      ...{ ...times(), store: storeHead(), peers: this.#somePeers(stream) },
      ...{ counters: Object.fromEntries(counters), publicKey: this.#fingerprint },
      closed: last && counters.length === this.#counters.size,
    };
    return { checkpoint, recorded: this.#drafted };
  }

  #someCounters(): readonly (readonly [string, number])[] {
    for (const [objectId, total] of Object.entries(this.#parts.takeCounters())) {
      this.#counters.set(objectId, Math.max(total, this.#counters.get(objectId) ?? 0));
    }
    return takeFitting([...this.#counters], SHARE_BYTES);
  }

  #somePeers(own: string): readonly PeerHead[] {
    const known = this.#peers.map(({ stream, seq, head, closed }) => ({ stream, seq, head, closed }));
    const others = known.filter(({ stream }) => stream !== own);
    const from = this.#firstPeer % Math.max(1, others.length);
    const some = takeFitting([...others.slice(from), ...others.slice(0, from)], SHARE_BYTES);
    this.#firstPeer = some.length === others.length ? 0 : from + some.length;
    return some;
  }

  #assertRecent({ seq }: Checkpoint): void {
    if (this.#log.position().seq - seq <= CHECKPOINT_LAG_MAX - LAG_MARGIN) return;
    throw new KmsError('audit-unavailable', 'the signature of the checkpoint came too late');
  }
}
