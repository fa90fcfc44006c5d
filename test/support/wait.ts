/** Waiting for what is to happen: always for a condition, never for a time that seems long enough. */

import { setTimeout as sleep } from 'node:timers/promises';

/** Long beyond any machine: it ends tests that hang, and measures nothing. */
export const PATIENCE_MS = 120_000;
/** Between two looks: short at first, then longer, for a look may be a new TLS connection. */
const POLL_MS = { least: 20, most: 100 };
const TOLD_CHARACTERS = 4000;

/** Who can say more when a wait is given up: the output of processes that run. */
const witnesses = new Set<() => string>();

/** @param tell what it has said so far @returns takes it back */
export function witness(tell: () => string): () => void {
  witnesses.add(tell);
  return () => { witnesses.delete(tell); };
}

/**
 * Polls until it holds.
 *
 * @param what for the message of a wait that is given up
 * @throws Error saying what did not happen, with the last lines that the processes of this test wrote
 */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>, withinMs = PATIENCE_MS): Promise<void> {
  const end = performance.now() + withinMs;
  for (let pause = POLL_MS.least; performance.now() < end; pause = Math.min(pause * 1.2, POLL_MS.most)) {
    if (await holds()) return;
    await sleep(pause);
  }
  throw givenUp(what, withinMs);
}

/** A promise of something that may never come. @throws Error as `eventually` */
export async function within<T>(what: string, promise: Promise<T>, withinMs = PATIENCE_MS): Promise<T> {
  const over = new AbortController();
  try {
    const late = sleep(withinMs, undefined, { signal: over.signal }).then(() => { throw givenUp(what, withinMs); });
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}

function givenUp(what: string, withinMs: number): Error {
  const told = [...witnesses].map((tell) => tell().slice(-TOLD_CHARACTERS)).filter((text) => text !== '');
  return new Error([`did not happen within ${withinMs / 1000} s: ${what}`, ...told].join('\n--- a process said last:\n'));
}
