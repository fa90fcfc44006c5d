/** What is known of a store, and what can be wrong with it. Types of the contract. */

import type { SealedTable } from './sealed-tables.ts';

export type { StoreMacs } from './seal.ts';

export interface Head {
  readonly storeId: string;
  readonly epoch: number;
  readonly seq: number;
  /** Of the newest journal entry, 32 bytes. */
  readonly mac: Uint8Array;
  readonly liveRows: number;
  readonly tombstones: number;
}

/** What an anchor, a checkpoint or an earlier reading saw of the store. */
export interface Witness {
  readonly epoch: number;
  readonly seq: number;
  readonly mac: Uint8Array;
}

/** `rolled-back`: the store is behind the witness; `forked`: it has another past; `past`: of an earlier epoch. */
export type WitnessVerdict = 'consistent' | 'rolled-back' | 'forked' | 'past';

/** A row, or a stretch of the journal, that is not what was written. */
export interface Damage {
  readonly table: SealedTable | 'journal' | 'head' | 'process';
  /** Primary key; of a journal entry its seq. */
  readonly row: string;
  readonly reason:
    | 'seal' // altered, forged, or sealed for another place
    | 'superseded' // an older state of it was put back
    | 'parts' // versions or objects do not belong to it, or are missing
    | 'removed' // gone, and nobody journaled it
    | 'chain' // the journal was altered here
    | 'count'; // more or fewer rows than the head says
}

/** How far a full comparison has come. Opaque to callers. */
export interface CompareCursor {
  readonly stage: 'journal' | SealedTable | 'count';
  readonly after: readonly (string | number)[];
}
