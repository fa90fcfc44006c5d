/** One cell of the token-layer benchmark, in a process of its own. Uses the built package and a token in `home`. */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import ck from 'pkcs11js';
import { Cryptoki } from '../build/modules/pkcs11/cryptoki.js';
import { findSlot } from '../build/modules/pkcs11/login.js';
import { secretTemplate } from '../build/modules/pkcs11/template.js';
import { loadProfile, Token } from '../build/modules/pkcs11/token.js';

const [, , name, home] = process.argv;
const environment = process.env;
/** As many as the largest batch, so that a thread that comes back finds one. */
const CALLERS_PER_THREAD = 16;
const MEASURE_MS = Number(environment.BENCH_MS ?? 2000);
/** Each of 16 threads compiles the code for itself, from the 300 operations a second that fall to it. */
const WARM_MS = Number(environment.BENCH_WARM_MS ?? 6000);

const PROFILE = resolve('hsm-config/softhsm-2.6.1.yaml');
const LABEL = 'bench';

function tokenHome() {
  mkdirSync(join(home, 'softhsm', 'tokens'), { recursive: true });
  const conf = `directories.tokendir = ${join(home, 'softhsm', 'tokens')}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`;
  writeFileSync(join(home, 'softhsm', 'softhsm2.conf'), conf);
  for (const pin of ['user.pin', 'so.pin']) {
    const path = join(home, 'softhsm', pin);
    if (!existsSync(path)) writeFileSync(path, randomBytes(12).toString('hex'), { mode: 0o400 });
  }
}

async function open(threads) {
  tokenHome();
  const real = loadProfile(PROFILE, { KMS_HOME: home });
  const shim = environment.KMS_FAULT_LATENCY_US === undefined ? {} : { module: resolve('build/fault/libkmsfault.so') };
  const env = { ...real.environment, KMS_FAULT_MODULE: real.module, KMS_FAULT_CONTROL: join(home, 'control') };
  writeFileSync(join(home, 'control'), '');
  const token = new Token({
    threads,
    batchMax: 16,
    queueMax: 100_000,
    callTimeoutMs: 60_000,
    createTimeoutMs: 60_000,
    lostThreadsMax: 0,
    destroyable: 'kms:bench:',
    mayLogin: () => Promise.resolve(),
    exclusively: (run) => run(),
    onLost: (reason) => { console.error(`lost: ${reason}`); process.exit(1); },
    onState: () => undefined,
    setup: {
      profile: { ...real, ...shim, environment: env },
      tokenLabel: LABEL,
      tokenSerial: null,
      pinFile: join(home, 'softhsm', 'user.pin'),
      latchFile: join(home, 'latch'),
      canary: null,
      provision: { soPinFile: join(home, 'softhsm', 'so.pin') },
    },
  });
  await token.whenReady();
  while (token.stats().readyThreads < threads) await sleep(20);
  return token;
}

const AES = { objectId: '11'.repeat(16), part: 'secret' };
const RSA = { objectId: '22'.repeat(16), part: 'private' };
const AAD = Buffer.from('bench');
const DATA = randomBytes(200);

async function prepare() {
  const token = await open(2);
  await token.create(AES.objectId, 'kms:bench:key:gcm', { type: 'aes', bits: 256, purpose: 'gcm' });
  await token.create(RSA.objectId, 'kms:bench:key:private', { type: 'rsa', bits: 4096, purpose: 'rsa-sign' });
  await token.stop(2000);
  return {};
}

