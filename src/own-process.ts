/** Processes of this host, named for good: a process id comes back after a while, with its time of birth it does not. */

import { readFileSync } from 'node:fs';

export interface Birth {
  readonly pid: number;
  /** In clock ticks since the host started (proc(5), stat field 22), with the id of that start. */
  readonly born: string;
}

/** @returns undefined when there is no such process */
export function birthOf(pid: number): Birth | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the name of the program, in brackets, and may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const dead = fields[0] === 'Z' || fields[0] === 'X';
    return dead ? undefined : { pid, born: `${hostStart()}:${fields[19] ?? ''}` };
  } catch {
    return undefined;
  }
}

/** @returns whether it still runs, and is no other process with the same id */
export function isRunning({ pid, born }: Birth): boolean {
  return birthOf(pid)?.born === born;
}

function hostStart(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
