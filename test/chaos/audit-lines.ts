/** A reader of our own for the audit's JSON lines: whole streams, less the zeros behind and a torn last line. */

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Installation } from '../support/installation.ts';

export interface Line {
  readonly seq: number;
  readonly event: string;
  readonly result: string;
  readonly requestId?: string;
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

export interface Stream {
  /** `<host>/<boot>`. */
  readonly name: string;
  readonly boot: string;
  readonly lines: readonly Line[];
  /** SHA-256 (hex) of the last line. */
  readonly head: string;
  /** Its last checkpoint says that nothing follows. */
  readonly closed: boolean;
}

export function auditStreams({ home }: Installation): readonly Stream[] {
  const root = join(home, 'audit');
  return directoriesIn(root).flatMap((host) => directoriesIn(join(root, host)).map((boot) => readStream(root, host, boot)));
}

/** Undefined when the process has not come so far as to have one. */
export function auditStream(kms: Installation, boot: string): Stream | undefined {
  const root = join(kms.home, 'audit');
  const host = directoriesIn(root).find((name) => directoriesIn(join(root, name)).includes(boot));
  return host === undefined ? undefined : readStream(root, host, boot);
}

function readStream(root: string, host: string, boot: string): Stream {
  const directory = join(root, host, boot);
  const segments = readdirSync(directory).filter((name) => name.endsWith('.jsonl')).sort();
  const texts = segments.flatMap((name) => linesIn(readFileSync(join(directory, name))));
  const lines = texts.map((text) => JSON.parse(text) as Line);
  const head = createHash('sha256').update(texts.at(-1) ?? '').digest('hex');
  return { name: `${host}/${boot}`, boot, lines, head, closed: closes(lines.at(-1)) };
}

/** What follows the last newline was torn by the death of its process: nobody was answered for it. */
function linesIn(bytes: Buffer): readonly string[] {
  const nul = bytes.indexOf(0);
  return bytes.toString('utf8', 0, nul < 0 ? bytes.length : nul).split('\n').slice(0, -1);
}

function closes(line: Line | undefined): boolean {
  const { checkpoint } = line?.event === 'audit.checkpoint' ? line.detail ?? {} : {};
  return typeof checkpoint === 'string' && (JSON.parse(checkpoint) as { closed?: boolean }).closed === true;
}

function directoriesIn(path: string): readonly string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name);
}
