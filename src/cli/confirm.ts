/** Destructive commands ask the person at the terminal, or want `--yes` (stack §13). */

import { createInterface } from 'node:readline/promises';

/** @returns false when nobody confirmed, nobody is there included */
export async function confirmed(yes: boolean, question: string): Promise<boolean> {
  if (yes) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await terminal.question(`${question} Type "yes" to go on: `)).trim() === 'yes';
  } finally {
    terminal.close();
  }
}
