/** Part of the store contract: announced creations (security S-20) and invocation counters (security P-10). */

import { describe, expect, it } from '@jest/globals';
import type { Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

const LIMIT = 2 ** 32;

export function intentSuite(stores: Stores): void {
  describe('announced creations', () => {
    it('are listed until they are committed', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, version] = [make.newKey(id), make.newVersion()];
      const intent = make.announcement(key, make.objectIds(version));
      await a.beginCreate(intent);
      expect(await a.intents()).toEqual([{ ...intent, action: 'create', revision: 0 }]);
      expect(await a.findKey(id, key.id)).toBeUndefined();
      await a.commitCreate(intent.id, key, version);
      expect(await a.intents()).toEqual([]);
    });

    it('refuse an id that is announced, in use, or was used', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = make.newKey(id);
      const intent = make.announcement(key);
      const again = () => a.beginCreate(make.announcement(key));
      await a.beginCreate(intent);
      await expect(again()).rejects.toMatchObject({ code: 'conflict' });
      const live = await a.commitCreate(intent.id, key, make.newVersion());
      await expect(again()).rejects.toMatchObject({ code: 'conflict' });
      const { id: destruction } = await make.destroyed(a, live);
      await expect(again()).rejects.toMatchObject({ code: 'conflict' });
      await a.removeIntent(destruction);
      await expect(again()).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.intents()).toEqual([]);
    });

    it('commit once, and not after they were removed', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, version] = [make.newKey(id), make.newVersion()];
      const intent = make.announcement(key);
      await a.beginCreate(intent);
      await a.removeIntent(intent.id);
      await a.removeIntent(intent.id);
      await expect(a.commitCreate(intent.id, key, version)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.findKey(id, key.id)).toBeUndefined();
      await a.beginCreate(intent);
      await a.commitCreate(intent.id, key, version);
      await expect(a.commitCreate(intent.id, key, version)).rejects.toMatchObject({ code: 'conflict' });
    });

    it('commit the key they announced and no other', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const intent = make.announcement(make.newKey(id));
      await a.beginCreate(intent);
      const other = make.newKey(id);
      await expect(a.commitCreate(intent.id, other, make.newVersion())).rejects.toMatchObject({ code: 'conflict' });
      const live = await make.created(a, id);
      const { id: destruction } = await make.destroyed(a, live);
      await expect(a.commitCreate(destruction, other, make.newVersion())).rejects.toMatchObject({ code: 'conflict' });
    });

    it('keep their intent when name or object is taken', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const live = await make.created(a, id);
      const key = make.newKey(id, { name: live.name });
      const intent = make.announcement(key);
      await a.beginCreate(intent);
      await expect(a.commitCreate(intent.id, key, make.newVersion())).rejects.toMatchObject({ code: 'conflict' });
      const version = make.newVersion({ objects: live.versions[0]!.objects });
      const renamed = { ...key, name: 'free' };
      await expect(a.commitCreate(intent.id, renamed, version)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.intents()).toMatchObject([{ id: intent.id, revision: 0 }]);
      expect(await a.countLiveKeys()).toBe(1);
    });
  });

  describe('invocation counters', () => {
    it('give what is left and then nothing', async () => {
      const { a } = stores();
      expect(await a.reserveInvocations('object', 65_536, LIMIT)).toBe(65_536);
      expect(await a.reserveInvocations('object', LIMIT, LIMIT)).toBe(LIMIT - 65_536);
      expect(await a.reserveInvocations('object', 1, LIMIT)).toBe(0);
      expect(await a.reserveInvocations('object', 5, LIMIT + 2)).toBe(2);
      expect(await a.reserveInvocations('object', 5, 10)).toBe(0);
      expect(await a.reserveInvocations('another', 1, LIMIT)).toBe(1);
    });

    it('take back what was not used, and no more than was reserved', async () => {
      const { a } = stores();
      expect(await a.reserveInvocations('object', 10, 10)).toBe(10);
      await a.returnInvocations('object', 4);
      expect(await a.reserveInvocations('object', 10, 10)).toBe(4);
      await a.returnInvocations('object', 11);
      expect(await a.reserveInvocations('object', 1, 10)).toBe(0);
      await a.returnInvocations('unknown', 1);
      expect(await a.reserveInvocations('unknown', 2, 1)).toBe(1);
    });
  });
}
