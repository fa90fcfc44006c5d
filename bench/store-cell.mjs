/**
 * One cell of the store benchmark, in a process of its own; `home` holds the installation, the environment its
 * settings. The server is a process of its own too, so that its processor time and its event loop are its own.
 */

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { withAccess } from '../build/modules/cli/session.js';
import { loadConfig } from '../build/modules/config.js';
import { openStore } from '../build/modules/parts.js';
import { openDatabase } from './store-database.mjs';
import { fill } from './store-fill.mjs';

const [, , name, home] = process.argv;
const MAIN = resolve('dist/cli/main.js');
const URL = process.env.KMS_STORE_URL ?? '';
const MEASURE_MS = Number(process.env.BENCH_MS ?? 2000);
const REQUESTS = Number(process.env.BENCH_REQUESTS ?? 300);
const COLD = 500;
const MADE = 30;
const admin = () => JSON.parse(readFileSync(join(home, 'clients', 'admin.json'), 'utf8'));
const keysFile = join(home, 'bench-keys.json');
const PLAINTEXT = randomBytes(200).toString('base64');

class Server {
  #child;
  #agent;
  #base;
  readyMs;

  static async start() {
    const server = new Server();
    const start = performance.now();
    server.#child = spawn(process.execPath, [MAIN, 'serve'], { stdio: ['ignore', 'pipe', 'ignore'] });
    await new Promise((ready, failed) => {
      server.#child.stdout.on('data', (text) => { if (/^ready /m.test(text)) ready(); });
      server.#child.once('exit', (code) => { failed(new Error(`kms serve ended with ${code}`)); });
    });
    server.readyMs = performance.now() - start;
    const { ca, cert, key, okmsId } = admin();
    server.#agent = new Agent({ connect: { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) }, connections: 16 });
    server.#base = `https://localhost:${process.env.KMS_PORT}/api/${okmsId}/v1/servicekey`;
    return server;
  }

