// What a test file costs: processor time of its worker and of every process it started and waited for, and how many of
// our commands these were. The environment measures a file, the reporter adds them up.
import { createHash } from 'node:crypto';
import diagnostics from 'node:diagnostics_channel';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

/** Of the kernel's clock ticks; 100 on every Linux that Node supports. */
const TICKS_PER_SECOND = 100;
const MAIN = /dist\/cli\/main\.js$/;

/** Seconds of this process, its threads, and its children that have ended, theirs included (proc(5), fields 14 to 17). */
function processorSeconds() {
  const fields = readFileSync('/proc/self/stat', 'utf8').split(') ').at(-1).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}

function fileOf(path) {
  return join(process.env.KMS_TEST_HOMES, `cost-${createHash('sha256').update(path).digest('hex').slice(0, 16)}.json`);
}

/** @param path of the test file @returns ends the measurement */
export function measure(path) {
  const before = processorSeconds();
  const started = [];
  const note = ({ process: child }) => started.push(child);
  diagnostics.subscribe('child_process', note);
  return () => {
    diagnostics.unsubscribe('child_process', note);
    const commands = started.flatMap(({ spawnargs = [] }) => {
      const main = spawnargs.findIndex((word) => MAIN.test(word));
      return main < 0 ? [] : [spawnargs[main + 1]];
    });
    const count = (is) => commands.filter(is).length;
    const cost = {
      seconds: Math.round((processorSeconds() - before) * 100) / 100,
      inits: count((word) => word === 'init'),
      serves: count((word) => word === 'serve'),
      commands: count((word) => word !== 'init' && word !== 'serve'),
    };
    writeFileSync(fileOf(path), JSON.stringify(cost));
  };
}

/** @returns undefined for a file that was not measured */
export function costOf(path) {
  const file = fileOf(path);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}
