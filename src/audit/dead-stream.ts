/**
 * Reads the stream of a process that is gone, for its successor on the same host: checked as far as chain, signatures
 * and macs reach, less a torn last line. The successor then records `adoptionEvent`, and holds the stream to that end.
 */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Problem } from './chain-walk.ts';
import { type Checkpoint, checkpointKey, type StreamPosition } from './checkpoint.ts';
import { requestsIn } from './outcomes.ts';
import type { RecordMac } from './record.ts';
import { segmentName } from './segment.ts';
import { reading, walkStream } from './stream-walk.ts';

export interface DeadStream extends StreamPosition {
  readonly records: number;
  readonly lastCheckpoint: Checkpoint | null;
  /** Records after those that the last checkpoint covers, its own not counted. */
  readonly tail: number;
  /** Records of the tail without mac: written before the token was ready. */
  readonly unauthenticated: number;
  /** A last line without newline was dropped; nobody was answered for it. */
  readonly torn: boolean;
  /** The last checkpoint says that nothing follows: nothing to adopt. */
  readonly closed: boolean;
  /** CKA_ID to GCM invocations reserved in total, by all its checkpoints. */
  readonly counters: Readonly<Record<string, number>>;
  /** Why it cannot be adopted. What is said above holds up to there. */
  readonly problem?: Problem;
  /**
   * Which of the requests have a record here that is no recovery.
   *
   * @throws KmsError `audit-unavailable` if a file cannot be read
   */
  outcomes(requestIds: ReadonlySet<string>): Promise<ReadonlySet<string>>;
}

export interface DeadStreamKeys {
  /** HMAC-SHA-256 under K_tail. */
  readonly mac: RecordMac;
  /** SubjectPublicKeyInfo (DER) of the audit key. */
  readonly publicKey: Uint8Array;
}

/**
 * @param directory of the audit
 * @throws KmsError `audit-unavailable` if a file cannot be read, `invalid-field` for an unusable public key
 */
export async function readDeadStream(
  directory: string,
  host: string,
  boot: string,
  { mac, publicKey }: DeadStreamKeys,
): Promise<DeadStream> {
  const stream = `${host}/${boot}`;
  const { chain, seal, segments, problem: found, end } = await walkStream(directory, { stream, key: checkpointKey(publicKey), mac });
  const closed = seal.checkpoint?.closed === true;
  const forged = seal.badMac && { ...seal.badMac, reason: 'the mac does not hold' };
  const more = closed && chain.torn ? { ...end, line: end.line - 1, reason: 'bytes after the stream was closed' } : undefined;
  const problem = forged ?? found ?? more;
  const path = join(directory, host, boot);
  return {
    ...{ stream, seq: chain.records - 1, head: chain.head, records: chain.records },
    ...{ lastCheckpoint: seal.checkpoint ?? null, tail: seal.tail, unauthenticated: seal.unauthenticated },
    ...{ torn: problem === undefined && chain.torn, closed, counters: seal.counters },
    ...(problem && { problem }),
    outcomes: (requestIds) => reading(path, () => search(path, segments, requestIds)),
  };
}

/** The newest segment first: what the journal asks for was written last. */
async function search(path: string, segments: number, requestIds: ReadonlySet<string>): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (let number = segments; number > 0 && found.size < requestIds.size; number -= 1) {
    const bytes = await readFile(join(path, segmentName(number)));
    for (const requestId of requestsIn(bytes, requestIds)) found.add(requestId);
  }
  return found;
}
