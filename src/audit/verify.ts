/**
 * Verifies audit streams offline, from the files and the public key alone: segments, sequence, chain, shape, macs where
 * they can be checked, checkpoints, and what streams say of each other. A tail that no checkpoint covers and that nobody
 * knows of can be cut or forged unseen: it is counted, and the store's heads or K_tail make it checkable.
 */

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { Problem } from './chain-walk.ts';
import { type CheckpointKey, checkpointKey, type StreamPosition } from './checkpoint.ts';
import { Claims, contradiction } from './claims.ts';
import type { RecordMac } from './record.ts';
import type { Statement } from './seal-walk.ts';
import { reading, type StreamWalk, walkStream } from './stream-walk.ts';

/** What the store knows of a stream; `dead`: its process is gone and it was neither closed nor taken over. */
export interface KnownStream extends StreamPosition {
  readonly state: 'open' | 'closed' | 'dead' | 'adopted' | 'abandoned';
}

export interface VerifyOptions {
  /** SubjectPublicKeyInfo (DER) of the audit key. */
  readonly publicKey: Uint8Array;
  /** Checkpoints of another installation are problems. */
  readonly installation?: string;
  /** K_tail: for callers with the token. Only streams that nobody closed or adopted are held to it. */
  readonly mac?: RecordMac;
  readonly heads?: readonly KnownStream[];
}

export interface StreamReport {
  readonly host: string;
  readonly boot: string;
  /** `closed`: by a last checkpoint; `adopted`, `abandoned`: by a record of another stream. */
  readonly state: 'closed' | 'adopted' | 'abandoned' | 'open';
  /** Records up to the first problem. */
  readonly records: number;
  readonly segments: number;
  readonly checkpoints: number;
  /** Segments but the last without a checkpoint at their end: the token was away, and the next one covers them. */
  readonly unsealedSegments: number;
  /** Records after those that the last checkpoint covers, its own not counted. */
  readonly unsealedTail: number;
  readonly ok: boolean;
  /** The last line has no newline: the process died in the write, and nobody was answered for it. */
  readonly torn: boolean;
  /** The first bad position; `file` is the name of the segment. */
  readonly problem?: Problem;
}

export interface TreeReport {
  readonly streams: readonly StreamReport[];
  /** Streams that others name and that are not here, though others of their host are. */
  readonly missing: readonly string[];
  /** Streams that others name, of hosts that have none here. No failure unless they are among the heads that are given. */
  readonly elsewhere: readonly string[];
  readonly ok: boolean;
}

const STREAM_NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]*\/[A-Za-z0-9_-][A-Za-z0-9._-]*$/;

/**
 * Verifies every stream below the audit directory. Names with a dot in front are streams that never came to be.
 *
 * @throws KmsError `audit-unavailable` if a directory or file cannot be read, `invalid-field` for an unusable public key
 */
export async function verifyTree(directory: string, options: VerifyOptions): Promise<TreeReport> {
  const tree = new Tree(directory, options);
  for (const host of await directoriesIn(directory)) {
    for (const boot of await directoriesIn(join(directory, host))) await tree.walk(host, boot);
  }
  return tree.report();
}

class Tree {
  readonly #directory: string;
  readonly #options: VerifyOptions;
  readonly #key: CheckpointKey;
  readonly #claims = new Claims();
  readonly #abandoned = new Set<string>();
  /** Streams that a checkpoint or the store knows as closed, and who says so. */
  readonly #closed = new Map<string, string>();
  readonly #dead = new Set<string>();
  readonly #walks = new Map<string, StreamWalk>();

  constructor(directory: string, options: VerifyOptions) {
    this.#directory = directory;
    this.#options = options;
    this.#key = checkpointKey(options.publicKey);
    for (const known of options.heads ?? []) this.#takeKnown(known);
  }

  async walk(host: string, boot: string): Promise<void> {
    const stream = `${host}/${boot}`;
    const { installation, mac } = this.#options;
    const walk = await walkStream(this.#directory, {
      ...{ stream, key: this.#key },
      ...(installation !== undefined && { installation }),
      ...(mac && { mac }),
      onStatement: (statement) => this.#takeStatement(stream, statement),
    });
    this.#walks.set(stream, walk);
  }

