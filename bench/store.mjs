/**
 * What rows cost that nobody asks for: pages, start-up and requests of an installation with a million tombstones and
 * 1,000 living keys ÷ those of one with the living keys and 100 tombstones, side by side in the same rounds. On SQLite,
 * and on PostgreSQL where a server can be started; BENCH_ROWS is the number of keys, BENCH_DATABASES which databases.
 */

import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startServer } from '../test/support/postgres-server.mjs';
import { report, ROUNDS, runCell, spread } from './report.mjs';

const LIVING = 1000;
const FEW = LIVING + 100;
/** PostgreSQL takes longer to fill; BENCH_ROWS speaks for both. */
const MANY = { sqlite: Number(process.env.BENCH_ROWS ?? 1_000_000), postgres: Number(process.env.BENCH_ROWS ?? 250_000) };
/** Of a million tombstones with their versions and journal. */
const ROOM_BYTES = 8e9;

const memory = existsSync('/dev/shm') ? statfsSync('/dev/shm') : undefined;
// A busy disk is no part of the store; 4 GB of rows may not fit anywhere else.
const parent = memory !== undefined && memory.bavail * memory.bsize > ROOM_BYTES ? '/dev/shm' : tmpdir();

for (const kind of (process.env.BENCH_DATABASES ?? 'sqlite,postgres').split(',')) {
  if (kind === 'sqlite') await measure('sqlite', () => '');
  else await onPostgres();
}

async function onPostgres() {
  let server;
  try {
    server = await startServer();
  } catch (error) {
    console.log(`store on postgres: not measured, no server can be started here (${String(error).split('\n')[0]})`);
    return;
  }
  try {
    await measure('postgres', (name) => createDatabase(server.url, name));
  } finally {
    await server.remove();
  }
}

async function createDatabase(url, name) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  return url.replace(/postgres$/, name);
}

async function measure(kind, databaseUrl) {
  const homes = [];
  try {
    const few = await installation(FEW, await databaseUrl('few'), homes);
    const many = await installation(MANY[kind], await databaseUrl('many'), homes);
    const rounds = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      // In turn, so that what else the machine does falls to both.
      const [first, second] = round % 2 === 0 ? [few, many] : [many, few];
      const cells = new Map();
      for (const each of [first, second]) cells.set(each, { ...(await each.cell('store')), ...(await each.cell('serve')) });
      rounds.push({ few: cells.get(few), many: cells.get(many) });
    }
    const keys = (count) => count.toLocaleString('en');
    const out = process.env.BENCH_OUTPUT ?? `var/bench-store-${kind}.json`;
    const title = `store on ${kind}, ${keys(MANY[kind])} keys (${keys(LIVING)} living) ÷ ${keys(FEW)} keys (${keys(LIVING)} living)`;
    report(title, out, ratios(rounds), { filled: { few: few.filled, many: many.filled }, rounds });
  } finally {
    for (const home of homes) rmSync(home, { recursive: true, force: true });
  }
}

async function installation(keys, url, homes) {
  const home = mkdtempSync(join(parent, 'kms-bench-'));
  homes.push(home);
  const [port, publicPort, metricsPort] = await freePorts(3);
  const environment = {
    KMS_HOME: home, KMS_PORT: String(port), KMS_PUBLIC_PORT: String(publicPort), KMS_METRICS_PORT: String(metricsPort),
    KMS_SERVER_PROCESSES: '1', KMS_SERVER_DRAIN_MS: '200', ...(url === '' ? {} : { KMS_STORE_URL: url }),
  };
  await promisify(execFile)(process.execPath, [resolve('dist/cli/main.js'), 'init', '--dev'], { env: { ...process.env, ...environment } });
  const cell = (name, more = {}) => runCell('store-cell.mjs', name, home, { ...environment, ...more });
  await cell('prepare');
  const filled = await cell('fill', { BENCH_LIVING: String(LIVING), BENCH_TOMBSTONES: String(keys - LIVING) });
  return { cell, filled };
}

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => new Promise((done) => { server.once('listening', done); })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((done) => { server.close(done); })));
  return ports;
}

function ratios(rounds) {
  const over = (of) => spread(rounds.map(of));
  const ratio = (field) => over(({ few, many }) => many[field] / few[field]);
  const ended = rounds.some(({ many }) => !many.stillComparing);
  return {
    'first page of 100 living keys': ratio('firstPageMs'),
    'middle page of 100 living keys': ratio('middlePageMs'),
    'first page of 100 destroyed keys': over(({ few, many }) => many.destroyedPageMs / few.destroyedPageMs),
    'sixth ÷ first page of 100 destroyed keys, many': over(({ many }) => many.middleDestroyedPageMs / many.destroyedPageMs),
    'start: spawn to ready': ratio('readyMs'),
    'start: unlocking the store': ratio('unlockMs'),
    'start: unlocking the store, many, in ms': over(({ many }) => many.unlockMs),
    'encrypt one by one, p50': ratio('encryptMs'),
    'encrypt, 16 at once: processor time of a request': ratio('cpuUs'),
    'cold look-up of a key, p50': ratio('coldMs'),
    'create a key, p50': ratio('createMs'),
    [`encrypt p99 while comparing${ended ? ' (ended early)' : ''} ÷ without, many`]: over(({ many }) => many.comparingP99 / many.quietP99),
    'comparing, many: longest block of the event loop, journal, in ms': over(({ many }) => many.journalBlockMs),
    'comparing, many: longest block of the event loop, keys, in ms': over(({ many }) => many.keysBlockMs),
    'comparing, many: longest block of the event loop, count, in ms': over(({ many }) => many.countBlockMs),
  };
}
