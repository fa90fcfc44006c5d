/**
 * C-15: no space for token, store and audit in turn, under load. What needs none goes on; what needs some is refused
 * with a time to come back and leaves nothing half-made; and with space again the service is itself again.
 */

import { describe, expect } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../support/wait.ts';
import { type Disk, Disks, mayMount } from './disks.ts';
import type { Field } from './field.ts';
import { type Entry, succeeded } from './recorder.ts';
import { type Act, CRYPTO } from './requests.ts';
import { runAll } from './run.ts';
import { type Scenario, seconds, short } from './scenarios.ts';

/** A process that cannot say for so long that it lives serves nothing; the store has to have space again before. */
const FENCE_SECONDS = 15;
const READS: ReadonlySet<Act> = new Set(['get', 'list']);
/** They reserve invocations in the store. */
const RESERVING: ReadonlySet<Act> = new Set(['encrypt', 'dataKey']);
/** Files of the audit are made beforehand; small ones are full soon. */
const SMALL = { KMS_AUDIT_SEGMENT_BYTES: '65536' };

/** @param whileFull waits for what must happen while the disk is full */
function full(disk: Disk, whileFull: (field: Field) => Promise<void>, also: NonNullable<Scenario['also']>): Scenario {
  const disks = new Disks();
  return {
    name: `C-15: no space for the ${disk}`,
    disks,
    settings: SMALL,
    recoveryMs: 10_000,
    fault: async (field) => {
      const free = disks.fill(disk);
      try {
        await whileFull(field);
      } finally {
        free();
      }
    },
    also,
  };
}

const refusedCreations = ({ recorder, fault }: Field): readonly Entry[] =>
  recorder.entries.filter(({ act, status, sentMs }) => act === 'create' && status === 503 && sentMs >= fault.fromMs);

function untilRefused(maxSeconds: number): (field: Field) => Promise<void> {
  return async (field) => {
    await eventually('creations are refused', () => refusedCreations(field).length >= 3);
    await sleep(Math.min(maxSeconds, seconds()) * 1000);
  };
}

/** The acts that need no space were served, each time. */
function wentOn(field: Field, acts: (act: Act) => boolean): void {
  const asked = field.during().filter(({ act }) => acts(act));
  for (const act of ['decrypt', 'sign', 'get', 'list'] as const) {
    expect([act, asked.some((entry) => entry.act === act && succeeded(entry))]).toEqual([act, true]);
  }
  const refused = asked.filter(({ status }) => status >= 500 || status === 0);
  expect(short(refused.map((entry) => field.recorder.describe(entry)))).toEqual([]);
}

const scenarios: readonly Scenario[] = [
  full('token', untilRefused(Number.POSITIVE_INFINITY), (field) => {
    wentOn(field, (act) => CRYPTO.has(act) || READS.has(act));
  }),
  full('store', untilRefused(FENCE_SECONDS), (field) => {
    wentOn(field, (act) => (CRYPTO.has(act) && !RESERVING.has(act)) || READS.has(act));
  }),
  full('audit', async (field) => {
    await field.unready();
    await field.staysDown(1000 * seconds());
  }, (field) => {
    const asked = field.whileDown();
    expect(asked.length).toBeGreaterThan(0);
    expect(short(asked.filter(succeeded).map((entry) => field.recorder.describe(entry)))).toEqual([]);
  }),
];

describe('C-15', () => {
  if (mayMount()) runAll(scenarios);
  else console.warn('SKIPPED: C-15, no space: this user may not mount a tmpfs');
});
