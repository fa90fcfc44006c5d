/**
 * Results stay right while garbage is collected all the time, in every process and thread, and the token takes its time:
 * a buffer that the module still works on must not be collected or moved (pkcs11-lab §5.2).
 */

import { resolve } from 'node:path';
import { expect, test } from '@jest/globals';
import { Field } from './field.ts';
import { seconds, short } from './scenarios.ts';

const COLLECT = `--expose-gc --require ${resolve('test/support/gc-often.cjs')}`;

test('all results are right with forced collection and a slow token', async () => {
  const field = await Field.make({ settings: { KMS_SERVER_PROCESSES: '1' }, shim: { KMS_FAULT_LATENCY_US: '2000' } });
  try {
    await field.kms.start({ NODE_OPTIONS: COLLECT, GC_EVERY_MS: '60' });
    await field.load.prepare();
    field.load.start();
    field.fault.fromMs = performance.now();
    // Collecting takes much of the time there is.
    await field.answered(15 * seconds(), 180_000);
    await field.load.stop();
    // The supervisor, the server process, and its token threads.
    const collecting = new Set(field.kms.output.match(/collecting in process \d+ thread \d+/g));
    expect(collecting.size).toBeGreaterThanOrEqual(4);
    const refused = field.recorder.entries.filter(({ status }) => status >= 500 || status === 0);
    expect(short(refused.map((entry) => field.recorder.describe(entry)))).toEqual([]);
    expect(short(await field.violations())).toEqual([]);
  } finally {
    await field.remove();
  }
}, 300_000 + 4000 * seconds());
