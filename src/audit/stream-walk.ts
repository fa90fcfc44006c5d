/** Reads the segments of one stream in order, through the walks that follow its chain and its checkpoints. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { KmsError } from '../errors.ts';
import { ChainWalk, type Position, type Problem } from './chain-walk.ts';
import { type Line, readLines } from './lines.ts';
import { SealWalk, type SealWalkOptions } from './seal-walk.ts';
import { segmentName, segmentNumber } from './segment.ts';

export interface StreamWalk {
  readonly chain: ChainWalk;
  readonly seal: SealWalk;
  readonly segments: number;
  /** The first bad position of chain and checkpoints. */
  readonly problem: Problem | undefined;
  /** Line after the last one that was read. */
  readonly end: Position;
}

/**
 * Follows the stream below `directory` (of the audit) up to its first problem.
 *
 * @throws KmsError `audit-unavailable` if a file cannot be read
 */
export async function walkStream(directory: string, options: SealWalkOptions): Promise<StreamWalk> {
  const [host = '', boot = ''] = options.stream.split('/');
  const seal = new SealWalk(options);
  const chain = new ChainWalk(host, boot, seal);
  let end: Position = { file: segmentName(1), line: 1 };
  const path = join(directory, host, boot);
  const segments = await segmentNumbers(path);
  const problem = await reading(path, async () => {
    for await (const { line, here } of linesOf(path, segments)) {
      const found = line === undefined ? (chain.end() ?? { ...here, reason: 'segment missing' }) : chain.take(line, here);
      if (found !== undefined) return found;
      end = { file: here.file, line: here.line + 1 };
    }
    return chain.end();
  });
  return { chain, seal, segments: segments.length, problem, end };
}

/** Numbers of the segments of a stream, ascending. @throws KmsError `audit-unavailable` */
export async function segmentNumbers(path: string): Promise<readonly number[]> {
  const names = await reading(path, () => readdir(path));
  const numbers = names.map(segmentNumber);
  return numbers.filter((number) => number !== undefined).sort((a, b) => a - b);
}

/** All lines of a stream; `line` is undefined for a missing segment, and nothing comes after it. */
export async function* linesOf(
  path: string,
  numbers: readonly number[],
): AsyncGenerator<{ readonly line: Line | undefined; readonly here: Position }, void, undefined> {
  for (let number = 1; number <= Math.max(1, numbers.length); number += 1) {
    const file = segmentName(number);
    if (numbers[number - 1] !== number) return yield { line: undefined, here: { file, line: 1 } };
    let count = 0;
    for await (const line of readLines(join(path, file))) {
      count += 1;
      yield { line, here: { file, line: count } };
    }
  }
}

/** @throws KmsError `audit-unavailable` for the system error of a read */
export async function reading<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof KmsError) throw cause;
    throw new KmsError('audit-unavailable', `${path} cannot be read`, { cause });
  }
}
