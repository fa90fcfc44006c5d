/** `kms init` killed at any point, and started again: one sound installation, nothing left over, nothing twice. */

import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { writeSealed } from '../audit/support.ts';
import { runKms, spawnKms } from '../support/files.ts';
import { rows, times } from '../support/form.ts';
import { readStore } from '../support/store-rows.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { eventually } from '../support/wait.ts';

const INTERNAL = ['access-ca', 'audit', 'canary', 'import', 'integrity', 'server-ca', 'token-issuer'];
const PAIRS = ['access-ca', 'audit', 'import', 'server-ca', 'token-issuer'];

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'kms-test-'));
});

afterEach(() => {
  rmSync(home, { recursive: true, force: true });
});

function ended(child: ChildProcess): Promise<string | number | null> {
  return new Promise((done) => child.once('close', (code, signal) => { done(signal ?? code); }));
}

/** @param moment looks whether it is time, whenever something was said and every millisecond @returns what it had said */
async function killedWhen(moment: (said: string) => boolean): Promise<string> {
  const child = spawnKms({ KMS_HOME: home }, 'init', '--dev');
  let said = '';
  const look = (): void => {
    if (moment(said)) child.kill('SIGKILL');
  };
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    look();
  });
  const looking = setInterval(look, 1);
  try {
    expect(await ended(child)).toBe('SIGKILL');
  } finally {
    clearInterval(looking);
  }
  return said;
}

async function freePort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((done) => { server.listen(0, '127.0.0.1', done); });
  const { port } = server.address() as { port: number };
  await new Promise((done) => { server.close(done); });
  return String(port);
}

/** One token, every internal key once and as the store has it, and a server that gets ready. */
async function isWhole(): Promise<void> {
  const { installation, internal } = readStore(home);
  expect([...internal.keys()].sort()).toEqual(INTERNAL);
  const wanted = [...internal].flatMap(([name, id]) =>
    (PAIRS.includes(name) ? ['private', 'public'] : ['mac']).map((part) => `kms-internal:${installation}:${name}:${part} ${id}`));
  TokenViewer.look(home, (viewer) => {
    expect(viewer.tokens().length).toBe(1);
    const found = viewer.login(home).objects().map(({ label, id }) => `${label} ${id}`);
    expect(found.sort()).toEqual(wanted.sort());
  });
  const ports = { KMS_PORT: await freePort(), KMS_PUBLIC_PORT: await freePort(), KMS_METRICS_PORT: await freePort() };
  const server = spawnKms({ KMS_HOME: home, KMS_SERVER_PROCESSES: '1', ...ports }, 'serve');
  const end = ended(server);
  let said = '';
  server.stdout?.on('data', (chunk: Buffer) => { said += chunk.toString(); });
  await eventually('ready, or ended', () => server.exitCode !== null || /^ready /m.test(said));
  expect(said).toMatch(/^ready /m);
  server.kill('SIGTERM');
  expect(await end).toBe(0);
}

async function initAgain(): Promise<void> {
  const again = await runKms({ KMS_HOME: home }, 'init', '--dev');
  expect([again.code, again.stderr]).toEqual([0, again.stderr]);
  await isWhole();
}

