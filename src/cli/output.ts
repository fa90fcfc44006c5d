/** Results as text for people; `--output json` prints the same reports as they are. */

import { Option } from 'commander';
import type { StreamReport, TreeReport } from '../audit/verify.ts';
import type { DoctorReport } from './doctor.ts';

export interface Output {
  readonly output: 'text' | 'json';
}

export function outputOption(): Option {
  return new Option('--output <format>', 'how to print the result').choices(['text', 'json']).default('text');
}

/** A result. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Anything else. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function formatDoctor({ checks, module, ok }: DoctorReport): string {
  const lines = checks.map(({ name, ok: fine, found, cure }) =>
    `${fine ? 'ok     ' : 'MISSING'} ${name}: ${found}${cure === undefined ? '' : `\n          cure: ${cure}`}`);
  const tokens = (module?.tokens ?? []).map(({ label, serial, model, mechanisms }) =>
    `token   ${label} (serial ${serial}, ${model}): ${mechanisms.join(' ')}`);
  return [...tokens, ...lines, ok ? 'all is well' : 'something is missing'].join('\n');
}

export function formatVerification({ streams, missing, elsewhere, ok, store }: TreeReport & { readonly store: string }): string {
  const lines = [
    ...streams.map(formatStream),
    ...missing.map((stream) => `${stream}: MISSING, and named by others`),
    ...elsewhere.map((stream) => `${stream}: of a host that has no stream here`),
  ];
  return [...lines, `store: ${store}`, ok ? 'the audit is intact' : 'the audit is damaged'].join('\n');
}

function formatStream(report: StreamReport): string {
  const { host, boot, state, records, segments, unsealedSegments, unsealedTail, torn, problem } = report;
  const found = problem === undefined ? 'ok' : `BAD at ${problem.file} line ${problem.line}: ${problem.reason}`;
  const remarks = [
    ...(unsealedTail > 0 ? [`unsealed tail: ${unsealedTail}`] : []),
    ...(unsealedSegments > 0 ? [`segments without a checkpoint at their end: ${unsealedSegments}`] : []),
    ...(torn ? ['last line torn'] : []),
  ];
  return [`${host}/${boot}: ${state}, ${records} records in ${segments} segments, ${found}`, ...remarks].join(', ');
}
