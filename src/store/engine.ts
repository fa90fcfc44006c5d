/** What differs between databases; all the rest of a store is common. */

import type { Kysely } from 'kysely';
import { asKmsError, KmsError } from '../errors.ts';
import type { Schema } from './schema.ts';

/**
 * What an error thrown below kysely means: `unique` a uniqueness rule was broken, `database` anything else the driver
 * reports, `other` not the driver's: a KmsError of ours or a defect.
 */
export type Fault = 'unique' | 'database' | 'other';

export interface Engine {
  /** Runs the transactions. On SQLite its only connection holds the write lock from begin to commit. */
  readonly writer: Kysely<Schema>;
  /** Runs single statements outside transactions, and sees what is committed. May be the writer. */
  readonly reader: Kysely<Schema>;
  /** Whether transactions run side by side, so that rows read before a write must be locked. */
  readonly rowLocks: boolean;
  /** Decides by the driver's code, never by message. */
  fault(thrown: unknown): Fault;
  /** As `KeyStore.changeCounter`; throws what the driver throws. */
  changeCounter(): number;
  ping(): Promise<void>;
  close(): Promise<void>;
}

/** @param cause what the driver threw; kept for the log, never shown */
export function unavailable(message: string, cause?: unknown): KmsError {
  return new KmsError('store-unavailable', message, { retryAfter: 1, cause });
}

/** The one translation of whatever a statement throws. */
export function meaning(engine: Pick<Engine, 'fault'>, thrown: unknown): KmsError {
  switch (engine.fault(thrown)) {
    case 'unique':
      return new KmsError('conflict', 'the id or name is already taken', { cause: thrown });
    case 'database':
      return unavailable('the store does not answer', thrown);
    case 'other':
      return asKmsError(thrown);
  }
}
