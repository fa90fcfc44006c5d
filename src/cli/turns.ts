/**
 * One at a time on a host, in the order of asking, and not closer than a given time. Logins take turns because tokens
 * count wrong PINs: who fails has latched the PIN source before the next one tries. Changes of the token take turns
 * because two processes that write to SoftHSM side by side lose sight of each other's objects.
 */

export interface TurnTaker {
  grant(): void;
}

export class Turns {
  readonly #spacingMs: number;
  readonly #waiting: { readonly owner: object; readonly taker: TurnTaker }[] = [];
  #current: object | undefined;
  #notBefore = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(spacingMs: number) {
    this.#spacingMs = spacingMs;
  }

  /** @param owner who asks; one turn each */
  ask(owner: object, taker: TurnTaker): void {
    const asked = owner === this.#current || this.#waiting.some((entry) => entry.owner === owner);
    if (!asked) this.#waiting.push({ owner, taker });
    this.#next();
  }

  /** The owner is done, or has ended. */
  over(owner: object): void {
    const index = this.#waiting.findIndex((entry) => entry.owner === owner);
    if (index >= 0) this.#waiting.splice(index, 1);
    if (owner === this.#current) this.#current = undefined;
    this.#next();
  }

  #next(): void {
    if (this.#current !== undefined || this.#timer !== undefined || this.#waiting.length === 0) return;
    const wait = this.#notBefore - performance.now();
    if (wait <= 0) this.#grant();
    else {
      this.#timer = setTimeout(() => {
        this.#timer = undefined;
        this.#grant();
      }, wait);
    }
  }

  #grant(): void {
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#current = next.owner;
    this.#notBefore = performance.now() + this.#spacingMs;
    next.taker.grant();
  }
}
