/** Part of the store contract: announced work (security S-20) and invocation counters (security P-10). */

import { describe, expect, it } from '@jest/globals';
import type { Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

const LIMIT = 2 ** 32;
const CONFLICT = { code: 'conflict' };
const { REQUEST } = make;

export function intentSuite(stores: Stores): void {
  describe('announced creations', () => {
    it('are listed until they are committed', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, version] = [make.newKey(id), make.newVersion()];
      const intent = make.announcement(key, make.objectIds(version));
      await a.beginCreate(intent, REQUEST);
      expect(await a.intents()).toEqual([{ ...intent, action: 'create', state: 'announced', revision: 0 }]);
      expect(await a.findKey(id, key.id)).toBeUndefined();
      await a.commitCreate(intent.id, key, version, REQUEST);
      expect(await a.intents()).toEqual([]);
    });

    it('refuse an id that is announced, in use, or was used', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = make.newKey(id);
      const intent = make.announcement(key);
      const again = () => a.beginCreate(make.announcement(key), REQUEST);
      await a.beginCreate(intent, REQUEST);
      await expect(again()).rejects.toMatchObject(CONFLICT);
      const live = await a.commitCreate(intent.id, key, make.newVersion(), REQUEST);
      await expect(again()).rejects.toMatchObject(CONFLICT);
      const { id: destruction } = await make.destroyed(a, live);
      await expect(again()).rejects.toMatchObject(CONFLICT);
      await a.removeIntent(destruction, REQUEST);
      await expect(again()).rejects.toMatchObject(CONFLICT);
      expect(await a.intents()).toEqual([]);
    });

    it('commit once, and not after they were removed', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, version] = [make.newKey(id), make.newVersion()];
      const intent = make.announcement(key);
      await a.beginCreate(intent, REQUEST);
      await a.removeIntent(intent.id, REQUEST);
      await a.removeIntent(intent.id, REQUEST);
      await expect(a.commitCreate(intent.id, key, version, REQUEST)).rejects.toMatchObject(CONFLICT);
      expect(await a.findKey(id, key.id)).toBeUndefined();
      await a.beginCreate(intent, REQUEST);
      await a.commitCreate(intent.id, key, version, REQUEST);
      await expect(a.commitCreate(intent.id, key, version, REQUEST)).rejects.toMatchObject(CONFLICT);
    });

    it('commit the key they announced and no other', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const intent = make.announcement(make.newKey(id));
      await a.beginCreate(intent, REQUEST);
      const other = make.newKey(id);
      const commit = (intentId: string) => a.commitCreate(intentId, other, make.newVersion(), REQUEST);
      await expect(commit(intent.id)).rejects.toMatchObject(CONFLICT);
      const live = await make.created(a, id);
      const { id: destruction } = await make.destroyed(a, live);
      await expect(commit(destruction)).rejects.toMatchObject(CONFLICT);
    });

    it('keep their intent when name or object is taken', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const live = await make.created(a, id);
      const key = make.newKey(id, { name: live.name });
      const intent = make.announcement(key);
      await a.beginCreate(intent, REQUEST);
      const { seq } = a.head();
      await expect(a.commitCreate(intent.id, key, make.newVersion(), REQUEST)).rejects.toMatchObject(CONFLICT);
      const version = make.newVersion({ objects: live.versions[0]!.objects });
      const renamed = { ...key, name: 'free' };
      await expect(a.commitCreate(intent.id, renamed, version, REQUEST)).rejects.toMatchObject(CONFLICT);
      expect(await a.intents()).toMatchObject([{ id: intent.id, revision: 0 }]);
      expect(await a.countLiveKeys()).toBe(1);
      expect(await a.pollHead()).toMatchObject({ seq });
    });
  });

  describe('an intent that was given up', () => {
    it('lets no late commit through, whoever gave it up', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = make.newKey(id);
      const intent = make.announcement(key);
      await a.beginCreate(intent, REQUEST);
      await b.abortIntent(intent.id, 0, REQUEST);
      expect(await a.intents()).toEqual([{ ...intent, action: 'create', state: 'aborting', revision: 1 }]);
      await expect(a.commitCreate(intent.id, key, make.newVersion(), REQUEST)).rejects.toMatchObject(CONFLICT);
      expect(await b.findKey(id, key.id)).toBeUndefined();
      await b.removeIntent(intent.id, REQUEST);
      await expect(a.commitCreate(intent.id, key, make.newVersion(), REQUEST)).rejects.toMatchObject(CONFLICT);
    });

    it('is given up once, and never after its commit', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = make.newKey(id);
      const intent = make.announcement(key);
      await a.beginCreate(intent, REQUEST);
      await expect(b.abortIntent(intent.id, 1, REQUEST)).rejects.toMatchObject(CONFLICT);
      await a.commitCreate(intent.id, key, make.newVersion(), REQUEST);
      await expect(b.abortIntent(intent.id, 0, REQUEST)).rejects.toMatchObject(CONFLICT);
      expect(await b.findKey(id, key.id)).toMatchObject({ state: 'active' });
    });

    it('has one winner between its commit and its end', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      for (let n = 0; n < 10; n++) {
        const key = make.newKey(id);
        const intent = make.announcement(key);
        await a.beginCreate(intent, REQUEST);
        const [commit, abort] = await Promise.allSettled([
          a.commitCreate(intent.id, key, make.newVersion(), REQUEST),
          b.abortIntent(intent.id, 0, REQUEST),
        ]);
        expect([commit.status, abort.status].sort()).toEqual(['fulfilled', 'rejected']);
        expect((await b.findKey(id, key.id)) !== undefined).toBe(commit.status === 'fulfilled');
      }
    });
  });

  describe('rotation', () => {
    it('makes the announced version the newest, beside the earlier ones', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const version = make.newVersion({ enabled: false, publicKey: Buffer.from([1, 0]) });
      const intent = make.announcement(key, make.objectIds(version));
      await a.beginRotate(intent, REQUEST);
      expect(await b.intents()).toEqual([{ ...intent, action: 'rotate', state: 'announced', revision: 0 }]);
      const grown = await a.commitVersion(intent.id, id, key.id, version, REQUEST);
      const objects = [...version.objects].sort((x, y) => (x.objectId < y.objectId ? -1 : 1));
      expect(grown).toEqual({ ...key, revision: 1, versions: [...key.versions, { ...version, ordinal: 1, objects, revision: 0 }] });
      expect(await b.findKey(id, key.id)).toEqual(grown);
      expect(await b.intents()).toEqual([]);
      expect(await make.rotated(b, key)).toMatchObject({ revision: 2, versions: [{ ordinal: 0 }, { ordinal: 1 }, { ordinal: 2 }] });
    });

    it('is of an active key that is there', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, other] = [await make.created(a, id), await make.created(a, id)];
      const begin = (of: { vaultId: string; id: string }) => a.beginRotate(make.announcement(of), REQUEST);
      await expect(begin(make.newKey(id))).rejects.toMatchObject({ code: 'not-found' });
      const late = make.announcement(key);
      await a.beginRotate(late, REQUEST);
      const commit = () => a.commitVersion(late.id, id, key.id, make.newVersion(), REQUEST);
      const still = await a.updateKey(id, key.id, 0, { state: 'deactivated' }, REQUEST);
      await expect(begin(key)).rejects.toMatchObject({ code: 'wrong-state' });
      await expect(commit()).rejects.toMatchObject({ code: 'wrong-state' });
      await make.destroyed(a, still);
      await expect(begin(key)).rejects.toMatchObject({ code: 'not-found' });
      await expect(commit()).rejects.toMatchObject({ code: 'not-found' });
      await expect(a.commitVersion(late.id, id, other.id, make.newVersion(), REQUEST)).rejects.toMatchObject(CONFLICT);
      expect(await a.findKey(id, other.id)).toEqual(other);
    });

    it('commits no version whose intent was given up, removed, or announced a creation', async () => {
      const { a, b } = stores();
      const { id } = await make.installed(a, b);
      const key = await make.created(a, id);
      const intent = make.announcement(key);
      await a.beginRotate(intent, REQUEST);
      const commit = (intentId: string) => a.commitVersion(intentId, id, key.id, make.newVersion(), REQUEST);
      await b.abortIntent(intent.id, 0, REQUEST);
      await expect(commit(intent.id)).rejects.toMatchObject(CONFLICT);
      await b.removeIntent(intent.id, REQUEST);
      await expect(commit(intent.id)).rejects.toMatchObject(CONFLICT);
      const another = make.announcement(make.newKey(id));
      await a.beginCreate(another, REQUEST);
      await expect(commit(another.id)).rejects.toMatchObject(CONFLICT);
      expect(await a.findKey(id, key.id)).toEqual(key);
    });
  });

  describe('invocation counters', () => {
    it('give what is left and then nothing', async () => {
      const { a } = stores();
      await make.installed(a);
      expect(await a.reserveInvocations('object', 65_536, LIMIT)).toEqual({ granted: 65_536, total: 65_536 });
      expect(await a.reserveInvocations('object', LIMIT, LIMIT)).toEqual({ granted: LIMIT - 65_536, total: LIMIT });
      expect(await a.reserveInvocations('object', 1, LIMIT)).toEqual({ granted: 0, total: LIMIT });
      expect(await a.reserveInvocations('object', 5, LIMIT + 2)).toEqual({ granted: 2, total: LIMIT + 2 });
      expect(await a.reserveInvocations('object', 5, 10)).toEqual({ granted: 0, total: LIMIT + 2 });
      expect(await a.reserveInvocations('another', 1, LIMIT)).toEqual({ granted: 1, total: 1 });
    });

    it('take back what was not used, and no more than was reserved', async () => {
      const { a } = stores();
      await make.installed(a);
      expect(await a.reserveInvocations('object', 10, 10)).toMatchObject({ granted: 10 });
      await a.returnInvocations('object', 4);
      expect(await a.reserveInvocations('object', 10, 10)).toMatchObject({ granted: 4 });
      await a.returnInvocations('object', 11);
      expect(await a.reserveInvocations('object', 1, 10)).toMatchObject({ granted: 0 });
      await a.returnInvocations('unknown', 1);
      expect(await a.reserveInvocations('unknown', 2, 1)).toMatchObject({ granted: 1 });
    });

    it('are raised to what the audit saw, where they are below', async () => {
      const { a, b } = stores();
      await make.installed(a, b);
      for (const object of ['low', 'same', 'high']) await a.reserveInvocations(object, 10, LIMIT);
      expect(await b.raiseInvocations({ low: 12, same: 10, high: 8 })).toBe(1);
      expect(await b.raiseInvocations({})).toBe(0);
      expect(await a.reserveInvocations('low', 1, LIMIT)).toMatchObject({ total: 13 });
      expect(await a.reserveInvocations('same', 1, LIMIT)).toMatchObject({ total: 11 });
      expect(await a.reserveInvocations('high', 1, LIMIT)).toMatchObject({ total: 11 });
    });
  });
}
