/** A server process asking its supervisor for turns, one at a time of each kind. */

import type { ToSupervisor, Turn } from './protocol.ts';

export class TurnClient {
  readonly #tell: (message: ToSupervisor) => void;
  readonly #granted = new Map<Turn, () => void>();
  #changes: Promise<unknown> = Promise.resolve();

  constructor(tell: (message: ToSupervisor) => void) {
    this.#tell = tell;
  }

  /** Resolves when it is this process's turn. */
  ask(what: Turn): Promise<void> {
    return new Promise((resolve) => {
      this.#granted.set(what, resolve);
      this.#tell({ kind: 'asks-turn', what });
    });
  }

  granted(what: Turn): void {
    this.#granted.get(what)?.();
    this.#granted.delete(what);
  }

  over(what: Turn): void {
    this.#tell({ kind: 'turn-over', what });
  }

  /** Runs a change of the token while no other process makes one. */
  change<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#changes.then(() => this.#inTurn(run));
    this.#changes = turn.catch(() => undefined);
    return turn;
  }

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    await this.ask('change');
    try {
      return await run();
    } finally {
      this.over('change');
    }
  }
}
