/** Part of the store contract: server processes and their streams, the outbox of the audit, duties, PIN latches. */

import { describe, expect, it } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import type { KeyStore, ProcessRow } from '../../src/store/store.ts';
import type { Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

type Enrolment = Parameters<KeyStore['enrol']>[0];

export function enrolment(bootId: string, over: Partial<Enrolment> = {}): Enrolment {
  const stream = { seq: -1, head: make.hex(), checkpoint: '' };
  return { bootId, hostId: 'host', pid: 7, born: '123', startedMs: 1_700_000_000_013, stream, ...over };
}

const rowOf = async (store: KeyStore, bootId: string): Promise<ProcessRow | undefined> =>
  (await store.processes()).find((row) => row.bootId === bootId);

export function fleetSuite(stores: Stores): void {
  describe('server processes', () => {
    it('are known to all with a lease by the database’s clock, which they renew', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      const [before, process] = [await a.nowMs(), enrolment('one')];
      await a.enrol(process);
      const first = await rowOf(b, 'one');
      expect(first).toEqual({ ...process, leaseMs: expect.any(Number), state: 'open', settledMs: null });
      expect(first!.leaseMs).toBeGreaterThanOrEqual(before);
      expect(first!.leaseMs).toBeLessThanOrEqual(await b.nowMs());
      await expect(a.enrol(process)).rejects.toMatchObject({ code: 'conflict' });
      await delay(5);
      const stream = { seq: 41, head: make.hex(), checkpoint: make.hex() };
      await a.renew('one', stream);
      const renewed = await rowOf(b, 'one');
      expect(renewed).toEqual({ ...first, stream, leaseMs: expect.any(Number) });
      expect(renewed!.leaseMs).toBeGreaterThan(first!.leaseMs);
    });

    it('have a stream that ends once', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      for (const boot of ['one', 'two']) await a.enrol(enrolment(boot));
      const end = { seq: 9, head: 'head', checkpoint: 'checkpoint' };
      const settled = await Promise.all([a.settleStream('one', 'adopted', end), b.settleStream('one', 'closed', end)]);
      expect([...settled].sort()).toEqual([false, true]);
      const state = settled[0] ? 'adopted' : 'closed';
      const row = await rowOf(b, 'one');
      expect(row).toMatchObject({ state, stream: end, settledMs: expect.any(Number) });
      await a.renew('one', { ...end, seq: 10 });
      expect(await b.settleStream('one', 'abandoned', { ...end, seq: 11 })).toBe(false);
      expect(await rowOf(a, 'one')).toEqual(row);
      expect(await a.settleStream('unknown', 'adopted', end)).toBe(false);
      expect(await rowOf(a, 'two')).toMatchObject({ state: 'open', settledMs: null });
    });

    it('are outside the journal', async () => {
      const { a } = stores();
      await make.installed(a);
      const { seq } = a.head();
      await a.enrol(enrolment('one'));
      await a.renew('one', { seq: 1, head: '', checkpoint: '' });
      await a.takeDuty('sweep', 'one', 10);
      await a.setPinLatch({ hostId: 'host', source: 'source' });
      expect(await a.pollHead()).toMatchObject({ seq });
    });
  });

  describe('the outbox of the audit', () => {
    it('holds each change of a process until its outcome is recorded', async () => {
      const { a, b, boots } = stores();
      const { id } = await make.installed(a, b);
      await a.markRecorded(boots[0], ['init']);
      const start = a.head().seq;
      const [key, version] = [make.newKey(id), make.newVersion()];
      const intent = make.announcement(key);
      await a.beginCreate(intent, 'r1');
      await a.commitCreate(intent.id, key, version, 'r2');
      await b.updateKey(id, key.id, 0, { label: 'x' }, 'r3');
      const [of, place] = [await b.unrecorded(boots[0]), `${id}/${key.id}`];
      expect(of.map((entry) => entry.seq)).toEqual([1, 2, 3, 4, 5, 6].map((n) => start + n));
      expect(of[0]).toEqual({ seq: start + 1, requestId: 'r1', table: 'intent', key: intent.id });
      expect(of.slice(1).map((entry) => entry.requestId)).toEqual(Array(5).fill('r2'));
      expect(of.filter((entry) => entry.table === 'key').map((entry) => entry.key)).toEqual([place]);
      expect(await a.unrecorded(boots[1])).toEqual([{ seq: start + 7, requestId: 'r3', table: 'key', key: place }]);
      await b.markRecorded(boots[0], []);
      await b.markRecorded(boots[1], ['r1', 'r2']);
      expect(await a.unrecorded(boots[0])).toHaveLength(6);
      await b.markRecorded(boots[0], ['r2', 'r3']);
      expect(await a.unrecorded(boots[0])).toMatchObject([{ requestId: 'r1' }]);
      expect(await a.unrecorded(boots[1])).toHaveLength(1);
    });

    it('holds nothing of a change that failed', async () => {
      const { a, boots } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const before = await a.unrecorded(boots[0]);
      await expect(a.updateKey(id, key.id, 5, {}, 'late')).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.unrecorded(boots[0])).toEqual(before);
    });
  });

  describe('duties', () => {
    it('are one process’s, until it stops going on with them', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      const taken = await Promise.all([a.takeDuty('sweep', 'one', 60_000), b.takeDuty('sweep', 'two', 60_000)]);
      expect([...taken].sort()).toEqual([false, true]);
      const [mine, theirs] = taken[0] ? ['one', 'two'] : ['two', 'one'];
      expect(await a.takeDuty('sweep', theirs, 60_000)).toBe(false);
      expect(await b.takeDuty('other', theirs, 60_000)).toBe(true);
      expect(await b.takeDuty('sweep', mine, 0)).toBe(true);
      await delay(5);
      expect(await b.takeDuty('sweep', theirs, 60_000)).toBe(true);
      expect(await a.takeDuty('sweep', mine, 60_000)).toBe(false);
    });
  });

  describe('PIN latches', () => {
    it('are one for each host, the newest source each, until they are cleared', async () => {
      const { a, b } = stores();
      expect(await a.pinLatches()).toEqual([]);
      // Before the store is unlocked: the keys that unlock it lie behind the PIN.
      await a.setPinLatch({ hostId: 'h1', source: 's1' });
      await b.setPinLatch({ hostId: 'h2', source: 's2' });
      await b.setPinLatch({ hostId: 'h1', source: 's3' });
      expect(await a.pinLatches()).toEqual([
        { hostId: 'h1', source: 's3', atMs: expect.any(Number) },
        { hostId: 'h2', source: 's2', atMs: expect.any(Number) },
      ]);
      await a.clearPinLatches();
      expect(await b.pinLatches()).toEqual([]);
    });
  });
}
