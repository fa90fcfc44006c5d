/** Commands of the built package without an installation around them, and what is in a directory. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { PATIENCE_MS } from './wait.ts';

const MAIN = resolve('dist/cli/main.js');

export interface Ended {
  /** Exit code, or the signal that ended it. */
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a `kms` command to its end, whatever that is; one that does not end by itself is killed. */
export async function runKms(environment: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<Ended> {
  const options = { env: { PATH: process.env['PATH'], ...environment }, timeout: PATIENCE_MS, killSignal: 'SIGKILL' } as const;
  try {
    return { code: 0, ...(await promisify(execFile)(process.execPath, [MAIN, ...args], options)) };
  } catch (thrown) {
    const { code, signal, stdout, stderr } = thrown as { code: number | null; signal: string | null; stdout: string; stderr: string };
    return { code: code ?? signal ?? 'unknown', stdout, stderr };
  }
}

export function spawnKms(environment: NodeJS.ProcessEnv, ...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, ...args], { env: { PATH: process.env['PATH'], ...environment } });
}

/** Paths below a directory; of directories, too. */
export function pathsBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
}

/** Path to SHA-256 of the file, its mode in front; directories have no hash. */
export function snapshot(directory: string, without: readonly string[] = []): Readonly<Record<string, string>> {
  return Object.fromEntries(pathsBelow(directory).filter((path) => !without.includes(path)).map((path) => {
    const stat = lstatSync(join(directory, path));
    const digest = stat.isFile() ? createHash('sha256').update(readFileSync(join(directory, path))).digest('hex') : 'directory';
    return [path, `${(stat.mode & 0o7777).toString(8)} ${digest}`];
  }));
}
