/**
 * One login at a time on a host, and at most one a second: tokens count wrong PINs. Who fails has latched the PIN
 * source before the next one gets its turn.
 */

const SPACING_MS = 1000;

export interface LoginCandidate {
  mayLogin(): void;
}

export class LoginTurns {
  readonly #waiting: LoginCandidate[] = [];
  #current: LoginCandidate | undefined;
  #notBefore = 0;
  #timer: NodeJS.Timeout | undefined;

  ask(candidate: LoginCandidate): void {
    if (candidate !== this.#current && !this.#waiting.includes(candidate)) this.#waiting.push(candidate);
    this.#next();
  }

  /** It logged in, failed, or ended. */
  over(candidate: LoginCandidate): void {
    const index = this.#waiting.indexOf(candidate);
    if (index >= 0) this.#waiting.splice(index, 1);
    if (candidate === this.#current) this.#current = undefined;
    this.#next();
  }

  #next(): void {
    if (this.#current !== undefined || this.#timer !== undefined || this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#grant();
    }, Math.max(0, this.#notBefore - performance.now()));
  }

  #grant(): void {
    this.#current = this.#waiting.shift();
    if (this.#current === undefined) return;
    this.#notBefore = performance.now() + SPACING_MS;
    this.#current.mayLogin();
  }
}
