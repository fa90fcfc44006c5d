/**
 * One `kms init` and one `kms serve` at a time in one $KMS_HOME. The lock is a file that names its process for good, so
 * that one whose process died is taken over, and one whose process id came back to another is no lock.
 */

import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.ts';
import { type Birth, birthOf, isRunning } from '../own-process.ts';

export type HomeLock = 'init' | 'serve';

/** @throws KmsError `conflict` naming the process that has it */
export async function underHomeLock<T>(home: string, name: HomeLock, run: () => Promise<T>): Promise<T> {
  const release = takeHomeLock(home, name);
  try {
    return await run();
  } finally {
    release();
  }
}

/** @returns gives it back @throws KmsError `conflict` naming the process that has it */
export function takeHomeLock(home: string, name: HomeLock): () => void {
  const path = join(home, `${name}.lock`);
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify(birthOf(process.pid) ?? { pid: process.pid, born: '' }), { mode: 0o600 });
  try {
    // A file that dies while it is being replaced is replaced again.
    while (!linked(own, path)) removeStale(path, `${own}.stale`, name);
  } finally {
    rmSync(own, { force: true });
  }
  return () => { rmSync(path, { force: true }); };
}

/** The lock is there with its content, or not at all. */
function linked(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function removeStale(path: string, aside: string, name: HomeLock): void {
  assertStale(ownerOf(path), name);
  try {
    renameSync(path, aside);
  } catch (error) {
    // Another process was faster.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  const owner = ownerOf(aside);
  // Between the look and the move somebody may have replaced it: then it is theirs again.
  if (owner !== undefined && isRunning(owner)) linked(aside, path);
  rmSync(aside, { force: true });
}

function assertStale(owner: Birth | undefined, name: HomeLock): void {
  if (owner === undefined || !isRunning(owner)) return;
  throw new KmsError('conflict', `kms ${name} is running already here (process ${owner.pid})`);
}

/** Undefined where it is gone, or of a release that wrote the number alone. */
function ownerOf(path: string): Birth | undefined {
  try {
    const owner: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof owner === 'object' ? (owner as Birth) : undefined;
  } catch {
    return undefined;
  }
}
