/** Results as text for people; `--output json` prints the same reports as they are. */

import type { TreeReport } from '../audit/verify.ts';
import type { DoctorReport } from './doctor.ts';

export function formatDoctor({ checks, module, ok }: DoctorReport): string {
  const lines = checks.map(({ name, ok: fine, found, cure }) =>
    `${fine ? 'ok     ' : 'MISSING'} ${name}: ${found}${cure === undefined ? '' : `\n          cure: ${cure}`}`);
  const tokens = (module?.tokens ?? []).map(({ label, serial, model, mechanisms }) =>
    `token   ${label} (serial ${serial}, ${model}): ${mechanisms.join(' ')}`);
  return [...tokens, ...lines, ok ? 'all is well' : 'something is missing'].join('\n');
}

export function formatVerification({ streams, ok }: TreeReport): string {
  const lines = streams.map(({ host, boot, records, segments, torn, problem }) => {
    const state = problem === undefined ? 'ok' : `BAD at ${problem.file} line ${problem.line}: ${problem.reason}`;
    return `${host}/${boot}: ${records} records in ${segments} segments, ${state}${torn ? ', last line torn' : ''}`;
  });
  return [...lines, ok ? 'the audit is intact' : 'the audit is damaged'].join('\n');
}
