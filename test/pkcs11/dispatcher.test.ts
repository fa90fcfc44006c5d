/** How jobs are dealt out to threads: all that are idle get some, and none more than its part. */

import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { Dispatcher } from '../../src/pkcs11/dispatcher.ts';
import type { AddressedJob, Job, Reply } from '../../src/pkcs11/job.ts';
import type { Lane, ThreadHandle } from '../../src/pkcs11/thread-handle.ts';

const JOB: Job = { op: 'random', length: 1 };
const REPLY: Reply = { ok: new Uint8Array(1) };

/** Stands in for a token thread: keeps its batches until told to finish the first. */
class Thread {
  readonly lanes: readonly Lane[];
  readonly batches: number[] = [];
  readonly #waiting: { readonly jobs: number; readonly answer: (count: number) => void }[] = [];

  constructor(lanes: readonly Lane[]) {
    this.lanes = lanes;
  }

  get idle(): boolean {
    return !this.busy;
  }

  get busy(): boolean {
    return this.#waiting.length > 0;
  }

  get takesMore(): boolean {
    return this.#waiting.length === 1;
  }

  get load(): number {
    return this.#waiting.reduce((sum, { jobs }) => sum + jobs, 0);
  }

  run(jobs: readonly AddressedJob[]): Promise<readonly Reply[]> {
    this.batches.push(jobs.length);
    return new Promise((resolve) => {
      const answer = (count: number): void => { resolve(jobs.slice(0, count).map(() => REPLY)); };
      this.#waiting.push({ jobs: jobs.length, answer });
    });
  }

  /** @param count jobs of the batch that were begun */
  finish(count = Infinity): void {
    this.#waiting.shift()?.answer(count);
  }
}

function make(count: number, lanes: readonly Lane[] = ['fast']): { readonly dispatcher: Dispatcher; readonly threads: readonly Thread[] } {
  const dispatcher = new Dispatcher({ threads: count, batchMax: 16, queueMax: 1000, callTimeoutMs: 60_000, createTimeoutMs: 60_000 });
  const threads = Array.from({ length: count }, () => new Thread(lanes));
  for (const thread of threads) dispatcher.addThread(thread as unknown as ThreadHandle);
  return { dispatcher, threads };
}

const batches = (threads: readonly Thread[]): readonly (readonly number[])[] => threads.map((thread) => thread.batches);

/** Hands in this many jobs and lets the dispatcher deal them out. */
async function hand(dispatcher: Dispatcher, jobs: number, cost: Lane = 'fast'): Promise<Promise<Reply>[]> {
  const replies = Array.from({ length: jobs }, () => dispatcher.submit(JOB, cost));
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

test('a thread that is busy gets one batch ahead when enough wait, and not a second', async () => {
  const { dispatcher, threads } = make(2);
  const first = await hand(dispatcher, 2);
  const few = await hand(dispatcher, 3);
  expect(batches(threads)).toEqual([[1], [1]]);
  const many = await hand(dispatcher, 17);
  expect(batches(threads)).toEqual([[1, 6], [1, 6]]);
  expect(dispatcher.depth().fast).toBe(8);
  await finishAll(threads, [...first, ...few, ...many]);
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
  const { dispatcher, threads } = make(4, ['slow']);
  const first = await hand(dispatcher, 4, 'slow');
  const more = await hand(dispatcher, 12, 'slow');
  threads[0]!.finish();
  await turn();
  expect(batches(threads)).toEqual([[1, 4], [1], [1], [1]]);
  expect(dispatcher.depth().slow).toBe(8);
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
  expect(Math.max(...threads[0]!.batches)).toBe(16);
});
