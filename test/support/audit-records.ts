/** Audit records of an installation as objects, as they are on disk now. */

import type { Installation } from './installation.ts';
import type { Exchange } from './wire.ts';

export interface SeenRecord {
  readonly event: string;
  readonly result: string;
  readonly boot: string;
  readonly requestId?: string;
  readonly key?: string;
  readonly version?: number;
  readonly algorithm?: string;
  readonly reason?: string;
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** A line that is being written while we read is left out. */
export function auditRecords(kms: Installation): readonly SeenRecord[] {
  return kms.auditText().flatMap((line) => {
    try {
      return [JSON.parse(line) as SeenRecord];
    } catch {
      return [];
    }
  });
}

/** Which process made the record of each request. */
export function processOf(records: readonly SeenRecord[]): ReadonlyMap<string, number> {
  const pids = new Map(records
    .filter(({ event }) => event === 'process.start')
    .map(({ boot, detail }) => [boot, Number(detail?.['pid'])]));
  return new Map(records.flatMap(({ requestId, boot }) => {
    const pid = pids.get(boot);
    return requestId === undefined || pid === undefined ? [] : [[requestId, pid]];
  }));
}

/** Acknowledged requests without a record of their success: there must be none, at any moment. */
export function unrecorded(records: readonly SeenRecord[], exchanges: readonly Exchange[]): readonly Exchange[] {
  const successes = new Set(records.filter(({ result }) => result === 'success').map(({ requestId }) => requestId));
  return exchanges.filter(({ status, id }) => status >= 200 && status < 300 && !successes.has(id));
}
