/**
 * Whether the clocks of host and database can be believed when they say that a date is past: they agree, and neither
 * jumped against the monotonic clock for a day (design §3). What happened before this process started it cannot know.
 */

export interface Clocks {
  /** Milliseconds since the epoch. */
  readonly wallMs: () => number;
  readonly databaseMs: () => Promise<number>;
  /** Milliseconds that never jump. */
  readonly monotonicMs: () => number;
}

export interface Jump {
  readonly clock: 'host' | 'database';
  readonly byMs: number;
}

const JUMP_MS = 60_000;
const DISTRUST_MS = 86_400_000;

export class ClockWatch {
  readonly #clocks: Clocks;
  readonly #onJump: (jump: Jump) => void;
  #offsets: Readonly<Record<Jump['clock'], number>> | undefined;
  #jumpedAt: number | undefined;

  constructor(clocks: Clocks, onJump: (jump: Jump) => void) {
    this.#clocks = clocks;
    this.#onJump = onJump;
  }

  /** To be called again and again: a jump shows in the look after it. @returns the earlier of both clocks, or null while they are not believed */
  async look(): Promise<number | null> {
    const { wallMs, databaseMs, monotonicMs } = this.#clocks;
    const [database, wall, monotonic] = [await databaseMs(), wallMs(), monotonicMs()];
    const offsets = { host: wall - monotonic, database: database - monotonic };
    this.#compare(offsets, monotonic);
    this.#offsets = offsets;
    const jumped = this.#jumpedAt !== undefined && monotonic - this.#jumpedAt < DISTRUST_MS;
    return jumped || Math.abs(wall - database) > JUMP_MS ? null : Math.min(wall, database);
  }

  #compare(offsets: Readonly<Record<Jump['clock'], number>>, monotonic: number): void {
    if (this.#offsets === undefined) return;
    for (const clock of ['host', 'database'] as const) {
      const byMs = offsets[clock] - this.#offsets[clock];
      if (Math.abs(byMs) <= JUMP_MS) continue;
      this.#jumpedAt = monotonic;
      this.#onJump({ clock, byMs: Math.round(byMs) });
    }
  }
}
