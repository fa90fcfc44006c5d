/**
 * What this process knows of the head, and since when: whether its caches still hold. Pure, but for the clocks.
 *
 * Two sources. A notification comes at once, and proves nothing about those that did not come. A poll that began at
 * time t proves that the process knows every change committed before t; only polls count as fresh. A poll is also the
 * only witness of a head that went back: a notification may be anybody's.
 */

import { unavailable } from './engine.ts';

interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** What was known when a poll began: its answer is compared with that, not with what was learnt meanwhile. */
export interface Poll {
  readonly began: Moment;
  readonly known: number;
  readonly witnessed: number;
  readonly session: object | undefined;
}

export class HeadKnowledge {
  readonly #staleMaxMs: number;
  readonly #onWentBack: (from: number, to: number) => void;
  #counter = 0;
  /** The greatest seq heard of. */
  #known = -1;
  /** The greatest seq that a poll or an own commit has shown. */
  #witnessed = -1;
  #fresh: Moment | undefined;
  /** The listening connection, and whether a poll has begun since it listens. */
  #session: object | undefined;
  #complete = false;
  #wentBack = false;

  constructor(staleMaxMs: number, onWentBack: (from: number, to: number) => void) {
    this.#staleMaxMs = staleMaxMs;
    this.#onWentBack = onWentBack;
  }

  get known(): number {
    return this.#known;
  }

  /**
   * Another number whenever the head has moved; while nobody listens, a new one at each call, so that nothing cached
   * is used.
   * @throws KmsError `store-unavailable` when the newest answered poll began longer ago than staleMax
   */
  counter(): number {
    if (this.#wentBack) throw unavailable('the store has gone back to an earlier state');
    if (this.#fresh === undefined || age(this.#fresh) > this.#staleMaxMs) throw unavailable('the store does not answer');
    if (!this.#complete) this.#counter++;
    return this.#counter;
  }

  /** A notification. */
  heard(seq: number): void {
    if (seq > this.#known) this.#move(seq);
  }

  /** An own transaction that moved the head has committed. */
  committed(seq: number): void {
    this.#witnessed = Math.max(this.#witnessed, seq);
    this.heard(seq);
  }

  listening(session: object): void {
    this.#session = session;
  }

  deaf(): void {
    this.#session = undefined;
    this.#complete = false;
  }

  begin(): Poll {
    return { began: now(), known: this.#known, witnessed: this.#witnessed, session: this.#session };
  }

  answered(poll: Poll, seq: number): void {
    if (seq < poll.witnessed) {
      this.#back(poll.witnessed, seq);
      return;
    }
    this.#witnessed = Math.max(this.#witnessed, seq);
    // Less than was heard of before: a notification that no commit stands behind.
    if (seq > this.#known || (seq !== poll.known && this.#known === poll.known)) this.#move(seq);
    this.#fresh = poll.began;
    if (this.#complete || poll.session === undefined || poll.session !== this.#session) return;
    this.#complete = true;
    this.#counter++;
  }

  #move(seq: number): void {
    this.#known = seq;
    this.#counter++;
  }

  #back(from: number, to: number): void {
    if (this.#wentBack) return;
    this.#wentBack = true;
    this.#onWentBack(from, to);
  }
}

function now(): Moment {
  return { monotonic: performance.now(), wall: Date.now() };
}

/** The monotonic clock stands still while the host is suspended; the others' do not. */
function age(moment: Moment): number {
  return Math.max(performance.now() - moment.monotonic, Date.now() - moment.wall);
}
