/** C-12: wrong results (security §4.3), found by the self-test at start and on demand. */

import { afterEach, expect, test } from '@jest/globals';
import { eventually } from '../support/wait.ts';
import { Field } from './field.ts';
import { ChaosClient } from './load.ts';
import { create, list } from './requests.ts';
import { runAll } from './run.ts';
import { SCENARIOS, seconds, short } from './scenarios.ts';

let field: Field | undefined;

afterEach(async () => {
  await field?.remove();
  field = undefined;
});

test.each(['C_Encrypt', 'C_Sign'])('C-12: %s gives wrong results; found by the self-test at the start', async (call) => {
  const here = (field = await Field.make({}));
  // Tells how fast this machine is now.
  await here.kms.start();
  await here.kms.stop();
  here.shim.set([`${call} corrupt=flip`]);
  here.fault.fromMs = performance.now();
  const started = here.kms.start();
  await eventually('it answers', async () => (await here.readiness()).status === 503);
  await here.staysDown(seconds() * 1000);
  const client = new ChaosClient(here.kms, here.recorder);
  expect(await client.ask(create('oct'))).toMatchObject({ status: 503 });
  expect([200, 503]).toContain((await client.ask(list())).status);
  client.close();
  here.shim.clear();
  here.fault.toMs = performance.now();
  await here.recovered(10_000);
  await started;
  await here.load.prepare();
  here.load.start();
  await here.answered(100);
  expect(short(await here.violations())).toEqual([]);
}, 180_000 + 2000 * seconds());

runAll(SCENARIOS.results);
