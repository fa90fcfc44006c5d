/**
 * Gives memory back after a crowd. A process that is nearly idle collects no garbage by itself, and thousands of
 * connections that left would stay in its heap for hours (security S-17).
 */

/** Connections that make a crowd. */
const CROWD = 256;
const LOOK_MS = 5000;

export class Crowd {
  readonly #connections: () => number;
  readonly #timer: NodeJS.Timeout;
  #most = 0;

  /** @param connections how many there are now */
  constructor(connections: () => number) {
    this.#connections = connections;
    this.#timer = setInterval(() => { this.#look(); }, LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const now = this.#connections();
    this.#most = Math.max(this.#most, now);
    if (this.#most < CROWD || now > this.#most / 4) return;
    this.#most = now;
    // Only where the process was started with it: tests may not be.
    globalThis.gc?.();
  }
}
