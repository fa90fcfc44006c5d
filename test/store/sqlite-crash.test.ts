/**
 * The SQLite store when its process is killed amid commits, and when the disk is full. Children cannot import
 * TypeScript on Node 20: they run the built package, which `make test` brings up to date before the tests.
 */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import Database from 'better-sqlite3';
import { migrateSqlite, openSqliteStore } from '../../src/store/sqlite.ts';
import type { KeyStore } from '../../src/store/store.ts';
import { times } from '../support/form.ts';
import * as make from './fixtures.ts';
import { openTwo, temporaryDirectory } from './sqlite-files.ts';

type Acknowledged = Partial<Record<'announced' | 'created' | 'changed' | 'destroyed' | 'cleared', string>> & {
  reserved?: number;
};

const LIMIT = 2 ** 32;
const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));

describe('SIGKILL amid commits', () => {
  it('leaves a sound file with every acknowledged row, while another process goes on', async () => {
    const { a, path, dispose } = await openTwo();
    const { id } = await make.installed(a);
    const all: Acknowledged[] = [];
    let round = 0;
    const [rounds, enough] = [times(4, 12), times(160, 500)];
    // On a slow machine as many as it takes for the children to have done something.
    for (; round < rounds || (all.length <= enough && round < 100); round++) {
      const lines = (await Promise.all([killed(path, 2 * round), killed(path, 2 * round + 1)])).flat();
      await a.reserveInvocations('shared', 100, LIMIT);
      all.push(...lines, { reserved: 100 });
      expect(sound(path)).toEqual(['ok']);
      await everyRow(a, id, lines);
    }
    expect(all.length).toBeGreaterThan(enough);
    await wholeKeys(a, id, all);
    await counted(a, all, 2 * round * 100);
    await dispose();
  });
});

