/** Finding the records of one request in every stream of a directory. For people: `verify` is what believes them. */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readLines } from './lines.ts';
import type { AuditRecord } from './record.ts';
import { readRecord } from './record-shape.ts';

/** @returns in order of time */
export async function findRequest(directory: string, requestId: string): Promise<readonly AuditRecord[]> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.jsonl'));
  const found: AuditRecord[] = [];
  for (const name of names) found.push(...(await inSegment(join(directory, name), requestId)));
  return found.sort((left, right) => left.wall - right.wall);
}

async function inSegment(path: string, requestId: string): Promise<readonly AuditRecord[]> {
  const found: AuditRecord[] = [];
  const text = JSON.stringify(requestId);
  for await (const { bytes } of readLines(path)) {
    if (!bytes.includes(text)) continue;
    const record = readRecord(bytes);
    if (typeof record !== 'string' && record.requestId === requestId) found.push(record);
  }
  return found;
}
