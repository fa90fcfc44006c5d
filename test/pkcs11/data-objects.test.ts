/** Data objects that another process replaces while they are read: there is always one (integrity §5). */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestToken } from '../support/token.ts';

const APPLICATION = 'kms:shared';
const REPLACEMENTS = 400;

let at: TestToken;

beforeAll(async () => {
  at = await TestToken.make({ profile: 'softhsm-2.6.1', tokenLabel: 'kms-shared' });
});

afterAll(() => at.remove());

test('no reading comes up empty, nor with a value of before the last reading', async () => {
  await at.token.replaceData(APPLICATION, 'label', Buffer.from('0'), []);
  const writer = fork(
    join(import.meta.dirname, '../support/data-writer.mjs'),
    [at.profile.module, join(at.home, 'user.pin'), APPLICATION, String(REPLACEMENTS)],
    { execArgv: [], env: { ...process.env, ...at.profile.environment } },
  );
  let code: number | undefined;
  const ended = once(writer, 'exit').then(([end]) => { code = end as number; });
  await Promise.race([once(writer, 'message'), ended]);
  const newest: number[] = [];
  while (code === undefined) {
    const values = (await at.token.readData(APPLICATION)).map(({ value }) => Number(Buffer.from(value).toString()));
    newest.push(Math.max(...values));
  }
  await ended;
  expect(code).toBe(0);
  // Math.max of nothing is -Infinity.
  expect(newest.filter((value, index) => value < (newest[index - 1] ?? 0))).toEqual([]);
  expect(new Set(newest).size).toBeGreaterThan(20);
  const last = await at.token.readData(APPLICATION);
  expect(last.map(({ value }) => Buffer.from(value).toString())).toEqual([String(REPLACEMENTS)]);
});