describe('killed', () => {
  test.each(rows([
    'token kms-', 'internal key canary', 'internal key audit', 'internal key import', 'internal key access-ca',
    'internal key token-issuer', 'certificates, vaults',
  ], 3))('when it says "%s"', async (line) => {
    const said = await killedWhen((text) => text.includes(line));
    expect(said).toContain(line);
    await initAgain();
  });

  test.each(rows([
    ['user.pin', 'softhsm/user.pin'],
    ['the settings', 'kms.yaml'],
    ['the access CA', 'tls/access-ca.pem'],
    ['the server certificate', 'tls/server.pem'],
    ['the administrator key', 'clients/admin.key'],
    ['the PKCS#12 file', 'clients/admin.p12'],
    ['the audit key', 'audit/audit-key.pem'],
  ] as const, 3))('when %s is there', async (_what, path) => {
    await killedWhen(() => existsSync(join(home, path)));
    await initAgain();
  });

  test.each(Array.from({ length: times(1, 4) }, (_, index) => index + 1))('when the first file of the token is there (round %i)', async () => {
    const tokens = join(home, 'softhsm', 'tokens');
    await killedWhen(() => existsSync(tokens) && readdirSync(tokens).length > 0);
    await initAgain();
  });

  test('a stream that it closed is of no installation, and no reader takes it for one', async () => {
    await killedWhen((text) => text.includes('internal key canary'));
    // As if the kill had come after the stream: signed by an audit key that the next run destroys.
    const left = await writeSealed(join(home, 'audit'), 2);
    await initAgain();
    expect([existsSync(left), existsSync(join(dirname(left), `.${basename(left)}`))]).toEqual([false, true]);
    expect((await runKms({ KMS_HOME: home }, 'audit', 'verify')).code).toBe(0);
  });

  test('in the middle of the making of the token', async () => {
    await killedWhen((text) => text.includes('token kms-'));
    leaveTorso();
    TokenViewer.look(home, ({ module }) => {
      const labels = module.C_GetSlotList(true).map((slot) => module.C_GetTokenInfo(slot).label.trim());
      expect(labels).toContain((JSON.parse(readFileSync(join(home, 'init.pending'), 'utf8')) as { tokenLabel: string }).tokenLabel);
    });
    await initAgain();
  });

  test('between the making of the token and the setting of its PIN', async () => {
    await killedWhen((text) => text.includes('token kms-'));
    initialiseTokenWithoutPin();
    await initAgain();
  });
});

/** Exactly what the killed process would have left, had the kill come a moment later. */
function leaveTorso(): void {
  const { tokenLabel } = JSON.parse(readFileSync(join(home, 'init.pending'), 'utf8')) as { tokenLabel: string };
  const tokens = join(home, 'softhsm', 'tokens');
  // Had it come to the token, in place of that.
  for (const made of readdirSync(tokens)) rmSync(join(tokens, made), { recursive: true });
  const directory = join(tokens, randomUUID());
  mkdirSync(directory);
  writeFileSync(join(directory, 'token.object'), Buffer.concat([
    number(5), // generation
    number(LABEL_ATTRIBUTE), number(BYTES), number(32), Buffer.from(tokenLabel.padEnd(32)),
    number(LABEL_ATTRIBUTE + 1), number(BYTES), number(16), Buffer.from('4169089b7259f2d7'),
    number(LABEL_ATTRIBUTE + 2), number(ULONG), number(0xc0_0425),
  ]));
  writeFileSync(join(directory, 'generation'), number(1));
  writeFileSync(join(directory, 'token.lock'), '');
}

/** Of SoftHSM's object files: CKA_OS_TOKENLABEL, after which come serial and flags, and kinds of values. */
const LABEL_ATTRIBUTE = 0x8000_5349;
const ULONG = 2;
const BYTES = 3;

function number(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Exactly the call the killed process would have made next, in the state it left. */
function initialiseTokenWithoutPin(): void {
  const { tokenLabel } = JSON.parse(readFileSync(join(home, 'init.pending'), 'utf8')) as { tokenLabel: string };
  const soPin = readFileSync(join(home, 'softhsm', 'so.pin'), 'utf8');
  TokenViewer.look(home, ({ module }) => {
    const [free, ...others] = module.C_GetSlotList(true);
    // The kill came before the token was made, else this is not the moment meant.
    expect(others).toEqual([]);
    module.C_InitToken(free!, soPin, tokenLabel.padEnd(32));
    expect(module.C_GetTokenInfo(free!).flags & ck.CKF_USER_PIN_INITIALIZED).toBe(0);
  });
}

describe('two at once', () => {
  test('one makes the installation, the other says that it is at work', async () => {
    const both = await Promise.all([runKms({ KMS_HOME: home }, 'init', '--dev'), runKms({ KMS_HOME: home }, 'init', '--dev')]);
    const codes = both.map(({ code }) => code).sort();
    // The second may also come when the first is done.
    expect([[0, 0], [0, 1]]).toContainEqual(codes);
    for (const { code, stderr } of both) if (code !== 0) expect(stderr).toContain('kms init is running already');
    await isWhole();
  });
});
