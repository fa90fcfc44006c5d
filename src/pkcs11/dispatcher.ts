/**
 * Hands jobs to token threads: bounded queues, batches, deadlines. Runs on the event loop and makes no token call.
 *
 * The first thread does everything that is slow and is the only one that creates, destroys or searches for objects:
 * SoftHSM fails sporadically when another thread does any of it beside a creation. The second serves fast jobs only, so
 * that a key generation of seconds cannot delay a cipher operation of microseconds. Further threads serve both.
 */

import { KmsError } from '../errors.ts';
import { Deadline } from './deadline.ts';
import type { AddressedJob, Job, Reply } from './job.ts';
import { type Lane, outcomeUnknown, type ThreadHandle } from './thread-handle.ts';

export interface DispatcherOptions {
  /** At least 2. */
  readonly threads: number;
  /** Largest number of fast jobs in one message. */
  readonly batchMax: number;
  /** Jobs waiting, over all queues; beyond it `overloaded`. */
  readonly queueMax: number;
  /** Milliseconds for an ordinary job, waiting included, and for one message of them. */
  readonly callTimeoutMs: number;
  /** Milliseconds for one object creation. */
  readonly createTimeoutMs: number;
}

/** What a job costs on the token, which decides queue and batch. */
export type Cost = 'fast' | 'slow' | 'heavy' | 'create';

interface Waiting extends AddressedJob {
  readonly cost: Cost;
  readonly deadline: Deadline;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: KmsError) => void;
  /** Answered already, because its time was over. */
  expired: boolean;
}

/** Which queue, and how many jobs a message may hold: a batch is also the blast radius of a hang. */
const LANES: Readonly<Record<Cost, { readonly lane: Lane; readonly batch: number }>> = {
  fast: { lane: 'fast', batch: Number.MAX_SAFE_INTEGER },
  slow: { lane: 'slow', batch: 4 },
  heavy: { lane: 'slow', batch: 1 },
  create: { lane: 'create', batch: 1 },
};

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #queues: Readonly<Record<Lane, Waiting[]>> = { fast: [], slow: [], create: [] };
  readonly #threads: ThreadHandle[] = [];
  /** Threads whose last batch was a creation. */
  readonly #created = new WeakSet<ThreadHandle>();
  #scheduled = false;
  #closed: KmsError | undefined;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  addThread(thread: ThreadHandle): void {
    this.#threads.push(thread);
    this.#schedule();
  }

  removeThread(thread: ThreadHandle): void {
    const index = this.#threads.indexOf(thread);
    if (index >= 0) this.#threads.splice(index, 1);
  }

  /** Threads that take jobs. */
  get threads(): number {
    return this.#threads.length;
  }

  depth(): Readonly<Record<Lane, number>> {
    return { fast: this.#queues.fast.length, slow: this.#queues.slow.length, create: this.#queues.create.length };
  }

  busy(): boolean {
    return this.#threads.some((thread) => thread.busy) || Object.values(this.#queues).some((queue) => queue.length > 0);
  }

  /** Answers everything that waits, and every later job, with `error`. Jobs in a thread are left to finish. */
  refuse(error: KmsError): void {
    this.#closed = error;
    for (const queue of Object.values(this.#queues)) for (const waiting of queue.splice(0)) fail(waiting, error);
  }

  /**
   * @param objectId CKA_ID of the key in the job
   * @throws KmsError `overloaded` at once when the queues are full, or later when the job waited too long
   */
  submit(job: Job, cost: Cost, objectId: string | null = null): Promise<Reply> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    const { fast, slow, create } = this.#queues;
    if (fast.length + slow.length + create.length >= this.#options.queueMax) return Promise.reject(overloaded());
    return this.#wait(job, cost, objectId);
  }

  /** A deadline of its own for each job, from here: queue and call together may not take longer. */
  #wait(job: Job, cost: Cost, objectId: string | null): Promise<Reply> {
    const { lane } = LANES[cost];
    const limit = lane === 'create' ? this.#options.createTimeoutMs : this.#options.callTimeoutMs;
    return new Promise((resolve, reject) => {
      const deadline = new Deadline(limit, () => { this.#expire(waiting, lane); });
      const waiting = { job, objectId, cost, deadline, resolve, reject, expired: false };
      this.#queues[lane].push(waiting);
      this.#schedule();
    });
  }

  /** Never run, so safe to repeat; or with a thread that will be lost soon. */
  #expire(waiting: Waiting, lane: Lane): void {
    waiting.expired = true;
    const index = this.#queues[lane].indexOf(waiting);
    if (index >= 0) this.#queues[lane].splice(index, 1);
    waiting.reject(index >= 0 ? overloaded() : outcomeUnknown());
  }

  /** Jobs of one event-loop turn travel together: one message per job halves the rate. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    for (const thread of this.#threads) {
      if (!thread.idle) continue;
      const lane = this.#laneFor(thread);
      if (lane !== undefined) this.#give(thread, lane);
    }
  }

  /** In the thread's order, but no creation after another while anything else waits: many of them would starve the rest. */
  #laneFor(thread: ThreadHandle): Lane | undefined {
    const waiting = thread.lanes.filter((name) => this.#queues[name].length > 0);
    const others = this.#created.has(thread) ? waiting.filter((name) => name !== 'create') : [];
    const lane = others[0] ?? waiting[0];
    if (lane === 'create') this.#created.add(thread);
    else this.#created.delete(thread);
    return lane;
  }

  #give(thread: ThreadHandle, lane: Lane): void {
    const batch = this.#take(lane);
    const creates = lane === 'create';
    const timeout = creates ? this.#options.createTimeoutMs : this.#options.callTimeoutMs;
    thread.run(batch.map(({ job, objectId }) => ({ job, objectId })), timeout).then(
      (replies) => {
        this.#queues[lane].unshift(...batch.slice(replies.length).filter(({ expired }) => !expired));
        replies.forEach((reply, index) => { settle(batch[index], reply); });
        this.#pump();
      },
      (error: unknown) => { for (const waiting of batch) fail(waiting, error as KmsError); },
    );
  }

  /**
   * What waits is dealt out to the threads that are idle, but none gets more than its part of all that is under way:
   * the others come back for theirs. A message for each part costs less than several that carry it in pieces.
   */
  #take(lane: Lane): Waiting[] {
    const queue = this.#queues[lane];
    const serving = this.#threads.filter((thread) => thread.lanes.includes(lane));
    const idle = serving.filter((thread) => thread.idle).length;
    const running = serving.reduce((sum, thread) => sum + thread.load, 0);
    const share = Math.min(Math.ceil(queue.length / idle), Math.ceil((queue.length + running) / serving.length));
    const cap = LANES[queue[0]?.cost ?? 'heavy'].batch;
    return queue.splice(0, Math.max(1, Math.min(share, cap, this.#options.batchMax)));
  }
}

function fail(waiting: Waiting, error: KmsError): void {
  waiting.deadline.clear();
  waiting.reject(error);
}

function settle(waiting: Waiting | undefined, reply: Reply): void {
  waiting?.deadline.clear();
  waiting?.resolve(reply);
}

function overloaded(): KmsError {
  return new KmsError('overloaded', 'the HSM queue is full', { retryAfter: 1 });
}
