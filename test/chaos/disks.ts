/**
 * Small disks of their own for token, store and audit of one installation, to be filled one at a time: a tmpfs on its
 * home and one each on the directories of token and audit.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type Disk = 'store' | 'token' | 'audit';

const SIZE = '24m';
const BELOW: Readonly<Record<Disk, string>> = { store: '.', token: 'softhsm/tokens', audit: 'audit' };
const CHUNK = Buffer.alloc(1024 * 1024, 1);
/** The smallest piece that a disk gives away. */
const PIECE = 4096;
const REFILL_MS = 100;

/** Whether this user may mount anything. */
export function mayMount(): boolean {
  const directory = mkdtempSync(join(tmpdir(), 'kms-mount-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', directory]).status === 0;
  if (mounted) execFileSync('umount', [directory]);
  rmdirSync(directory);
  return mounted;
}

export class Disks {
  #home = '';
  readonly #mounted: string[] = [];

  mount(home: string): void {
    this.#home = home;
    for (const below of Object.values(BELOW)) {
      const directory = join(home, below);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE},mode=700`, 'tmpfs', directory]);
      this.#mounted.push(directory);
    }
  }

  /** Takes all space there is, and what becomes free meanwhile. @returns what gives it back */
  fill(disk: Disk): () => void {
    const path = join(this.#home, BELOW[disk], '.ballast');
    const ballast = openSync(path, 'w', 0o600);
    takeAll(ballast);
    const timer = setInterval(() => { takeAll(ballast); }, REFILL_MS);
    return () => {
      clearInterval(timer);
      closeSync(ballast);
      rmSync(path);
    };
  }

  unmount(): void {
    for (const directory of this.#mounted.reverse()) execFileSync('umount', ['--lazy', directory]);
    this.#mounted.length = 0;
  }
}

function takeAll(ballast: number): void {
  for (let size = CHUNK.length; size >= PIECE; size /= 4) while (takes(ballast, size));
}

function takes(ballast: number, size: number): boolean {
  try {
    return writeSync(ballast, CHUNK, 0, size) === size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}
