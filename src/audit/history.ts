/** Reads records back from streams that were verified before: for recovery, which asks what happened to each key. */

import { join } from 'node:path';

import type { AuditRecord } from './record.ts';
import { readRecord } from './record-shape.ts';
import { linesOf, segmentNumbers } from './stream-walk.ts';
import type { StreamReport } from './verify.ts';

/**
 * The records of one stream in its order, up to where its verification came.
 *
 * @param directory of the audit
 * @throws KmsError `audit-unavailable` if the directory cannot be read; the system error of a file
 */
export async function* recordsOf(
  directory: string,
  { host, boot, records }: Pick<StreamReport, 'host' | 'boot' | 'records'>,
): AsyncGenerator<AuditRecord, void, undefined> {
  const path = join(directory, host, boot);
  let left = records;
  for await (const { line } of linesOf(path, await segmentNumbers(path))) {
    if (left === 0 || line?.end !== 'newline') return;
    left -= 1;
    const record = readRecord(line.bytes);
    if (typeof record !== 'string') yield record;
  }
}