  async call(method, path, body) {
    const json = body && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const answer = await request(`${this.#base}${path}`, { method, dispatcher: this.#agent, ...json });
    const text = await answer.body.text();
    if (answer.statusCode > 201) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
    return JSON.parse(text);
  }

  /** Makes it compare store and token now. */
  compare() {
    this.#child.kill('SIGHUP');
  }

  /** Processor time of its one server process so far, in µs. */
  cpuUs() {
    const { pid } = this.#child;
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    const fields = readFileSync(`/proc/${child}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  }

  async stop() {
    await this.#agent.destroy();
    const ended = new Promise((done) => { this.#child.once('exit', done); });
    this.#child.kill('SIGTERM');
    await ended;
  }
}

/** Keys that are used for requests, made by the service. */
async function prepare() {
  const server = await Server.start();
  const ids = [];
  for (let n = 0; n < MADE; n += 1) ids.push(await create(server));
  writeFileSync(keysFile, JSON.stringify(ids));
  await server.stop();
  return {};
}

async function create(server) {
  return (await server.call('POST', '', { name: 'bench', type: 'oct', size: 256, operations: ['encrypt', 'decrypt'] })).id;
}

async function fillUp() {
  const start = performance.now();
  await withAccess(loadConfig(process.env), async ({ store, macs }) => {
    await store.unlock(macs);
    const database = await openDatabase(home, URL);
    const one = async (table) => (await database.all(`select * from "${table}" limit 1`))[0];
    const template = { key: await one('key'), version: await one('key_version'), object: await one('key_object') };
    const [living, tombstones] = [Number(process.env.BENCH_LIVING) - MADE, Number(process.env.BENCH_TOMBSTONES)];
    await fill(database, macs, template, { living, tombstones });
    await database.close();
  });
  return { ms: performance.now() - start };
}

/** A server from its start on; the comparison waits until it is measured, as one duty is ours. */
async function serve() {
  const [keyId] = JSON.parse(readFileSync(keysFile, 'utf8'));
  const database = await openDatabase(home, URL);
  await hold(database);
  const server = await Server.start();
  try {
    const encrypt = () => server.call('POST', `/${keyId}/encrypt`, { plaintext: PLAINTEXT });
    await checked(server, keyId, await encrypt());
    await times(REQUESTS, encrypt);
    const result = { readyMs: server.readyMs, encryptMs: p(50, await times(REQUESTS, encrypt)) };
    await cpuPerRequest(server, encrypt); // compiles what runs at 16
    result.cpuUs = await cpuPerRequest(server, encrypt);
    Object.assign(result, await pages(server));
    result.createMs = p(50, await times(20, () => create(server)));
    result.quietP99 = p(99, await times(REQUESTS * 2, encrypt));
    Object.assign(result, await whileComparing(server, database, encrypt));
    return result;
  } finally {
    await server.stop();
    await database.close();
  }
}

const DUTY = `name = 'compare'`;
/** Whoever compares has its duty for so much longer, in ms. */
const RENEWED_MS = 30_000;
const SELF_TEST_MS = 2000;

async function hold(database) {
  await database.run(`delete from duty where ${DUTY}`);
  await database.run(`insert into duty (name, boot_id, until_ms) values ('compare', 'bench', ${Date.now() + 3_600_000})`);
}

async function whileComparing(server, database, encrypt) {
  await database.run(`delete from duty where ${DUTY}`);
  server.compare();
  while ((await database.all(`select * from duty where ${DUTY}`)).length === 0) await sleep(20);
  // The same signal has it test the token, which takes a moment.
  await sleep(SELF_TEST_MS);
  const comparingP99 = p(99, await times(REQUESTS * 2, encrypt));
  const [{ until_ms: until }] = await database.all(`select * from duty where ${DUTY}`);
  return { comparingP99, stillComparing: until > Date.now() + RENEWED_MS };
}

async function checked(server, keyId, { ciphertext }) {
  const { plaintext } = await server.call('POST', `/${keyId}/decrypt`, { ciphertext });
  if (plaintext !== PLAINTEXT) throw new Error('wrong result');
}

async function cpuPerRequest(server, encrypt) {
  let done = 0;
  let running = true;
  const [before, end] = [server.cpuUs(), performance.now() + MEASURE_MS];
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (running) {
      await encrypt();
      done += 1;
      running = performance.now() < end;
    }
  }));
  return (server.cpuUs() - before) / done;
}

/** Pages of living and of destroyed keys, and the first look-up of keys that nobody asked for before. */
async function pages(server) {
  const living = await walk(server, '', 10);
  const destroyed = await walk(server, '&state=destroyed', 10);
  const made = new Set(JSON.parse(readFileSync(keysFile, 'utf8')));
  const cold = living.flatMap(({ ids }) => ids).filter((id) => !made.has(id)).slice(0, COLD);
  const asked = [...cold];
  const page = async (path) => p(50, await times(Math.ceil(REQUESTS / 3), () => server.call('GET', path)));
  return {
    coldMs: p(50, await times(cold.length, () => server.call('GET', `/${asked.pop()}`))),
    firstPageMs: await page(living[0].path),
    middlePageMs: await page(living[Math.floor(living.length / 2)].path),
    destroyedPageMs: await page(destroyed[0].path),
    middleDestroyedPageMs: await page(destroyed[Math.floor(destroyed.length / 2)].path),
  };
}

/** The first full pages, by their paths. */
async function walk(server, filter, most) {
  const found = [];
  for (let path = `?max=100${filter}`; path !== undefined && found.length < most;) {
    const { objects_list: keys, continuation_token: next } = await server.call('GET', path);
    if (keys.length === 100) found.push({ path, ids: keys.map(({ id }) => id) });
    path = next === '' ? undefined : `?max=100${filter}&continuation-token=${next}`;
  }
  return found;
}

/** The store's own part: unlocking, and what the comparison does to the event loop that it shares. */
async function store() {
  const config = loadConfig(process.env);
  return withAccess(config, async ({ macs }) => {
    const unlockMs = [];
    for (let n = 0; n < 5; n += 1) {
      const opened = await openStore(config, 'bench');
      const start = performance.now();
      await opened.unlock(macs);
      unlockMs.push(performance.now() - start);
      await opened.close();
    }
    const opened = await openStore(config, 'bench');
    await opened.unlock(macs);
    const damage = [];
    opened.onDamage((of) => damage.push(of));
    const { seq } = opened.head();
    const stretches = {
      journalBlockMs: await longestBlock(stretchesFrom(opened, { stage: 'journal', after: [Math.floor(seq / 2)] }, 40)),
      keysBlockMs: await longestBlock(stretchesFrom(opened, { stage: 'key', after: [admin().okmsId, '8'] }, 40)),
      countBlockMs: await longestBlock(stretchesFrom(opened, { stage: 'count', after: [] }, 1000)),
    };
    if (damage.length > 0) throw new Error(`damaged: ${JSON.stringify(damage[0])}`);
    await opened.close();
    return { seq, unlockMs: p(50, unlockMs), ...stretches };
  });
}

function stretchesFrom(opened, from, most) {
  return async () => {
    let cursor = from;
    for (let n = 0; n < most && cursor !== undefined; n += 1) {
      cursor = await opened.compare(cursor);
      await sleep(1);
    }
  };
}

/** The longest time in which the event loop did not turn, in ms. */
async function longestBlock(work) {
  let [running, last, longest] = [true, performance.now(), 0];
  const turn = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  turn();
  running = false;
  return longest;
}

/** Of one after the other, in ms. */
async function times(count, work) {
  const found = [];
  for (let n = 0; n < count; n += 1) {
    const start = performance.now();
    await work();
    found.push(performance.now() - start);
  }
  return found;
}

function p(percent, values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length * percent) / 100)];
}

const result = await { prepare, fill: fillUp, serve, store }[name]();
process.send(result, () => process.exit(0));
