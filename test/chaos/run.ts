/** Runs scenarios: load, fault, recovery, and then every invariant. */

import process from 'node:process';
import { expect, test } from '@jest/globals';
import { Field } from './field.ts';
import { succeeded } from './recorder.ts';
import { type Scenario, seconds, short } from './scenarios.ts';

/** Beside the fault: installation, start, recovery, and the checks, whose number grows with the time of the load. */
const BESIDE_MS = 180_000;
/** Successes before anything goes wrong, so that there is something to lose. */
const WARM = 150;

export function runAll(scenarios: readonly Scenario[]): void {
  test.each(scenarios.map((scenario) => [scenario.name, scenario] as const))('%s', async (_name, scenario) => {
    await run(scenario);
  }, BESIDE_MS + 4000 * seconds());
}

async function run(scenario: Scenario): Promise<void> {
  const field = await Field.make(scenario);
  try {
    await field.kms.start();
    await field.load.prepare();
    field.load.start();
    await field.answered(WARM);
    await suffer(field, scenario);
    await field.recovered(scenario.recoveryMs);
    await field.settled();
    await scenario.also?.(field);
    expect(short(await field.violations())).toEqual([]);
    report(field, scenario);
  } catch (error) {
    report(field, scenario);
    throw error;
  } finally {
    await field.remove();
  }
}

async function suffer(field: Field, scenario: Scenario): Promise<void> {
  field.recorder.tainting = scenario.wrongResults === true;
  field.fault.fromMs = performance.now();
  await scenario.fault(field);
  field.fault.toMs = performance.now();
  field.recorder.tainting = false;
}

function report({ recorder, fault, recoveredMs }: Field, { name }: Scenario): void {
  const { entries } = recorder;
  const refused = entries.filter(({ status }) => status >= 500);
  const reasons = [...new Set(refused.map(({ status, json }) => `${status} ${String(json?.error_id)}`))].map((reason) =>
    `${reason} ${refused.filter(({ status, json }) => `${status} ${String(json?.error_id)}` === reason).length}`);
  const numbers = [
    `${entries.length} requests`,
    `${entries.filter(succeeded).length} served`,
    ...reasons,
    `${entries.filter(({ status }) => status === 0).length} without an answer`,
    `noticed after ${seconds3(fault.noticedMs - fault.fromMs)}`,
    `fault of ${seconds3(fault.toMs - fault.fromMs)}`,
    `ready ${seconds3(recoveredMs)} after its end`,
  ];
  process.stderr.write(`${name}: ${numbers.join(', ')}\n`);
}

function seconds3(ms: number): string {
  return Number.isNaN(ms) ? '–' : `${(ms / 1000).toFixed(1)} s`;
}
