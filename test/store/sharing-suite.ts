/** Part of the store contract: two processes on one database, and the end of a store. */

import { describe, expect, it } from '@jest/globals';
import type { KeyStore } from '../../src/store/store.ts';
import type { Stores } from '../contract/store-contract.ts';
import { eventually } from '../support/wait.ts';
import { enrolment } from './fleet-suite.ts';
import * as make from './fixtures.ts';

const { REQUEST } = make;

export function sharingSuite(stores: Stores): void {
  describe('two processes', () => {
    it('see each other’s commits at once', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      for (let n = 0; n < 20; n++) {
        const [writer, reader] = n % 2 === 0 ? [a, b] : [b, a];
        const key = await make.created(writer, id);
        expect(await reader.findKey(id, key.id)).toEqual(key);
        const changed = await reader.updateKey(id, key.id, 0, { label: 'changed' }, REQUEST);
        expect(await writer.findKey(id, key.id)).toEqual(changed);
        expect(await writer.listKeys({ vaultId: id, states: ['active'], afterOrdinal: n - 1, limit: 9 })).toEqual([changed]);
      }
    });

    it('have change counters that move with every commit of either, and rest otherwise', async () => {
      const { a, b, boots } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      for (const [store, boot] of [[a, boots[0]], [b, boots[1]]] as const) await store.enrol(enrolment(boot));
      // Until it hears of others, a process gives a new number each time.
      for (const store of [a, b]) await eventually('it hears of others', () => store.changeCounter() === store.changeCounter());
      await a.updateKey(id, key.id, 0, {}, REQUEST);
      await a.effectiveEverywhere();
      for (let n = 1; n < 20; n++) {
        const [own, other] = n % 2 === 0 ? [a, b] : [b, a];
        const before = [own.changeCounter(), other.changeCounter()];
        await a.findKey(id, key.id);
        await b.findKey(id, key.id);
        expect([own.changeCounter(), other.changeCounter()]).toEqual(before);
        await own.updateKey(id, key.id, n, { label: String(n) }, REQUEST);
        expect(own.changeCounter()).not.toBe(before[0]);
        await own.effectiveEverywhere();
        expect(other.changeCounter()).not.toBe(before[1]);
      }
    });

    it('have one winner among 20 changes of one revision', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const attempts = Array.from({ length: 20 }, (_, n) =>
        (n % 2 === 0 ? a : b).updateKey(id, key.id, 0, { label: String(n) }, REQUEST),
      );
      const outcomes = await Promise.allSettled(attempts);
      const losers = outcomes.filter((of) => of.status === 'rejected');
      expect(losers).toHaveLength(19);
      for (const { reason } of losers) expect(reason).toMatchObject({ code: 'conflict' });
      const winner = outcomes.findIndex((of) => of.status === 'fulfilled');
      expect(await a.findKey(id, key.id)).toMatchObject({ label: String(winner), revision: 1 });
    });

    it('have one winner among announcements of one id and commits of one name', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = make.newKey(id);
      const begun = await Promise.allSettled([a, b].map((store) => store.beginCreate(make.announcement(key), REQUEST)));
      expect(begun.filter((of) => of.status === 'fulfilled')).toHaveLength(1);
      const names = ['One-Name', 'one-name', 'ONE-NAME'];
      const made = await Promise.allSettled(names.map((name, n) => make.created(n % 2 === 0 ? a : b, id, { name })));
      expect(made.filter((of) => of.status === 'fulfilled')).toHaveLength(1);
    });

    it('give out ordinals without gap or repetition', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const keys = await Promise.all(Array.from({ length: 40 }, (_, n) => make.created(n % 2 === 0 ? a : b, id)));
      expect(keys.map((key) => key.ordinal).sort((x, y) => x - y)).toEqual(Array.from({ length: 40 }, (_, n) => n));
    });

    it('give out version ordinals without gap or repetition', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const made = await Promise.all(Array.from({ length: 20 }, async (_, n) => {
        const [store, version] = [n % 2 === 0 ? a : b, make.newVersion()];
        const intent = make.announcement(key);
        await store.beginRotate(intent, REQUEST);
        await store.commitVersion(intent.id, id, key.id, version, REQUEST);
        return version.id;
      }));
      const { versions, revision } = (await b.findKey(id, key.id))!;
      expect(versions.map((version) => version.ordinal)).toEqual(Array.from({ length: 21 }, (_, n) => n));
      expect(versions.slice(1).map((version) => version.id).sort()).toEqual([...made].sort());
      expect(revision).toBe(20);
    });

    it('read whole keys while the other changes them, and never find damage', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const damage: unknown[] = [];
      b.onDamage((of) => damage.push(of));
      const changing = (async () => {
        for (let n = 0; n < 15; n++) await make.rotated(a, key);
      })();
      for (let revision = 0; revision < 15;) {
        const found = await b.findKey(id, key.id);
        revision = found!.revision;
        expect(found!.versions).toHaveLength(revision + 1);
        expect(await b.listKeys({ vaultId: id, states: ['active'], afterOrdinal: -1, limit: 5 })).toHaveLength(1);
      }
      await changing;
      expect(damage).toEqual([]);
    });

    it('know when a change is effective everywhere: no other serves what was before', async () => {
      const { a, b, boots } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      for (const [store, boot] of [[a, boots[0]], [b, boots[1]]] as const) await store.enrol(enrolment(boot));
      for (let n = 0; n < 5; n++) {
        const before = b.changeCounter();
        await a.updateKey(id, key.id, n, { label: String(n) }, REQUEST);
        await a.effectiveEverywhere();
        expect(b.changeCounter()).not.toBe(before);
        expect(await b.findKey(id, key.id)).toMatchObject({ label: String(n) });
      }
    });

    it('do not wait for ever for one that is gone, and not at all for one that closed its stream', async () => {
      const { a, b, boots } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      for (const [store, boot] of [[a, boots[0]], [b, boots[1]]] as const) await store.enrol(enrolment(boot));
      await b.close();
      await a.updateKey(id, key.id, 0, { label: 'x' }, REQUEST);
      await a.effectiveEverywhere();
      await a.settleStream(boots[1], 'adopted', { seq: 0, head: '', checkpoint: '' });
      await a.updateKey(id, key.id, 1, { label: 'y' }, REQUEST);
      await a.effectiveEverywhere();
      expect(await a.findKey(id, key.id)).toMatchObject({ label: 'y' });
    });

    it('never reserve more than the limit together', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      const drain = async (store: KeyStore) => {
        const got: number[] = [];
        for (let last = 1; last > 0; got.push(last)) ({ granted: last } = await store.reserveInvocations('object', 7, 1_000));
        return got;
      };
      const got = (await Promise.all([drain(a), drain(b), drain(a), drain(b)])).flat();
      expect(got.reduce((sum, one) => sum + one)).toBe(1_000);
      expect(got.filter((one) => one !== 7 && one !== 0)).toEqual([1_000 % 7]);
    });
  });

  describe('exclusively', () => {
    it('gives what was done, passes errors on, and is free again after both', async () => {
      const { a, b } = stores();
      expect(await a.exclusively(() => Promise.resolve(5))).toBe(5);
      await expect(a.exclusively(() => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
      expect(await b.exclusively(() => Promise.resolve(6))).toBe(6);
    });
  });

  describe('the end', () => {
    it('answers ping while open, and store-unavailable to everything afterwards', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      await a.ping();
      await a.close();
      await a.close();
      await expect(a.ping()).rejects.toMatchObject({ code: 'store-unavailable', retryAfter: 1 });
      await expect(a.vaults()).rejects.toMatchObject({ code: 'store-unavailable' });
      await expect(a.removeIntent('id', REQUEST)).rejects.toMatchObject({ code: 'store-unavailable' });
      expect(() => a.changeCounter()).toThrow(expect.objectContaining({ code: 'store-unavailable' }));
      expect(() => a.head()).toThrow(expect.objectContaining({ code: 'store-unavailable' }));
      expect(() => a.exclusively(() => Promise.resolve())).toThrow(expect.objectContaining({ code: 'store-unavailable' }));
      await b.ping();
      expect(await b.vaults()).toHaveLength(1);
    });

    it('lets running work end', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const running = a.updateKey(id, key.id, 0, { label: 'late' }, REQUEST);
      await a.close();
      expect(await running).toMatchObject({ label: 'late' });
      expect(await b.findKey(id, key.id)).toMatchObject({ label: 'late' });
    });
  });
}
