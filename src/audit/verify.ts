/**
 * Verifies audit streams offline, from the files alone: segments without a gap, sequence, chain and shape of every
 * record. The chain alone cannot show that a stream was cut at its end or written anew from some record on.
 */

import { readdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { KmsError } from '../errors.ts';
import { ChainWalk, type Problem } from './chain-walk.ts';
import { readLines } from './lines.ts';
import { segmentName, segmentNumber } from './segment.ts';

export interface StreamReport {
  readonly host: string;
  readonly boot: string;
  /** Records up to the first problem. */
  readonly records: number;
  readonly segments: number;
  readonly ok: boolean;
  /** The last line has no newline: the process died in the write, and nobody was answered for it. */
  readonly torn: boolean;
  /** The first bad position; `file` is the name of the segment. */
  readonly problem?: Problem;
}

export interface TreeReport {
  readonly streams: readonly StreamReport[];
  readonly ok: boolean;
}

/**
 * Verifies `…/<host id>/<boot id>`.
 *
 * @throws KmsError `audit-unavailable` if a file cannot be read
 */
export async function verifyStream(directory: string): Promise<StreamReport> {
  const boot = basename(resolve(directory));
  const host = basename(dirname(resolve(directory)));
  const walk = new ChainWalk(host, boot);
  const segments = await reading(directory, () => segmentsOf(directory));
  const problem = await reading(directory, () => walkSegments(directory, segments, walk));
  const report = { host, boot, records: walk.records, segments: segments.length, ok: problem === undefined };
  return { ...report, torn: problem === undefined && walk.torn, ...(problem && { problem }) };
}

/**
 * Verifies every stream below the audit directory. Names with a dot in front are streams that never came to be.
 *
 * @throws KmsError `audit-unavailable` if a directory or file cannot be read
 */
export async function verifyTree(directory: string): Promise<TreeReport> {
  const streams: StreamReport[] = [];
  for (const host of await directoriesIn(directory)) {
    for (const boot of await directoriesIn(host)) streams.push(await verifyStream(boot));
  }
  return { streams, ok: streams.every(({ ok }) => ok) };
}

async function walkSegments(
  directory: string,
  numbers: readonly number[],
  walk: ChainWalk,
): Promise<Problem | undefined> {
  for (let number = 1; number <= Math.max(1, numbers.length); number += 1) {
    const file = segmentName(number);
    if (numbers[number - 1] !== number) return walk.end() ?? { file, line: 1, reason: 'segment missing' };
    const problem = await walkLines(join(directory, file), file, walk);
    if (problem !== undefined) return problem;
  }
  return walk.end();
}

async function walkLines(path: string, file: string, walk: ChainWalk): Promise<Problem | undefined> {
  let line = 0;
  for await (const read of readLines(path)) {
    line += 1;
    const problem = walk.take(read, { file, line });
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Numbers of the segments, ascending. */
async function segmentsOf(directory: string): Promise<number[]> {
  const numbers = (await readdir(directory)).map(segmentNumber);
  return numbers.filter((number) => number !== undefined).sort((a, b) => a - b);
}

async function directoriesIn(directory: string): Promise<string[]> {
  const entries = await reading(directory, () => readdir(directory, { withFileTypes: true }));
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
  return names.sort().map((name) => join(directory, name));
}

async function reading<T>(directory: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw new KmsError('audit-unavailable', `${directory} cannot be read`, { cause });
  }
}
