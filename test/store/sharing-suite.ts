/** Part of the store contract: two processes on one database, and the end of a store. */

import { describe, expect, it } from '@jest/globals';
import type { KeyStore } from '../../src/store/store.ts';
import type { Lacks, Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

export function sharingSuite(stores: Stores, lacks: Lacks): void {
  describe('two processes', () => {
    it('see each other’s commits at once', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a);
      for (let n = 0; n < 20; n++) {
        const [writer, reader] = n % 2 === 0 ? [a, b] : [b, a];
        const key = await make.created(writer, id);
        expect(await reader.findKey(id, key.id)).toEqual(key);
        const changed = await reader.updateKey(id, key.id, 0, { label: 'changed' });
        expect(await writer.findKey(id, key.id)).toEqual(changed);
        expect(await writer.listKeys({ vaultId: id, states: ['active'], afterOrdinal: n - 1, limit: 9 })).toEqual([changed]);
      }
    });

    (lacks.announcements ? it.skip : it)('have change counters that move with every commit of either, and rest otherwise', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      for (let n = 0; n < 20; n++) {
        const before = [a.changeCounter(), b.changeCounter()];
        await a.findKey(id, key.id);
        await b.findKey(id, key.id);
        expect([a.changeCounter(), b.changeCounter()]).toEqual(before);
        await (n % 2 === 0 ? a : b).updateKey(id, key.id, n, { label: String(n) });
        expect(a.changeCounter()).not.toBe(before[0]);
        expect(b.changeCounter()).not.toBe(before[1]);
      }
    });

    it('have one winner among 20 changes of one revision', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const attempts = Array.from({ length: 20 }, (_, n) =>
        (n % 2 === 0 ? a : b).updateKey(id, key.id, 0, { label: String(n) }),
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
      const { id } = await make.installed(a);
      const key = make.newKey(id);
      const begun = await Promise.allSettled([a, b].map((store) => store.beginCreate(make.announcement(key))));
      expect(begun.filter((of) => of.status === 'fulfilled')).toHaveLength(1);
      const names = ['One-Name', 'one-name', 'ONE-NAME'];
      const made = await Promise.allSettled(names.map((name, n) => make.created(n % 2 === 0 ? a : b, id, { name })));
      expect(made.filter((of) => of.status === 'fulfilled')).toHaveLength(1);
    });

    it('give out ordinals without gap or repetition', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a);
      const keys = await Promise.all(Array.from({ length: 40 }, (_, n) => make.created(n % 2 === 0 ? a : b, id)));
      expect(keys.map((key) => key.ordinal).sort((x, y) => x - y)).toEqual(Array.from({ length: 40 }, (_, n) => n));
    });

    it('never reserve more than the limit together', async () => {
      const { a, b } = stores();
      const drain = async (store: KeyStore) => {
        const got: number[] = [];
        for (let last = 1; last > 0; got.push(last)) last = await store.reserveInvocations('object', 7, 1_000);
        return got;
      };
      const got = (await Promise.all([drain(a), drain(b), drain(a), drain(b)])).flat();
      expect(got.reduce((sum, one) => sum + one)).toBe(1_000);
      expect(got.filter((one) => one !== 7 && one !== 0)).toEqual([1_000 % 7]);
    });
  });

  describe('the end', () => {
    it('answers ping while open, and store-unavailable to everything afterwards', async () => {
      const { a, b } = stores();
      await a.ping();
      await a.close();
      await a.close();
      await expect(a.ping()).rejects.toMatchObject({ code: 'store-unavailable', retryAfter: 1 });
      await expect(a.vaults()).rejects.toMatchObject({ code: 'store-unavailable' });
      await expect(a.removeIntent('id')).rejects.toMatchObject({ code: 'store-unavailable' });
      expect(() => a.changeCounter()).toThrow(expect.objectContaining({ code: 'store-unavailable' }));
      await b.ping();
    });

    it('lets running work end', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const running = a.updateKey(id, key.id, 0, { label: 'late' });
      await a.close();
      expect(await running).toMatchObject({ label: 'late' });
      expect(await b.findKey(id, key.id)).toMatchObject({ label: 'late' });
    });
  });
}