/** Encrypts with the token, and opens one in a hundred again, at the given concurrency. */
async function throughput() {
  const token = await open(Number(environment.BENCH_THREADS));
  let done = 0;
  let running = true;
  const caller = async () => {
    while (running) {
      const { iv, sealed } = await token.encryptGcm(AES, AAD, DATA);
      done += 1;
      if (done % 100 === 0) await check(token, iv, sealed);
    }
  };
  const callers = Array.from({ length: CALLERS_PER_THREAD * Number(environment.BENCH_THREADS) }, caller);
  await sleep(WARM_MS);
  const loop = monitorEventLoopDelay({ resolution: 1 });
  loop.enable();
  const [before, cpuBefore, start] = [done, process.cpuUsage(), performance.now()];
  await sleep(MEASURE_MS);
  const [operations, cpu, elapsedMs] = [done - before, process.cpuUsage(cpuBefore), performance.now() - start];
  running = false;
  loop.disable();
  await Promise.all(callers);
  await token.stop(2000);
  const cpuUs = cpu.user + cpu.system;
  return {
    rate: (operations * 1000) / elapsedMs,
    cpuUsPerOperation: cpuUs / operations,
    coresUsed: cpuUs / 1000 / elapsedMs,
    loopP99: loop.percentile(99) / 1e6,
  };
}

async function check(token, iv, sealed) {
  const opened = await token.decrypt(AES, { name: 'aes-gcm', iv, aad: AAD }, sealed);
  if (!DATA.equals(opened)) throw new Error('wrong result');
}

/** GCM one after the other, first alone, then while 64 RSA-4096 signatures wait. */
async function queue() {
  const token = await open(Number(environment.BENCH_THREADS));
  const digestInfo = Buffer.concat([Buffer.from('3031300d060960864801650304020105000420', 'hex'), randomBytes(32)]);
  const sign = () => token.sign(RSA, { name: 'rsa-pkcs' }, digestInfo, 512, 'heavy');
  await latencies(token, () => true, 300);
  const idle = percentiles(await latencies(token, () => true, 1000));
  let open64 = true;
  const callers = Array.from({ length: 64 }, async () => { while (open64) await sign(); });
  const loaded = percentiles(await latencies(token, () => true, 1000));
  open64 = false;
  await Promise.all(callers);
  await token.stop(2000);
  return { idle, loaded };
}

async function latencies(token, go, count) {
  const times = [];
  for (let i = 0; i < count && go(); i += 1) {
    const start = performance.now();
    const { iv, sealed } = await token.encryptGcm(AES, AAD, DATA);
    times.push(performance.now() - start);
    if (i % 100 === 0) await check(token, iv, sealed);
  }
  return times;
}

function percentiles(times) {
  const sorted = [...times].sort((a, b) => a - b);
  return { p50: sorted[Math.floor(sorted.length * 0.5)], p99: sorted[Math.floor(sorted.length * 0.99)] };
}

/**
 * Fills the token up to this many objects, past the token layer: its creations search the token each time, which takes
 * longer the more there are.
 */
async function fill() {
  const profile = loadProfile(PROFILE, { KMS_HOME: home });
  Object.assign(process.env, profile.environment);
  const cryptoki = new Cryptoki(profile.module);
  cryptoki.initialize(profile);
  const session = cryptoki.openSession(findSlot(cryptoki, { tokenLabel: LABEL, tokenSerial: null }));
  cryptoki.login(session, 'user', readFileSync(join(home, 'softhsm', 'user.pin'), 'utf8'));
  const objects = [{ type: ck.CKA_TOKEN, value: true }];
  for (let have = cryptoki.find(session, objects).length; have < Number(environment.BENCH_OBJECTS); have += 1) {
    const template = secretTemplate({ id: randomBytes(16), label: 'kms:bench:filler:gcm' }, 'gcm', profile);
    cryptoki.generateKey(session, ck.CKM_AES_KEY_GEN, [{ type: ck.CKA_VALUE_LEN, value: 32 }, ...template]);
  }
  cryptoki.finalize();
  return {};
}

/** Time from start to ready, and per operation, with the objects that are on the token. */
async function objects() {
  const start = performance.now();
  const token = await open(2);
  const readyMs = performance.now() - start;
  await latencies(token, () => true, 300);
  const times = await latencies(token, () => true, 2000);
  const perOperationUs = (times.reduce((sum, time) => sum + time, 0) * 1000) / times.length;
  const { objects: count } = token.stats();
  await token.stop(2000);
  return { objects: count, readyMs, perOperationUs };
}

function sleep(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

const result = await { prepare, throughput, queue, fill, objects }[name]();
process.send(result, () => process.exit(0));
