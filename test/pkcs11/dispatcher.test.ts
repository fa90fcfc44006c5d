/** How jobs are dealt out to threads: all that are idle get some, and none more than its part. */

import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { Dispatcher } from '../../src/pkcs11/dispatcher.ts';
import type { AddressedJob, Job, Reply } from '../../src/pkcs11/job.ts';
import type { ThreadHandle } from '../../src/pkcs11/thread-handle.ts';

const JOB: Job = { op: 'random', length: 1 };
const REPLY: Reply = { ok: new Uint8Array(1) };

/** Stands in for a token thread: keeps its batch until told to finish. */
class Thread {
  readonly lanes: readonly ('create' | 'slow' | 'fast')[];
  readonly batches: number[] = [];
  readonly ops: string[] = [];
  #finish: ((count: number) => void) | undefined;

  constructor(lanes: Thread['lanes'] = ['fast']) {
    this.lanes = lanes;
  }

  get idle(): boolean {
    return this.#finish === undefined;
  }

  get busy(): boolean {
    return !this.idle;
  }

  get load(): number {
    return this.idle ? 0 : (this.batches.at(-1) ?? 0);
  }

  run(jobs: readonly AddressedJob[]): Promise<readonly Reply[]> {
    this.batches.push(jobs.length);
    this.ops.push(...jobs.map(({ job }) => job.op));
    return new Promise((resolve) => {
      this.#finish = (count) => {
        this.#finish = undefined;
        resolve(jobs.slice(0, count).map(() => REPLY));
      };
    });
  }

  /** @param count jobs of the batch that were begun */
  finish(count = Infinity): void {
    this.#finish?.(count);
  }
}

function make(count: number): { readonly dispatcher: Dispatcher; readonly threads: readonly Thread[] } {
  const dispatcher = new Dispatcher({ threads: count, batchMax: 16, queueMax: 1000, callTimeoutMs: 60_000, createTimeoutMs: 60_000 });
  const threads = Array.from({ length: count }, () => new Thread());
  for (const thread of threads) dispatcher.addThread(thread as unknown as ThreadHandle);
  return { dispatcher, threads };
}

const batches = (threads: readonly Thread[]): readonly (readonly number[])[] => threads.map((thread) => thread.batches);

/** Hands in this many jobs and lets the dispatcher deal them out. */
async function hand(dispatcher: Dispatcher, jobs: number): Promise<Promise<Reply>[]> {
  const replies = Array.from({ length: jobs }, () => dispatcher.submit(JOB, 'fast'));
  await turn();
  await turn();
  return replies;
}

async function finishAll(threads: readonly Thread[], replies: readonly Promise<Reply>[]): Promise<void> {
  for (let left = replies.length; left > 0 && threads.some(({ busy }) => busy); left -= 1) {
    for (const thread of threads) thread.finish();
    await turn();
  }
  expect(await Promise.all(replies)).toEqual(replies.map(() => REPLY));
}

test.each([
  [4, [1, 1, 1, 1]],
  [6, [2, 2, 1, 1]],
  [3, [1, 1, 1, 0]],
  [16, [4, 4, 4, 4]],
])('%d jobs for four idle threads', async (jobs, expected) => {
  const { dispatcher, threads } = make(4);
  const replies = await hand(dispatcher, jobs);
  expect(threads.map(({ load }) => load)).toEqual(expected);
  await finishAll(threads, replies);
});

test('what comes back together from one thread goes out together', async () => {
  const { dispatcher, threads } = make(4);
  const first = await hand(dispatcher, 16);
  threads[0]!.finish();
  await turn();
  const more = await hand(dispatcher, 4);
  expect(batches(threads)).toEqual([[4, 4], [4], [4], [4]]);
  await finishAll(threads, [...first, ...more]);
});

test('one idle thread does not take what the others will come back for', async () => {
  const { dispatcher, threads } = make(4);
  const first = await hand(dispatcher, 4);
  const more = await hand(dispatcher, 12);
  threads[0]!.finish();
  await turn();
  expect(batches(threads)).toEqual([[1, 4], [1], [1], [1]]);
  expect(dispatcher.depth().fast).toBe(8);
  await finishAll(threads, [...first, ...more]);
});

test('what a slow thread had no time for goes first to the next', async () => {
  const { dispatcher, threads } = make(1);
  const replies = await hand(dispatcher, 3);
  threads[0]!.finish(1);
  await turn();
  expect(batches(threads)).toEqual([[3, 2]]);
  await finishAll(threads, replies);
});

test('no batch is larger than the settings allow', async () => {
  const { dispatcher, threads } = make(1);
  const replies = await hand(dispatcher, 40);
  await finishAll(threads, replies);
  expect(batches(threads)).toEqual([[16, 16, 8]]);
});

test('no creation follows another while anything else waits', async () => {
  const { dispatcher } = make(0);
  const thread = new Thread(['create', 'slow', 'fast']);
  const jobs = [['survey', 'create'], ['survey', 'create'], ['survey', 'create'], ['random', 'slow'], ['random', 'slow'], ['random', 'slow'],
    ['random', 'slow'], ['random', 'slow']] as const;
  const replies = jobs.map(([op, cost]) => dispatcher.submit({ ...JOB, op }, cost));
  dispatcher.addThread(thread as unknown as ThreadHandle);
  await turn();
  await finishAll([thread], replies);
  expect(thread.ops.join(' ')).toBe('survey random random random random survey random survey');
});
