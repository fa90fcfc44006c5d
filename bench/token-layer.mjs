/**
 * `make bench`: the token layer by itself, as ratios inside one run. Needs SoftHSM and the fault shim, which adds the
 * latency of a network HSM. Prints a table and writes it as JSON; exits 1 when a ratio misses its threshold in
 * bench/thresholds.json. Every result is checked: a benchmark that does not verify would praise a corrupt path.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fork } from 'node:child_process';

const here = import.meta.dirname;
const THRESHOLDS = JSON.parse(readFileSync(join(here, 'thresholds.json'), 'utf8'));
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);

/** Each cell runs in a process of its own: a PKCS#11 module is initialised once per process. */
function cell(name, home, environment) {
  return new Promise((resolve, reject) => {
    const child = fork(join(here, 'token-cell.mjs'), [name, home], { env: { ...process.env, ...environment } });
    let result;
    child.on('message', (message) => { result = message; });
    child.on('exit', (code) => (code === 0 && result ? resolve(result) : reject(new Error(`${name} ended with ${code}`))));
  });
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function spread(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

const DELAY_US = 2000;
const home = mkdtempSync(join(tmpdir(), 'kms-bench-'));
const rounds = [];
try {
  await cell('prepare', home, {});
  for (let round = 0; round < ROUNDS; round += 1) {
    const plain = await cell('throughput', home, { BENCH_THREADS: '16' });
    const latency = { BENCH_THREADS: '16', KMS_FAULT_LATENCY_US: String(DELAY_US) };
    const one = await cell('throughput', home, latency);
    const two = await cell('throughput', home, { ...latency, KMS_FAULT_LATENCY_INIT: '1' });
    const queue = await cell('queue', home, { BENCH_THREADS: '2' });
    rounds.push({ plain, one, two, queue });
  }
  const bound = (delays) => 16 / ((delays * DELAY_US) / 1e6);
  const few = await cell('objects', home, { BENCH_OBJECTS: '100' });
  const many = await cell('objects', home, { BENCH_OBJECTS: process.env.BENCH_OBJECTS ?? '10000' });
  const ratios = {
    'latency 2 ms, Init without delay: rate ÷ (threads ÷ 1 delay)': spread(rounds.map(({ one }) => one.rate / bound(1))),
    'latency 2 ms, Init with delay: rate ÷ (threads ÷ 2 delays)': spread(rounds.map(({ two }) => two.rate / bound(2))),
    'rate at delay 0 ÷ bound at 2 ms, 1 delay': spread(rounds.map(({ plain }) => plain.rate / bound(1))),
    'event-loop delay p99 at 2 ms, in ms': spread(rounds.map(({ one, two }) => Math.max(one.loopP99, two.loopP99))),
    'GCM p99 with 64 RSA-4096 queued ÷ idle p99': spread(rounds.map(({ queue }) => queue.loaded.p99 / queue.idle.p99)),
    'start to ready, 10,000 objects ÷ 100': spread([many.readyMs / few.readyMs]),
    'GCM per operation, 10,000 objects ÷ 100': spread([many.perOperationUs / few.perOperationUs]),
  };
  report(ratios, { rounds, few, many });
} finally {
  rmSync(home, { recursive: true, force: true });
}

function report(ratios, cells) {
  const environment = { cores: cpus().length, node: process.version, token: 'SoftHSM', client: 'in the same process' };
  const out = process.env.BENCH_OUTPUT ?? 'var/bench-token-layer.json';
  try {
    writeFileSync(out, JSON.stringify({ environment, ratios, cells }, null, 2));
  } catch {
    // Without var/ there is only the table.
  }
  console.log(`token layer, ${environment.cores} cores, ${environment.token}, client ${environment.client}; ${ROUNDS} rounds: median (min–max)`);
  let missed = 0;
  for (const [name, { median: middle, min, max }] of Object.entries(ratios)) {
    const threshold = THRESHOLDS[name];
    const fails = threshold && ((threshold.min !== undefined && middle < threshold.min) || (threshold.max !== undefined && middle > threshold.max));
    const aim = threshold ? `  aim ${threshold.min !== undefined ? `≥ ${threshold.min}` : `≤ ${threshold.max}`}${fails ? '  MISSED' : ''}` : '';
    if (fails) missed += 1;
    console.log(`  ${name.padEnd(62)} ${middle.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})${aim}`);
  }
  process.exitCode = missed === 0 ? 0 : 1;
}
