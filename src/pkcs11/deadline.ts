/**
 * A time limit for somebody else. When this process itself was held up, by a commit or by its machine, what it waits
 * for has most likely come meanwhile: the limit is extended once by the time it was late, and what has arrived is taken
 * first.
 */

/** A timer is late by a few milliseconds in any busy process. */
const LATE_MS = 100;

export class Deadline {
  readonly #passed: () => void;
  #timer: NodeJS.Timeout;
  #immediate: NodeJS.Immediate | undefined;

  /** @param passed called once, unless cleared before */
  constructor(ms: number, passed: () => void) {
    const due = performance.now() + ms;
    this.#passed = passed;
    this.#timer = setTimeout(() => {
      const late = performance.now() - due;
      if (late <= LATE_MS) this.#pass();
      else this.#timer = setTimeout(() => { this.#pass(); }, Math.min(late, ms));
    }, ms);
  }

  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
  }

  /** Messages are taken between timers and immediates. */
  #pass(): void {
    this.#immediate = setImmediate(this.#passed);
  }
}
