/** What the benchmarks have in common: cells in processes of their own, spreads over rounds, and the table. */

import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const THRESHOLDS = JSON.parse(readFileSync(join(here, 'thresholds.json'), 'utf8'));

export const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);

/** Each cell runs in a process of its own: a PKCS#11 module is initialised once per process. @returns what it sends */
export function runCell(file, name, home, environment) {
  const settings = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
  process.stderr.write(`${[new Date().toTimeString().slice(0, 8), name, ...settings].join(' ')}\n`);
  return new Promise((resolve, reject) => {
    const child = fork(join(here, file), [name, home], { env: { ...process.env, ...environment } });
    let result;
    child.on('message', (message) => { result = message; });
    child.on('exit', (code) => (code === 0 && result ? resolve(result) : reject(new Error(`${name} ended with ${code}`))));
  });
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

export function spread(values) {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Prints the table, writes it to `out`, and makes the exit code 1 when a ratio misses its threshold. */
export function report(title, out, ratios, cells) {
  const environment = { cores: cpus().length, node: process.version };
  try {
    writeFileSync(out, JSON.stringify({ environment, ratios, cells }, null, 2));
  } catch {
    // Without var/ there is only the table.
  }
  console.log(`${title}; ${environment.cores} cores; ${ROUNDS} rounds: median (min–max)`);
  for (const [name, { median: middle, min, max }] of Object.entries(ratios)) {
    const threshold = THRESHOLDS[name];
    const fails = threshold && ((threshold.min !== undefined && middle < threshold.min) || (threshold.max !== undefined && middle > threshold.max));
    const aim = threshold ? `  aim ${threshold.min !== undefined ? `≥ ${threshold.min}` : `≤ ${threshold.max}`}${fails ? '  MISSED' : ''}` : '';
    if (fails) process.exitCode = 1;
    console.log(`  ${name.padEnd(66)} ${middle.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})${aim}`);
  }
}
