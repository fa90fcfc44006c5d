// What it costs to start: processor time of commands against that of Node itself, in turns, and of the service until it
// is ready. Ratios inside one round.
import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { report, ROUNDS, spread } from './report.mjs';
import { installation } from './timing-installation.mjs';

const MAIN = resolve(import.meta.dirname, '../dist/cli/main.js');
/** Of the kernel's clock. */
const TICKS_PER_SECOND = 100;

/** Seconds of a process and its threads (proc(5), stat), and, with its ended children, of what it started. */
function ticksOf(pid) {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ').slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0);
}

function treeOf(pid) {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean));
  return [pid, ...children.flatMap((child) => treeOf(Number(child)))];
}

/** Runs of one program in a round: the kernel counts in hundredths of a second. */
const RUNS = 10;

/** Seconds of the children that have ended. */
function endedChildren() {
  const [utime, stime] = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1).split(' ').slice(13, 15).map(Number);
  return (utime + stime) / TICKS_PER_SECOND;
}

/** @returns processor seconds of programs that run to their end */
function cost(args, env) {
  const before = endedChildren();
  for (let run = 0; run < RUNS; run += 1) {
    const { status, stderr } = spawnSync(process.execPath, args, { env: { PATH: process.env.PATH, ...env } });
    if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`);
  }
  return endedChildren() - before;
}

/** @returns processor and wall seconds of `kms serve` until it is ready, its processes included */
async function start(env) {
  const began = performance.now();
  const server = spawn(process.execPath, [MAIN, 'serve'], { env, stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise((done) => server.once('exit', done));
  try {
    await new Promise((ready, failed) => {
      server.stdout.on('data', (text) => { if (/^ready /m.test(String(text))) ready(); });
      server.once('exit', (code) => failed(new Error(`kms serve ended with ${code}`)));
    });
    const cpu = treeOf(server.pid).reduce((sum, pid) => sum + ticksOf(pid), 0) / TICKS_PER_SECOND;
    return { cpu, wall: (performance.now() - began) / 1000 };
  } finally {
    server.kill('SIGTERM');
    await ended;
  }
}

const kms = await installation({ KMS_SERVER_PROCESSES: '2' });
await kms.end();
const cells = [];
for (let round = 0; round < ROUNDS; round += 1) {
  const node = cost(['-e', '0'], {});
  cells.push({ node, help: cost([MAIN, 'help'], {}) / node, vaultList: cost([MAIN, 'vault', 'list'], kms.env) / node, serve: await start(kms.env) });
}
kms.remove();
const of = (read) => spread(cells.map(read));
report('what a start costs', 'var/bench-starts.json', {
  'kms help ÷ node -e 0, processor time': of(({ help }) => help),
  'kms vault list ÷ node -e 0, processor time': of(({ vaultList }) => vaultList),
  'kms serve until ready, two processes, processor time in s': of(({ serve }) => serve.cpu),
  'kms serve until ready, in s': of(({ serve }) => serve.wall),
}, cells);
