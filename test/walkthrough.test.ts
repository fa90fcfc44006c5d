// The published guide, step by step, as a user with curl runs it: scripts/okms-walkthrough.sh.

import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Installation } from './support/installation.ts';

const SCRIPT = resolve('scripts/okms-walkthrough.sh');

let kms: Installation;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
});

afterAll(() => kms.remove());

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** From another directory: only $KMS_HOME says where the installation is. */
function walk(home: string): Promise<Run> {
  return run([SCRIPT], home);
}

function run(command: readonly string[], home: string, extra: NodeJS.ProcessEnv = {}): Promise<Run> {
  const env = { PATH: process.env['PATH'], KMS_HOME: home, ...extra };
  return new Promise((done) => {
    execFile('bash', command, { env, cwd: home }, (error, stdout, stderr) => {
      done({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
  });
}

test('every step of the guide succeeds', async () => {
  const { code, stdout, stderr } = await walk(kms.home);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const lines = stdout.trimEnd().split('\n');
  expect(lines.at(-1)).toBe('The guide works from its first step to its last.');
  const steps = lines.slice(0, -1);
  expect(steps.filter((line) => !line.startsWith('ok  '))).toEqual([]);
  // Each is printed only after its checks held.
  for (const alg of ['RS256', 'PS256', 'ES256']) {
    expect(steps).toContain(`ok  openssl verifies the ${alg} signature, and refuses another message`);
  }
  expect(steps.at(-1)).toBe('ok  a deleted key is not found any more');
});

test('it leaves no key behind but tombstones', async () => {
  const admin = kms.client();
  expect((await admin.get('/servicekey')).json.objects_list).toEqual([]);
  expect((await admin.get('/servicekey?state=destroyed')).json.objects_list).toHaveLength(4);
  await admin.close();
});

test('a deviation ends it: where, what was expected, what came', async () => {
  const home = join(kms.home, 'elsewhere');
  mkdirSync(join(home, 'clients'), { recursive: true });
  const foreign = { ...kms.admin, okmsId: '00000000-0000-4000-8000-000000000000' };
  writeFileSync(join(home, 'clients', 'admin.json'), JSON.stringify(foreign));
  const { code, stdout, stderr } = await walk(home);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toContain('FAILED at: create an AES key of 256 bits');
  expect(stderr).toMatch(/expected: POST \/servicekey: 201\n +came: +403 \{/);
});

test('without an installation it says so', async () => {
  const { code, stderr } = await walk(join(kms.home, 'audit'));
  expect(code).toBe(1);
  expect(stderr).toContain('cannot be read');
});

describe('the client matrix', () => {
  const MATRIX = resolve('scripts/client-matrix.sh');

  /** A folder of clients, each with the script that runs it. */
  function clients(scripts: Readonly<Record<string, string>>): string {
    const folder = join(kms.home, `clients-${Object.keys(scripts).join('-')}`);
    for (const [name, script] of Object.entries(scripts)) {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, 'run'), `#!/bin/sh\n${script}\n`);
      chmodSync(join(folder, name, 'run'), 0o755);
    }
    return folder;
  }

  test('runs the guide as a client', async () => {
    const { code, stdout } = await run([MATRIX, 'curl'], kms.home);
    expect(stdout).toBe('passed   curl: The guide works from its first step to its last.\nclients: 1 passed, 0 failed, 0 not run\n');
    expect(code).toBe(0);
  });

  test('says which clients did not run, and why; that is no failure', async () => {
    const KMS_CLIENTS = clients({ absent: 'echo some words; echo no such command; exit 77', works: 'test -r "$1" && echo fine' });
    const { code, stdout } = await run([MATRIX], kms.home, { KMS_CLIENTS });
    expect(stdout.split('\n')).toEqual([
      'not run  absent: no such command', 'passed   works: fine', 'clients: 1 passed, 0 failed, 1 not run', '',
    ]);
    expect(code).toBe(0);
  });

  test('fails with the whole output of a client that failed', async () => {
    const KMS_CLIENTS = clients({ breaks: 'echo first; echo second >&2; exit 3', works: 'exit 0' });
    const { code, stdout } = await run([MATRIX], kms.home, { KMS_CLIENTS });
    expect(stdout).toContain('FAILED   breaks (exit code 3):\n         | first\n         | second\n');
    expect(stdout).toContain('clients: 1 passed, 1 failed, 0 not run');
    expect(code).toBe(1);
  });

  test('does not pass over a client that it does not know', async () => {
    const { stderr, code } = await run([MATRIX, 'nobody'], kms.home);
    expect([code, stderr]).toEqual([2, expect.stringContaining('no client nobody')]);
  });
});
