/**
 * What pg throws, told by SQLSTATE: an error message of the server has `severity` beside its five-character `code`
 * (`EPIPE` has five characters, too). Not by `instanceof`: test runners load several copies of a package.
 *
 * The driver itself has errors without any code: `Connection terminated unexpectedly`, `Query read timeout`, `timeout
 * exceeded when trying to connect`, and bare TLS and DNS errors. Their texts are not looked at. `postgres-pool.ts`
 * knows where an error came from: whatever a connection throws that is neither the server's message nor a defect of
 * ours (a KmsError of our type parsers; a TypeError or RangeError of an argument that cannot be sent) is wrapped in
 * ConnectionFailure there.
 */

import { KmsError } from '../errors.ts';
import type { Fault } from './engine.ts';

/** The database could not be reached or did not answer; what it made of the last statement is unknown. */
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';

  constructor(cause?: unknown) {
    super('the connection to the database failed', { cause });
  }
}

/** Classes of SQLSTATE (PostgreSQL manual, appendix A) in which the database, not the statement, is at fault. */
const DATABASE: ReadonlySet<string> = new Set([
  '08', // connection
  '28', // the role or its password is refused
  '3D', // no such database
  '40', // serialization failure, deadlock: rolled back
  '53', // out of disk, memory, connections
  '55', // locks and objects in use, also lock_timeout
  '57', // shut down, starting up, cancelled by statement_timeout
  '58', // I/O
  'F0', // configuration file
  'XX', // internal error, damaged data
]);

/** Single codes of other classes of which the same is true. */
const DATABASE_CODES: ReadonlySet<string> = new Set([
  '25006', // a fail-over left us on a standby
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
  '42501', // rights were taken away
]);

export function postgresFault(thrown: unknown): Fault {
  if (thrown instanceof ConnectionFailure) return 'database';
  const state = sqlState(thrown);
  if (state === '23505') return 'unique';
  return DATABASE.has(state.slice(0, 2)) || DATABASE_CODES.has(state) ? 'database' : 'other';
}

/** The five characters; '' when `thrown` is no message of the server. */
export function sqlState(thrown: unknown): string {
  if (typeof thrown !== 'object' || thrown === null || !('code' in thrown) || !('severity' in thrown)) return '';
  return typeof thrown.code === 'string' && /^[0-9A-Z]{5}$/.test(thrown.code) ? thrown.code : '';
}

/** Whether the connection may not be used again, though it may still be open. */
export function isLasting(thrown: unknown): boolean {
  const state = sqlState(thrown);
  return state === '25006' || ['08', '57', '58', 'XX'].includes(state.slice(0, 2));
}

/** Whether the driver refused to send something, or ours to take it: the connection is as good as before. */
export function isDefect(thrown: unknown): boolean {
  if (thrown instanceof KmsError) return true;
  return thrown instanceof Error && (thrown.name === 'TypeError' || thrown.name === 'RangeError');
}
