// The closing lines of a run: what it cost and where, which files outgrew their budget, and, last, `N passed, N failed`.
import { readFileSync, writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import process from 'node:process';
import { costOf } from './costs.mjs';

/** Processor seconds of each file in the short form, as `KMS_TEST_BUDGET=write make test` saw them. */
const BUDGET = resolve('test/budget.json');
const SHOWN = 10;
/** Shares and not seconds are compared, so that a slow machine changes nothing. */
const GROWTH = 2;
/** Seconds under which nobody minds. */
const SMALL = 10;

export default class KmsReporter {
  #files = [];
  #failed = false;

  onTestFileResult(_test, { testFilePath, perfStats, testResults }) {
    const again = testResults.filter(({ invocations = 1 }) => invocations > 1).map(({ fullName }) => fullName);
    this.#files.push({ name: relative('.', testFilePath), wall: perfStats.runtime / 1000, again, cost: costOf(testFilePath) });
  }

  onRunComplete(_contexts, results) {
    const measured = this.#files.filter(({ cost }) => cost !== undefined).sort((a, b) => b.cost.seconds - a.cost.seconds);
    const whole = measured.length > 1;
    const lines = whole ? [...costs(measured), ...secondLooks(this.#files)] : [];
    const grown = isComplete(results) ? outgrown(measured) : [];
    this.#failed = grown.length > 0 && process.env.CI !== undefined;
    // A suite that could not be loaded has no tests to count, and must not look like success.
    const failed = results.numFailedTests + results.numRuntimeErrorTestSuites + (this.#failed ? grown.length : 0);
    const skipped = results.numPendingTests + results.numTodoTests;
    lines.push(...grown, `${results.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
    // Other reporters, and jest's warning about open handles, come after this call.
    process.once('exit', () => process.stdout.write(`${lines.join('\n')}\n`));
    if (process.env.KMS_TEST_BUDGET === 'write' && isComplete(results)) writeBudget(measured);
  }

  getLastError() {
    return this.#failed ? new Error('a test file has outgrown its budget') : undefined;
  }
}

function costs(measured) {
  const sum = (of) => measured.reduce((total, { cost }) => total + cost[of], 0);
  const row = ({ name, wall, cost }) => `${cost.seconds.toFixed(1).padStart(7)} s of processor time, ${wall.toFixed(1).padStart(6)} s: ${name}`;
  return [
    `the ${SHOWN} most expensive files, with the processes they started:`,
    ...measured.slice(0, SHOWN).map(row),
    `all: ${sum('seconds').toFixed(0)} s of processor time, ${sum('inits')} inits, ${sum('serves')} serves, ${sum('commands')} other commands`,
  ];
}

function secondLooks(files) {
  const again = files.flatMap(({ name, again: tests }) => tests.map((test) => `  ${name}: ${test}`));
  return [`tests that needed a second look: ${again.length}`, ...again];
}

/** The budget is of the short form of everything. */
function isComplete({ numTotalTestSuites, numPendingTestSuites }) {
  const { files } = readBudget();
  return process.env.KMS_TEST_FULL === undefined && process.env.KMS_TEST_RING === undefined && numPendingTestSuites === 0 &&
    numTotalTestSuites >= Object.keys(files).length && numTotalTestSuites > 20;
}

function readBudget() {
  try {
    return JSON.parse(readFileSync(BUDGET, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return { files: {} };
    throw error;
  }
}

function outgrown(measured) {
  const { files } = readBudget();
  const total = measured.reduce((sum, { cost }) => sum + cost.seconds, 0);
  const planned = Object.values(files).reduce((sum, seconds) => sum + seconds, 0);
  return measured.flatMap(({ name, cost: { seconds } }) => {
    const share = (files[name] ?? SMALL) / Math.max(planned, 1);
    if (seconds <= SMALL || seconds / total <= GROWTH * share) return [];
    const percent = (of) => `${(100 * of).toFixed(1)} %`;
    return [`OUTGROWN ${name}: ${percent(seconds / total)} of the run, its budget is ${percent(share)} (test/budget.json)`];
  });
}

function writeBudget(measured) {
  const files = Object.fromEntries(measured.map(({ name, cost }) => [name, Math.ceil(cost.seconds)]).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(BUDGET, `${JSON.stringify({ about: 'processor seconds of each test file in the short form, children included', files }, null, 2)}\n`);
}
