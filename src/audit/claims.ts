/**
 * What is known of streams from elsewhere (checkpoints and records of other streams, the store), and whether the streams
 * agree. Checked in a second reading: a stream that is being written is then as long as whatever was read of it before.
 */

import { join } from 'node:path';

import type { Position, Problem } from './chain-walk.ts';
import type { StreamPosition } from './checkpoint.ts';
import { chainHash } from './record.ts';
import { segmentName } from './segment.ts';
import { linesOf, reading, segmentNumbers } from './stream-walk.ts';

export interface Claim extends StreamPosition {
  /** Who says so, for people. */
  readonly by: string;
  /** `somewhere`: it may go on after that record; the others: it ends there. */
  readonly end: 'somewhere' | 'adopted' | 'adopted-torn';
}

/** Each different claim once, by stream and record: the store tells of a stream at most once a second. */
export class Claims {
  readonly #claims = new Map<string, Map<number, Claim[]>>();

  add(claim: Claim): void {
    const ofStream = getOr(this.#claims, claim.stream, () => new Map<number, Claim[]>());
    const ofRecord = getOr(ofStream, claim.seq, () => []);
    if (ofRecord.some(({ head, end }) => head === claim.head && end === claim.end)) return;
    ofRecord.push(claim);
  }

  get streams(): readonly string[] {
    return [...this.#claims.keys()].sort();
  }

  of(stream: string): ReadonlyMap<number, readonly Claim[]> {
    return this.#claims.get(stream) ?? new Map<number, Claim[]>();
  }

  adopted(stream: string): boolean {
    return [...this.of(stream).values()].flat().some(({ end }) => end !== 'somewhere');
  }
}

function getOr<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}

/**
 * @param directory of the audit
 * @param claims about one stream whose chain holds, by record; at least one
 * @returns the first position that does not agree
 * @throws KmsError `audit-unavailable` if a file cannot be read
 */
export async function contradiction(
  directory: string,
  stream: string,
  claims: ReadonlyMap<number, readonly Claim[]>,
): Promise<Problem | undefined> {
  const path = join(directory, ...stream.split('/'));
  const ends = [...claims.values()].flat().filter(({ end }) => end !== 'somewhere');
  const furthest = [...claims.keys()].reduce((most, seq) => Math.max(most, seq));
  let seq = 0;
  let next: Position = { file: segmentName(1), line: 1 };
  const problem = await reading(path, async () => {
    for await (const { line, here } of linesOf(path, await segmentNumbers(path))) {
      if (line === undefined || (ends.length === 0 && seq > furthest)) break;
      const whole = line.end === 'newline';
      const found = afterEnd(ends, seq, whole, here) ?? (whole ? other(claims.get(seq), line.bytes, here) : undefined);
      if (found !== undefined) return found;
      if (!whole) break;
      seq += 1;
      next = { file: here.file, line: here.line + 1 };
    }
    return undefined;
  });
  return problem ?? tooShort(claims, seq, next);
}

function afterEnd(ends: readonly Claim[], seq: number, whole: boolean, here: Position): Problem | undefined {
  const passed = ends.find((claim) => seq > claim.seq && (whole || claim.end !== 'adopted-torn'));
  return passed && { ...here, reason: `record after the end of the stream, which ${passed.by} adopted` };
}

function other(claims: readonly Claim[] | undefined, bytes: Uint8Array, here: Position): Problem | undefined {
  if (claims === undefined) return undefined;
  const hash = chainHash(bytes);
  const claim = claims.find(({ head }) => head !== hash);
  return claim && { ...here, reason: `${claim.by} knows another record ${claim.seq}` };
}

function tooShort(claims: ReadonlyMap<number, readonly Claim[]>, records: number, end: Position): Problem | undefined {
  const beyond = [...claims.values()].flat().find(({ seq }) => seq >= records);
  return beyond && { ...end, reason: `the stream ends here, and ${beyond.by} knows its record ${beyond.seq}` };
}
