/** One `kms init` at a time in one $KMS_HOME. The lock of a process that died is taken over. */

import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.ts';

/** @throws KmsError `conflict` while another process initialises */
export async function underInitLock<T>(home: string, run: () => Promise<T>): Promise<T> {
  const path = join(home, 'init.lock');
  takeLock(path);
  try {
    return await run();
  } finally {
    rmSync(path, { force: true });
  }
}

function takeLock(path: string): void {
  if (tryLock(path)) return;
  const owner = Number(readFileSync(path, 'utf8'));
  if (isAlive(owner)) throw new KmsError('conflict', `kms init is running already (process ${owner})`);
  rmSync(path, { force: true });
  if (!tryLock(path)) throw new KmsError('conflict', 'kms init is running already');
}

function tryLock(path: string): boolean {
  try {
    const file = openSync(path, 'wx', 0o600);
    writeSync(file, String(process.pid));
    closeSync(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return pid > 0;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
