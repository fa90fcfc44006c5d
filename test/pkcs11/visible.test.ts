/**
 * A key made through one server process is there for all of them at once, in whatever order processes make keys.
 * SoftHSM notices other processes' objects by one counter on the token, which each creation reads and writes.
 */

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Installation } from '../support/installation.ts';
import { Caller, servedBy } from '../support/load.ts';
import type { Exchange } from '../support/wire.ts';

let kms: Installation;
let all: readonly Caller[];
/** One caller of each process. */
let one: Caller;
let other: Caller;

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
  await kms.start();
  all = Array.from({ length: 4 }, () => new Caller(kms));
  const pids = await servedBy(kms, all, { method: 'GET', path: '/servicekey' });
  const [first] = pids;
  expect(new Set(pids).size).toBe(2);
  one = all[0]!;
  other = all[pids.findIndex((pid) => pid !== first)]!;
});

afterAll(async () => {
  await Promise.all(all.map((caller) => caller.end()));
  await kms.remove();
});

async function make(caller: Caller): Promise<string> {
  const made = await caller.wire.post('/servicekey', { name: 'key', type: 'oct', size: 256 });
  expect(made.status).toBe(201);
  return `/servicekey/${made.json.id}`;
}

const use = (caller: Caller, path: string): Promise<Exchange> =>
  caller.wire.post(`${path}/encrypt`, { plaintext: 'aGVsbG8=' });

test('one process makes a key, the other uses it', async () => {
  const path = await make(one);
  expect(await use(other, path)).toMatchObject({ status: 200 });
});

test('one process makes a key, the other makes one too and then uses both', async () => {
  const paths = [await make(one), await make(other)];
  for (const path of paths) {
    expect(await use(one, path)).toMatchObject({ status: 200 });
    expect(await use(other, path)).toMatchObject({ status: 200 });
  }
});

test('keys made through both at the same time can be used through both', async () => {
  const made = await Promise.all([one, other].flatMap((caller) => [
    (async () => {
      const paths: string[] = [];
      for (let n = 0; n < 10; n += 1) paths.push(await make(caller));
      return paths;
    })(),
  ]));
  const used = await Promise.all([one, other].map(async (caller) => {
    const answers: string[] = [];
    for (const path of made.flat()) {
      const { status, text } = await use(caller, path);
      if (status !== 200) answers.push(`${path}: ${status} ${text}`);
    }
    return answers;
  }));
  expect(used.flat()).toEqual([]);
});
