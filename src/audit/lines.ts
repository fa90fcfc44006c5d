/** Reads a segment line by line without holding more than a chunk and a line in memory. */

import { createReadStream } from 'node:fs';

import { RECORD_BYTES_MAX } from './record.ts';

/** How a line ended: by its newline, by the end of the records, or not within the longest record. */
export type LineEnd = 'newline' | 'missing' | 'too-long';

export interface Line {
  /** Without the newline. */
  readonly bytes: Buffer;
  readonly end: LineEnd;
}

const NEWLINE = 0x0a;

/** Stops at the first NUL: what follows was never acknowledged. Throws the system error of the read. */
export async function* readLines(path: string): AsyncGenerator<Line, void, undefined> {
  let rest = Buffer.alloc(0);
  for await (const chunk of chunksBeforeNul(path)) {
    rest = Buffer.concat([rest, chunk]);
    for (let at = rest.indexOf(NEWLINE); at >= 0; at = rest.indexOf(NEWLINE)) {
      yield { bytes: rest.subarray(0, at), end: 'newline' };
      rest = rest.subarray(at + 1);
    }
    if (rest.length > RECORD_BYTES_MAX) return yield { bytes: rest, end: 'too-long' };
  }
  if (rest.length > 0) yield { bytes: rest, end: 'missing' };
}

async function* chunksBeforeNul(path: string): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    const nul = chunk.indexOf(0);
    yield nul < 0 ? chunk : chunk.subarray(0, nul);
    if (nul >= 0) return;
  }
}
