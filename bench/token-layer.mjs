/**
 * `make bench`: the token layer by itself, as ratios inside one run. Needs SoftHSM and the fault shim, which adds the
 * latency of a network HSM. Says on stderr what it is at, prints a table and writes it as JSON; exits 1 when a ratio
 * misses its threshold in bench/thresholds.json. Every result is checked: a benchmark that does not verify would praise a
 * corrupt path.
 */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { report, ROUNDS, runCell, spread } from './report.mjs';

const cell = (name, home, environment) => runCell('token-cell.mjs', name, home, environment);

const DELAY_US = 2000;
const THREADS = 16;
const FEW = 100;
const MANY = Number(process.env.BENCH_OBJECTS ?? 10_000);

/** Operations a second that 16 threads can make when each operation waits so often. */
function bound(delays) {
  return THREADS / ((delays * DELAY_US) / 1e6);
}

// In memory where there is any: a busy disk is no part of the token layer.
const home = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'kms-bench-'));
try {
  const rounds = [];
  await cell('prepare', home, {});
  for (let round = 0; round < ROUNDS; round += 1) rounds.push(await throughputs());
  const few = await counted(FEW);
  const many = await counted(MANY);
  // What 16 threads make at delay 0 is what this machine has the processors for, now.
  const expected = ({ plain }, delays) => Math.min(bound(delays), plain.rate);
  const over = (of) => spread(rounds.map(of));
  const ratios = {
    'latency 2 ms, Init without delay: rate ÷ (threads ÷ 1 delay)': over(({ one }) => one.rate / bound(1)),
    'latency 2 ms, Init with delay: rate ÷ (threads ÷ 2 delays)': over(({ two }) => two.rate / bound(2)),
    'rate at delay 0 ÷ bound at 2 ms, 1 delay': over(({ plain }) => plain.rate / bound(1)),
    'latency 2 ms, Init without delay: rate ÷ min(bound, at delay 0)': over((round) => round.one.rate / expected(round, 1)),
    'latency 2 ms, Init with delay: rate ÷ min(bound, at delay 0)': over((round) => round.two.rate / expected(round, 2)),
    'event-loop delay p99 at 2 ms, in ms': over(({ one, two }) => Math.max(one.loopP99, two.loopP99)),
    'GCM p99 with 64 RSA-4096 queued ÷ idle p99': over(({ queue }) => queue.loaded.p99 / queue.idle.p99),
    [`start to ready, ${MANY.toLocaleString('en')} objects ÷ ${FEW}`]: spread(pairs(many, few, 'readyMs')),
    [`GCM per operation, ${MANY.toLocaleString('en')} objects ÷ ${FEW}`]: spread(pairs(many, few, 'perOperationUs')),
  };
  const out = process.env.BENCH_OUTPUT ?? 'var/bench-token-layer.json';
  report('token layer, SoftHSM, client in the same process', out, ratios, { rounds, few, many });
} finally {
  rmSync(home, { recursive: true, force: true });
}

async function throughputs() {
  const threads = { BENCH_THREADS: String(THREADS) };
  const latency = { ...threads, KMS_FAULT_LATENCY_US: String(DELAY_US) };
  const plain = await cell('throughput', home, threads);
  const one = await cell('throughput', home, latency);
  const two = await cell('throughput', home, { ...latency, KMS_FAULT_LATENCY_INIT: '1' });
  const queue = await cell('queue', home, { BENCH_THREADS: '2' });
  return { plain, one, two, queue };
}

/** The cells with this many objects on the token, which had fewer before. */
async function counted(wanted) {
  await cell('fill', home, { BENCH_OBJECTS: String(wanted) });
  const cells = [];
  for (let round = 0; round < ROUNDS; round += 1) cells.push(await cell('objects', home, {}));
  return cells;
}

function pairs(over, under, field) {
  return over.map((each, index) => each[field] / under[index][field]);
}
