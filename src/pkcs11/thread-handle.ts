/**
 * The event loop's view of one token thread: one batch at a time, with a deadline. A native call cannot be
 * interrupted, so a thread past its deadline is lost: its jobs are answered here with an unknown outcome, and it gets
 * no more.
 */

import { Worker } from 'node:worker_threads';
import { KmsError } from '../errors.ts';
import { Deadline } from './deadline.ts';
import type { AddressedJob, FromThread, Reply, ThreadSetup } from './job.ts';

/** Milliseconds without a word: canaries come every second. */
const SILENCE_MS = 10_000;

/** A batch begins no further job after this part of its deadline. */
const BUDGETS_IN_DEADLINE = 5;

export type Lane = 'fast' | 'slow' | 'create';

export interface ThreadEvents {
  /** Resolves when the thread may log in. */
  mayLogin(): Promise<void>;
  ready(thread: ThreadHandle, message: FromThread & { kind: 'ready' }): void;
  waiting(thread: ThreadHandle, message: FromThread & { kind: 'waiting' }): void;
  canary(ok: boolean): void;
  /** A call passed its deadline, or the thread died. */
  lost(thread: ThreadHandle, reason: string): void;
}

export function outcomeUnknown(): KmsError {
  return new KmsError('outcome-unknown', 'the HSM did not answer in time', { retryAfter: 2 });
}

interface Running {
  readonly jobs: number;
  readonly deadline: Deadline;
  readonly resolve: (replies: readonly Reply[]) => void;
  readonly reject: (error: KmsError) => void;
}

export class ThreadHandle {
  /** Queues in the order in which this thread looks at them. */
  readonly lanes: readonly Lane[];
  readonly first: boolean;
  readonly #worker: Worker;
  readonly #events: ThreadEvents;
  #running: Running | undefined;
  #state: 'starting' | 'ready' | 'lost' | 'stopped' = 'starting';
  #stopped: (() => void) | undefined;
  #heard = 0;
  #watchdog: NodeJS.Timeout | undefined;

  constructor(setup: ThreadSetup, lanes: readonly Lane[], events: ThreadEvents) {
    this.lanes = lanes;
    this.first = setup.first;
    this.#events = events;
    this.#worker = new Worker(new URL('./token-thread.js', import.meta.url), { workerData: setup });
    this.#worker.on('message', (message: FromThread) => { this.#receive(message); });
    this.#worker.on('error', (error) => { this.#lose(`token thread failed: ${error.message}`); });
    this.#worker.on('exit', () => { this.#lose('token thread ended'); });
  }

  get idle(): boolean {
    return this.#state === 'ready' && this.#running === undefined;
  }

  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** Jobs of the batch that runs. */
  get load(): number {
    return this.#running?.jobs ?? 0;
  }

  /**
   * Only when idle.
   * @returns fewer replies than jobs when the batch took long: the rest was not begun
   * @throws KmsError `outcome-unknown` when the deadline passes or the thread dies
   */
  run(jobs: readonly AddressedJob[], timeoutMs: number): Promise<readonly Reply[]> {
    return new Promise((resolve, reject) => {
      const deadline = new Deadline(timeoutMs, () => { this.#lose('a token call passed its deadline'); });
      this.#running = { jobs: jobs.length, deadline, resolve, reject };
      this.#worker.postMessage({ kind: 'batch', jobs, budgetMs: timeoutMs / BUDGETS_IN_DEADLINE });
    });
  }

  /** Resolves when the thread has closed its session, or after `timeoutMs`. */
  stop(timeoutMs: number): Promise<void> {
    if (this.#state === 'lost' || this.#state === 'stopped') return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#stopped = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#worker.postMessage({ kind: 'stop' });
    });
  }

  #receive(message: FromThread): void {
    if (this.#state === 'lost') return;
    this.#heard = performance.now();
    switch (message.kind) {
      case 'asks-login':
        void this.#events.mayLogin().then(() => { this.#worker.postMessage({ kind: 'may-login' }); });
        return;
      case 'ready':
        this.#state = 'ready';
        this.#watch();
        this.#events.ready(this, message);
        return;
      case 'waiting':
        this.#events.waiting(this, message);
        return;
      case 'canary':
        this.#events.canary(message.ok);
        return;
      case 'batch':
        this.#finish(message.replies);
        return;
      case 'stopped':
        this.#state = 'stopped';
        clearInterval(this.#watchdog);
        this.#stopped?.();
    }
  }

  /** A thread that hangs in its canary has no batch whose deadline could pass. */
  #watch(): void {
    this.#watchdog = setInterval(() => {
      const silent = performance.now() - this.#heard;
      if (this.#running === undefined && silent > SILENCE_MS) this.#lose('a token thread fell silent');
    }, SILENCE_MS / 5).unref();
  }

  #finish(replies: readonly Reply[]): void {
    const running = this.#running;
    if (running === undefined) return;
    running.deadline.clear();
    this.#running = undefined;
    running.resolve(replies);
  }

  #lose(reason: string): void {
    if (this.#state === 'lost' || this.#state === 'stopped') return;
    this.#state = 'lost';
    clearInterval(this.#watchdog);
    const running = this.#running;
    running?.deadline.clear();
    this.#running = undefined;
    this.#events.lost(this, reason);
    running?.reject(outcomeUnknown());
  }
}
