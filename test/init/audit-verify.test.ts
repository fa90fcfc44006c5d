/** `kms audit verify` on the stream that `kms init` leaves, and the public key it is checked with. */

import { spawnSync } from 'node:child_process';
import { cpSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { runKms } from '../support/files.ts';

interface Report {
  readonly ok: boolean;
  readonly missing: readonly string[];
  readonly streams: readonly { readonly state: string; readonly records: number; readonly problem?: { readonly line: number } }[];
}

let top: string;
let home: string;
/** A copy of its audit that the test may spoil. */
let directory: string;

const verify = async (...args: readonly string[]) => {
  const { code, stdout, stderr } = await runKms({ KMS_HOME: home }, 'audit', 'verify', ...args);
  return { code, stdout, stderr };
};

function segment(): string {
  const name = readdirSync(directory, { recursive: true, encoding: 'utf8' }).find((file) => file.endsWith('.jsonl'));
  return join(directory, name ?? 'none');
}

beforeAll(async () => {
  top = mkdtempSync(join(tmpdir(), 'kms-test-'));
  home = join(top, 'home');
  expect((await runKms({ KMS_HOME: home }, 'init', '--dev')).code).toBe(0);
});

beforeEach(() => {
  directory = join(top, 'copy');
  rmSync(directory, { recursive: true, force: true });
  cpSync(join(home, 'audit'), directory, { recursive: true });
});

afterAll(() => {
  rmSync(top, { recursive: true, force: true });
});

describe('kms init', () => {
  test('leaves a closed stream', async () => {
    const { code, stdout } = await verify('--output', 'json');
    const report = JSON.parse(stdout) as Report;
    expect({ code, report }).toMatchObject({
      code: 0,
      report: { ok: true, missing: [], elsewhere: [], streams: [{ state: 'closed', records: 2, unsealedTail: 0, checkpoints: 1, ok: true }] },
    });
  });

  test('leaves the public key for everybody who may enter', () => {
    const path = join(home, 'audit', 'audit-key.pem');
    expect((lstatSync(path).mode & 0o777).toString(8)).toBe('644');
    const { status, stdout } = spawnSync('openssl', ['pkey', '-pubin', '-in', path, '-noout', '-text'], { encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('prime256v1') });
  });
});

describe('kms audit verify', () => {
  test('works on a copy with nothing else there', async () => {
    const key = join(directory, 'audit-key.pem');
    const { code, stdout } = await runKms({ KMS_HOME: join(top, 'nowhere') }, 'audit', 'verify', '--directory', directory, '--public-key', key);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/: closed, 2 records in 1 segments, ok\nstore: not compared \(.*\)\nthe audit is intact/) });
  });

  test('names the first bad position and ends with 6', async () => {
    writeFileSync(segment(), readFileSync(segment(), 'utf8').replace('"kind":"dev"', '"kind":"prd"'));
    const { code, stdout } = await verify('--directory', directory);
    expect({ code, stdout }).toEqual({ code: 6, stdout: expect.stringMatching(/BAD at 000001\.jsonl line 1: .*\nstore: compared .*\nthe audit is damaged/) });
  });

  test('counts an unsealed tail', async () => {
    writeFileSync(segment(), `${readFileSync(segment(), 'utf8').split('\n')[0]}\n`);
    const { code, stdout } = await verify('--directory', directory);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('open, 1 records in 1 segments, ok, unsealed tail: 1') });
  });

  test('refuses without a usable key', async () => {
    const { code, stderr } = await verify('--public-key', join(home, 'kms.yaml'));
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('expected a public key in PEM') });
  });

  test('another key verifies nothing', async () => {
    const other = join(top, 'other.pem');
    const made = spawnSync('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], { encoding: 'utf8' });
    writeFileSync(other, spawnSync('openssl', ['pkey', '-pubout'], { input: made.stdout, encoding: 'utf8' }).stdout);
    const { code, stdout } = await verify('--public-key', other);
    expect({ code, stdout }).toEqual({ code: 6, stdout: expect.stringContaining('line 2: checkpoint of another audit key') });
  });
});
