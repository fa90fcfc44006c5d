/** Two supervisors in one $KMS_HOME would take turns on one token without knowing of each other. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { runKms } from '../support/files.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';

let kms: Installation;

beforeEach(async () => {
  kms = await Installation.make();
  await kms.start();
});

afterEach(() => kms.remove());

const lock = (): string => join(kms.home, 'serve.lock');

test('a second kms serve is refused, and names the first', async () => {
  const elsewhere = { ...kms.environment, KMS_PORT: '0', KMS_PUBLIC_PORT: '0', KMS_METRICS_PORT: '0' };
  expect(await runKms(elsewhere, 'serve')).toEqual({
    code: 1, stdout: '', stderr: `kms: kms serve is running already here (process ${kms.pid})\n`,
  });
  expect((await kms.client().get('/servicekey')).status).toBe(200);
  expect(await kms.stop()).toBe(0);
  expect(existsSync(lock())).toBe(false);
});

test('what a killed one left does not stop the next, nor does the number of another process', async () => {
  const supervisor = kms.pid;
  process.kill(supervisor, 'SIGKILL');
  await eventually('it is dead', () => kms.hasEnded);
  expect((JSON.parse(readFileSync(lock(), 'utf8')) as { pid: number }).pid).toBe(supervisor);
  await kms.start();
  expect((JSON.parse(readFileSync(lock(), 'utf8')) as { pid: number }).pid).toBe(kms.pid);
  expect(await kms.stop()).toBe(0);
  // The process id has come back to somebody else: us.
  writeFileSync(lock(), JSON.stringify({ pid: process.pid, born: 'of another start:1' }));
  await kms.start();
  expect((await kms.client().get('/servicekey')).status).toBe(200);
});
