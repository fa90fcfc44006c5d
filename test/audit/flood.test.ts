import { describe, expect, test } from '@jest/globals';

import { createFloodGate } from '../../src/audit/flood.ts';
import type { AuditEvent } from '../../src/audit/record.ts';
import { eventually } from '../support/wait.ts';

const refusal = (source: string, reason = 'unauthenticated') =>
  ({ event: 'request.refused', result: 'refused', reason, source, requestId: 'r-1' }) as const;

/** A gate with a clock that stands still and an audit log that fails on demand. */
function gateAt(start: number) {
  const state = { now: start, down: false };
  const records: AuditEvent[] = [];
  const append = async (event: AuditEvent) => {
    if (state.down) throw new Error('audit down');
    records.push(event);
  };
  return { state, records, gate: createFloodGate({ append, now: () => state.now }) };
}

describe('a flood', () => {
  test('the first is recorded at once, the rest as one count', async () => {
    const { records, gate } = gateAt(5000);
    for (let n = 0; n < 50; n += 1) await gate.refused(refusal('10.0.0.1'));
    expect(records).toEqual([refusal('10.0.0.1')]);
    await gate.flush();
    expect(records).toHaveLength(2);
    expect(records[1]).toEqual({
      ...{ event: 'request.refused', result: 'refused', reason: 'unauthenticated', source: '10.0.0.1' },
      detail: { count: 49 },
    });
  });

  test('sources and reasons are counted apart', async () => {
    const { records, gate } = gateAt(5000);
    for (const source of ['a', 'b', 'a', 'b', 'b']) await gate.refused(refusal(source));
    await gate.refused(refusal('a', 'too-large'));
    await gate.flush();
    const counts = records.map(({ source, reason, detail }) => [source, reason, detail?.['count']]);
    expect(counts).toEqual([
      ['a', 'unauthenticated', undefined],
      ['b', 'unauthenticated', undefined],
      ['a', 'too-large', undefined],
      ['a', 'unauthenticated', 1],
      ['b', 'unauthenticated', 2],
    ]);
  });

  test('a new second starts with a record of its own', async () => {
    const { state, records, gate } = gateAt(5000);
    await gate.refused(refusal('a'));
    await gate.refused(refusal('a'));
    state.now = 6000;
    await gate.refused(refusal('a'));
    expect(records.map(({ detail }) => detail?.['count'])).toEqual([undefined, 1, undefined]);
  });

  test('the count is written when the second ends, without another refusal', async () => {
    const { records, gate } = gateAt(5900);
    await gate.refused(refusal('a'));
    await gate.refused(refusal('a'));
    await eventually('the count is written', () => records.length > 1);
    expect(records.map(({ detail }) => detail?.['count'])).toEqual([undefined, 1]);
    await gate.flush();
    expect(records).toHaveLength(2);
  });

  test('above 10,000 sources the others share one bucket without a name', async () => {
    const { records, gate } = gateAt(5000);
    for (let n = 0; n < 10_050; n += 1) await gate.refused(refusal(`s-${n}`, n % 2 ? 'too-large' : 'malformed-request'));
    expect(records).toHaveLength(10_001);
    await gate.flush();
    expect(records.slice(10_001)).toEqual([
      { event: 'request.refused', result: 'refused', source: 'other', detail: { count: 49 } },
    ]);
  });
});

describe('while the audit log is down', () => {
  test('a refusal rejects, and the next one tries anew', async () => {
    const { state, records, gate } = gateAt(5000);
    state.down = true;
    await expect(gate.refused(refusal('a'))).rejects.toThrow('audit down');
    await expect(gate.refused(refusal('a'))).rejects.toThrow('audit down');
    state.down = false;
    await gate.refused(refusal('a'));
    expect(records).toEqual([refusal('a')]);
  });

  test('those counted beside a refusal that fails are told', async () => {
    const { state, gate } = gateAt(5000);
    state.down = true;
    const outcomes = await Promise.allSettled([gate.refused(refusal('a')), gate.refused(refusal('a'))]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  test('a count is not lost', async () => {
    const { state, records, gate } = gateAt(5000);
    for (let n = 0; n < 4; n += 1) await gate.refused(refusal('a'));
    state.down = true;
    await expect(gate.flush()).rejects.toThrow('audit down');
    state.down = false;
    for (let n = 0; n < 3; n += 1) await gate.refused(refusal('a'));
    await gate.flush();
    expect(records.map(({ detail }) => detail?.['count'])).toEqual([undefined, undefined, 5]);
  });
});
