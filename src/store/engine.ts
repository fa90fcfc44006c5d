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
  /** Rows of one stretch of the full comparison: together they may hold up the event loop for a few ms. */
  readonly stretch: number;
  /** Decides by the driver's code, never by message. */
  fault(thrown: unknown): Fault;
  /** Who else has this database open now, for people. */
  others(): Promise<readonly string[]>;
  /** Which database this is: a copy made elsewhere has another one (integrity §4). */
  storeId(): Promise<string>;
  /** Milliseconds since the epoch, by the database's clock. @param db the transaction, or the reader */
  nowMs(db: Kysely<Schema>): Promise<number>;
  /** Runs several reading statements on one snapshot of the database. */
  snapshot<T>(work: (db: Kysely<Schema>) => Promise<T>): Promise<T>;
  /**
   * As `KeyStore.changeCounter`. @throws KmsError `store-unavailable` when what other processes committed may be
   * unknown for longer than `staleMax`; and what the driver throws
   */
  changeCounter(): number;
  /** In a transaction that moves the head to `seq`: tells the other processes when it commits. */
  announce(db: Kysely<Schema>, seq: number): Promise<void>;
  /** The transaction that moved the head to `seq` has committed: this process's next change counter differs. */
  committed(seq: number): void;
  /**
   * Resolves when every process of `boots` has said that it saw `seq`, or when none of them can still serve what it
   * knew before (`staleMax` after the call).
   */
  seenEverywhere(seq: number, boots: readonly string[]): Promise<void>;
  /** Runs `run` while no other process of the installation does; they may be on other hosts. */
  exclusively<T>(run: () => Promise<T>): Promise<T>;
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