  async report(): Promise<TreeReport> {
    await this.#catchUp();
    const streams: StreamReport[] = [];
    for (const [stream, walk] of this.#walks) streams.push(await this.#reportOf(stream, walk));
    const hosts = new Set(streams.map(({ host }) => host));
    const away = this.#claims.streams.filter((stream) => !this.#walks.has(stream));
    const here = (stream: string): boolean => hosts.has(stream.split('/', 1)[0] ?? '');
    const missing = away.filter((stream) => here(stream) && !this.#abandoned.has(stream));
    const elsewhere = away.filter((stream) => !missing.includes(stream));
    const known = new Set(this.#options.heads?.map(({ stream }) => stream));
    const unseen = elsewhere.filter((stream) => known.has(stream) && !this.#abandoned.has(stream));
    return { streams, missing, elsewhere, ok: streams.every(({ ok }) => ok) && missing.length + unseen.length === 0 };
  }

  /** Streams that began, or were closed, while others were read. */
  async #catchUp(): Promise<void> {
    const late = (stream: string): boolean => !this.#walks.has(stream) && this.#isHere(stream);
    for (let found = this.#claims.streams.filter(late); found.length > 0; found = this.#claims.streams.filter(late)) {
      for (const stream of found) await this.#walkAgain(stream);
    }
    const closing = [...this.#closed.keys()].filter((stream) => this.#walks.get(stream)?.seal.checkpoint?.closed !== true);
    for (const stream of closing) if (this.#walks.has(stream)) await this.#walkAgain(stream);
  }

  async #walkAgain(stream: string): Promise<void> {
    const [host = '', boot = ''] = stream.split('/');
    await this.walk(host, boot);
  }

  /** Names of streams come from records that anybody may have appended. */
  #isHere(stream: string): boolean {
    return STREAM_NAME.test(stream) && existsSync(join(this.#directory, stream));
  }

  #takeKnown({ stream, seq, head, state }: KnownStream): void {
    this.#claims.add({ stream, seq, head, by: 'the store', end: 'somewhere' });
    if (state === 'closed') this.#closed.set(stream, 'the store');
    if (state === 'dead') this.#dead.add(stream);
    if (state === 'abandoned') this.#abandoned.add(stream);
  }

  #takeStatement(from: string, { here, ...said }: Statement): void {
    const { stream, seq, head } = said;
    const by = `${from} ${here.file} line ${here.line}`;
    const adopted = 'by' in said && said.by === 'adopted';
    this.#claims.add({ stream, seq, head, by, end: adopted ? (said.torn ? 'adopted-torn' : 'adopted') : 'somewhere' });
    if ('by' in said && said.by === 'abandoned') this.#abandoned.add(stream);
    if ('closed' in said && said.closed) this.#closed.set(stream, by);
  }

  async #reportOf(stream: string, walk: StreamWalk): Promise<StreamReport> {
    const [host = '', boot = ''] = stream.split('/');
    const { chain, seal, segments } = walk;
    const state = this.#stateOf(stream, walk);
    const problem = await this.#problemOf(stream, walk, state);
    return {
      ...{ host, boot, state, records: chain.records, segments, checkpoints: seal.checkpoints },
      ...{ unsealedSegments: seal.unsealedSegments, unsealedTail: seal.tail },
      ...{ ok: problem === undefined, torn: problem === undefined && chain.torn },
      ...(problem && { problem }),
    };
  }

  #stateOf(stream: string, { seal }: StreamWalk): StreamReport['state'] {
    if (seal.checkpoint?.closed === true) return 'closed';
    if (this.#claims.adopted(stream)) return 'adopted';
    return this.#abandoned.has(stream) ? 'abandoned' : 'open';
  }

  async #problemOf(stream: string, walk: StreamWalk, state: StreamReport['state']): Promise<Problem | undefined> {
    const { seal, chain, end } = walk;
    // Whoever adopted a stream checked its macs, and K_tail changes with the key epoch.
    const forged = state === 'open' || state === 'abandoned' ? seal.badMac : undefined;
    if (forged !== undefined) return { ...forged, reason: 'the mac does not hold' };
    const claims = this.#claims.of(stream);
    const known = (seq: number, hash: string): boolean => claims.get(seq)?.some(({ head }) => head === hash) === true;
    if (walk.problem !== undefined) return chain.settledBy(known) ?? walk.problem;
    if (state === 'closed' && chain.torn) return { ...end, line: end.line - 1, reason: 'bytes after the stream was closed' };
    const found = claims.size === 0 ? undefined : await contradiction(this.#directory, stream, claims);
    return found ?? this.#notEnded(stream, state, walk);
  }

  #notEnded(stream: string, state: StreamReport['state'], { end }: StreamWalk): Problem | undefined {
    const closedBy = this.#closed.get(stream);
    if (state !== 'closed' && closedBy !== undefined) return { ...end, reason: `${closedBy} knows it as closed` };
    return state === 'open' && this.#dead.has(stream) ? { ...end, reason: 'never closed' } : undefined;
  }
}

async function directoriesIn(directory: string): Promise<readonly string[]> {
  const entries = await reading(directory, () => readdir(directory, { withFileTypes: true }));
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
  return names.sort();
}