/** Starts a child, kills it at a random moment of its commits, and gives what it had acknowledged. */
async function killed(path: string, boot: number): Promise<Acknowledged[]> {
  const child = spawn(process.execPath, [script('commit-forever.mjs'), path, String(boot), make.SEAL_KEYS.seal, make.SEAL_KEYS.journal], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: Acknowledged[] = [];
  const reader = createInterface({ input: child.stdout });
  reader.on('line', (line) => lines.push(JSON.parse(line) as Acknowledged));
  // By their number, so that a slow machine has as many commits.
  for (let left = 1 + Math.random() * 50; left > 0; left--) await once(reader, 'line');
  await delay(Math.random() * 20);
  child.kill('SIGKILL');
  const [, signal] = (await once(child, 'close')) as [unknown, string];
  expect(signal).toBe('SIGKILL');
  return lines;
}

function sound(path: string): unknown[] {
  const database = new Database(path, { readonly: true });
  const broken = database.pragma('foreign_key_check') as unknown[];
  const [{ integrity_check: check }] = database.pragma('integrity_check') as [{ integrity_check: string }];
  database.close();
  return [check, ...broken];
}

async function everyRow(store: KeyStore, vaultId: string, lines: readonly Acknowledged[]): Promise<void> {
  const intents = new Set((await store.intents()).map((intent) => intent.id));
  for (const { announced, created, changed, destroyed, cleared } of lines) {
    if (announced !== undefined) expect(intents.has(announced) || (await store.findKey(vaultId, announced))).toBeTruthy();
    if (created !== undefined) expect(await store.findKey(vaultId, created)).toBeDefined();
    if (changed !== undefined) expect(await store.findKey(vaultId, changed)).toMatchObject({ label: 'changed' });
    if (destroyed !== undefined) expect(await store.findKey(vaultId, destroyed)).toMatchObject({ state: 'destroyed' });
    if (cleared !== undefined) expect(intents.has(`d-${cleared}`)).toBe(false);
  }
}

/** No commit is there by half: live keys have version and objects, announced ones have no row. */
async function wholeKeys(store: KeyStore, vaultId: string, all: readonly Acknowledged[]): Promise<void> {
  const keys = await store.listKeys({ vaultId, states: ['active', 'destroyed'], afterOrdinal: -1, limit: 1e6 });
  expect(keys.length).toBeGreaterThanOrEqual(all.filter((line) => line.created !== undefined).length);
  expect(keys.map((key) => key.ordinal)).toEqual(keys.map((_, n) => n));
  for (const key of keys) {
    const objects = key.versions.map((version) => version.objects.length);
    expect(objects).toEqual(key.state === 'destroyed' ? [] : [2]);
  }
  for (const intent of await store.intents()) {
    const key = await store.findKey(vaultId, intent.keyId);
    expect(key?.state).toBe(intent.action === 'create' ? undefined : 'destroyed');
  }
}

/** The counter holds all that was acknowledged, and at most one unacknowledged block per kill. */
async function counted(store: KeyStore, all: readonly Acknowledged[], slack: number): Promise<void> {
  const acknowledged = all.reduce((sum, line) => sum + (line.reserved ?? 0), 0);
  const used = LIMIT - (await store.reserveInvocations('shared', LIMIT, LIMIT)).granted;
  expect(used).toBeGreaterThanOrEqual(acknowledged);
  expect(used).toBeLessThanOrEqual(acknowledged + slack);
}

const canMount = ((): boolean => {
  const inNamespace = ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'];
  return process.platform === 'linux' && process.getuid?.() === 0 && spawnSync('unshare', inNamespace).status === 0;
})();
const canLimit = spawnSync('prlimit', ['--version']).status === 0;
if (!canMount) console.warn('SKIPPED: full disk: this user may not mount a tmpfs');
if (!canLimit) console.warn('SKIPPED: limited file size: there is no prlimit');

describe('a full disk', () => {
  (canMount ? it : it.skip)('is store-unavailable, loses nothing, and the store goes on when there is room', async () => {
    const directory = await temporaryDirectory();
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', directory.path]).status).toBe(0);
    try {
      await fillAndGoOn(directory.path);
    } finally {
      spawnSync('umount', ['--lazy', directory.path]);
      await directory.remove();
    }
  });

  (canLimit ? it : it.skip)('as a limit on file size is treated alike', async () => {
    const { a, path, dispose } = await openTwo();
    await make.installed(a);
    const command = [process.execPath, script('small-files.mjs'), path, make.SEAL_KEYS.seal, make.SEAL_KEYS.journal];
    const child = spawnSync('prlimit', ['--fsize=500000:', ...command], { encoding: 'utf8' });
    expect(child.stderr).toBe('');
    const { cause, ...rest } = JSON.parse(child.stdout);
    expect(rest).toEqual({ code: 'store-unavailable', retryAfter: 1, lost: 0, after: 1 });
    expect(cause).toMatch(/^SQLITE_(FULL|IOERR)/);
    await dispose();
  });
});

async function fillAndGoOn(directory: string): Promise<void> {
  const [path, filler] = [join(directory, 'kms.db'), join(directory, 'filler')];
  await migrateSqlite(path);
  const store = await openSqliteStore(path, 'boot');
  const { id } = await make.installed(store);
  const key = await make.created(store, id);
  await writeFile(filler, Buffer.alloc(4_000_000)).catch(() => undefined);

  let acknowledged = 0;
  const until = async () => {
    for (;;) acknowledged = (await store.updateKey(id, key.id, acknowledged, { label: 'x'.repeat(10_000) }, make.REQUEST)).revision;
  };
  await expect(until()).rejects.toMatchObject({ code: 'store-unavailable', retryAfter: 1, cause: { code: 'SQLITE_FULL' } });
  expect(await store.findKey(id, key.id)).toMatchObject({ revision: acknowledged });
  await store.ping();

  await rm(filler);
  await store.updateKey(id, key.id, acknowledged, { label: 'room' }, make.REQUEST);
  await store.close();
  const again = await openSqliteStore(path, 'boot');
  await again.unlock(make.MACS);
  expect(await again.findKey(id, key.id)).toMatchObject({ revision: acknowledged + 1, label: 'room' });
  await again.close();
}
