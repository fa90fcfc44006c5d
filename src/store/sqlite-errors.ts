/**
 * What better-sqlite3 throws, told by its result code. Not by `instanceof`: the native addon keeps the error class of
 * whichever copy of the package was loaded first, and test runners load several.
 */

import type { Fault } from './engine.ts';

/** Whether `thrown` carries this result code or an extended form of it. */
export function hasCode(thrown: unknown, code: string): boolean {
  const own = codeOf(thrown);
  return own === code || own.startsWith(`${code}_`);
}

export function sqliteFault(thrown: unknown): Fault {
  const code = codeOf(thrown);
  if (code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY') return 'unique';
  // Any other broken rule is a defect of ours: asking again would not help.
  if (hasCode(thrown, 'SQLITE_CONSTRAINT')) return 'other';
  return code === '' ? 'other' : 'database';
}

function codeOf(thrown: unknown): string {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown)) return '';
  return typeof thrown.code === 'string' && thrown.code.startsWith('SQLITE_') ? thrown.code : '';
}
