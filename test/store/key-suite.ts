/** Part of the store contract: finding, listing, changing and destroying keys. */

import { describe, expect, it } from '@jest/globals';
import type { Key } from '../../src/keys/key.ts';
import type { KeyChange, KeyPage } from '../../src/store/store.ts';
import type { Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

const { REQUEST } = make;

export function keySuite(stores: Stores): void {
  describe('keys', () => {
    it('come back as they were written, with ordinals and first revisions', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = make.newKey(id, { kind: 'EC', bits: null, curve: 'P-384', context: null, usages: ['sign'] });
      const objects = [make.object('private'), make.object('public')];
      const version = make.newVersion({ enabled: false, expMs: 9, publicKey: Buffer.from([0, 255, 7]), objects, usages: ['sign'] });
      const intent = make.announcement(key, make.objectIds(version));
      await a.beginCreate(intent, REQUEST);
      const committed = await a.commitCreate(intent.id, key, version, REQUEST);
      const sorted = [...objects].sort((x, y) => (x.objectId < y.objectId ? -1 : 1));
      const versions = [{ ...version, ordinal: 0, objects: sorted, revision: 0 }];
      expect(committed).toEqual({ ...key, ordinal: 0, revision: 0, versions });
      expect(await a.findKey(id, key.id)).toEqual(committed);
    });

    it('are found in their own vault only', async () => {
      const { a } = stores();
      const vaults = [make.vault(), make.vault()];
      const installation = make.installation();
      await a.createInstallation({ installation, vaults, credentials: [], assignments: [] }, make.MACS);
      const [first, second] = [vaults[0]!.id, vaults[1]!.id];
      const key = await make.created(a, first, { name: 'Same' });
      expect(await a.findKey(second, key.id)).toBeUndefined();
      const twin = await make.created(a, second, { id: key.id, name: 'same' });
      expect(await a.findKey(second, key.id)).toEqual(twin);
      expect(await a.findKey(first, key.id)).toEqual(key);
      expect([key.ordinal, twin.ordinal]).toEqual([0, 0]);
      expect(await a.countLiveKeys()).toBe(2);
    });

    it('hold their name against any other case of it until they are destroyed', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id, { name: 'My-Key' });
      await expect(make.created(a, id, { name: 'mY-kEY' })).rejects.toMatchObject({ code: 'conflict' });
      await make.destroyed(a, key);
      expect(await make.created(a, id, { name: 'MY-KEY' })).toMatchObject({ name: 'MY-KEY', ordinal: 1 });
    });
  });

  describe('listKeys', () => {
    it('pages by ordinal, filters by state, and gives versions', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const keys: Key[] = [];
      for (let n = 0; n < 5; n++) keys.push(await make.created(a, id, n === 2 ? { state: 'deactivated' } : {}));
      await make.destroyed(a, keys[4]!);
      const page: KeyPage = { vaultId: id, states: ['active'], afterOrdinal: -1, limit: 2 };
      expect(await a.listKeys(page)).toEqual([keys[0], keys[1]]);
      expect(await a.listKeys({ ...page, afterOrdinal: 1 })).toEqual([keys[3]]);
      expect(await a.listKeys({ ...page, afterOrdinal: 3 })).toEqual([]);
      const wide: KeyPage = { ...page, states: ['deactivated', 'destroyed'], limit: 100 };
      expect((await a.listKeys(wide)).map((of) => of.ordinal)).toEqual([2, 4]);
      expect((await a.listKeys(wide)).map((of) => of.versions.length)).toEqual([1, 0]);
      expect(await a.listKeys({ ...wide, states: [] })).toEqual([]);
      expect(await a.listKeys({ ...wide, vaultId: 'another' })).toEqual([]);
      expect(await a.countLiveKeys()).toBe(4);
    });
  });

  describe('updateKey', () => {
    const changes: readonly (readonly [string, KeyChange])[] = [
      ['nothing', {}],
      ['the label', { label: '' }],
      ['the state', { state: 'deactivated', deactivatedMs: 5, deactivationReason: 'superseded' }],
      ['back to null', { activatedMs: null, deactivatedMs: null, deactivationReason: null, compromisedMs: null }],
      ['the compromise', { state: 'compromised', compromisedMs: 6 }],
    ];
    it.each(changes)('changes %s and leaves the rest', async (_name, change) => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const changed = await a.updateKey(id, key.id, 0, change, REQUEST);
      expect(changed).toEqual({ ...key, ...change, revision: 1 });
      expect(await a.findKey(id, key.id)).toEqual(changed);
    });

    it('refuses another revision, an unknown key and a tombstone', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      await expect(a.updateKey(id, key.id, 1, {}, REQUEST)).rejects.toMatchObject({ code: 'conflict' });
      await expect(a.updateKey(id, 'unknown', 0, {}, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
      await expect(a.updateKey('unknown', key.id, 0, {}, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
      expect(await a.findKey(id, key.id)).toEqual(key);
      await make.destroyed(a, key);
      await expect(a.updateKey(id, key.id, 0, {}, REQUEST)).rejects.toMatchObject({ code: 'conflict' });
      await expect(a.updateKey(id, key.id, 1, {}, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
    });

    it('makes no tombstones: they would keep the name and announce nothing', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      await expect(a.updateKey(id, key.id, 0, { state: 'destroyed' }, REQUEST)).rejects.toMatchObject({ code: 'internal' });
      expect(await a.findKey(id, key.id)).toEqual(key);
    });
  });

  describe('beginDestroy', () => {
    it('makes a tombstone without versions and an intent with all its objects', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.rotated(a, await make.created(a, id));
      const all = key.versions.flatMap(make.objectIds);
      const intent = make.destruction();
      const tombstone = { state: 'destroyed_compromised', destroyedMs: 77 } as const;
      const { key: gone, objectIds } = await a.beginDestroy(id, key.id, 1, tombstone, intent, REQUEST);
      expect(all).toHaveLength(4);
      expect([...objectIds].sort()).toEqual([...all].sort());
      expect(gone).toEqual({ ...key, ...tombstone, revision: 2, versions: [] });
      expect(await a.findKey(id, key.id)).toEqual(gone);
      const announced = { ...intent, action: 'destroy', state: 'announced', vaultId: id, keyId: key.id, objectIds, revision: 0 };
      expect(await a.intents()).toEqual([announced]);
      expect(await a.countLiveKeys()).toBe(0);
      expect(await a.ofTombstones([all[0]!, 'another'])).toEqual(new Set([all[0]]));
      expect(await a.pollHead()).toMatchObject({ tombstones: 1 });
      await a.removeIntent(intent.id, REQUEST);
      expect(await a.intents()).toEqual([]);
      expect(await a.findKey(id, key.id)).toEqual(gone);
      // The journal still knows whose they were: an object that comes back is told of as one of a destroyed key.
      expect(await a.ofTombstones([...all, 'another'])).toEqual(new Set(all));
    });

    it('names each CKA_ID once: the halves of a key pair share theirs', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const half = make.object('private');
      const [key, version] = [make.newKey(id, { kind: 'EC' }), make.newVersion({ objects: [half, { ...half, family: 'public' }] })];
      const intent = make.announcement(key);
      await a.beginCreate(intent, REQUEST);
      const pair = await a.commitCreate(intent.id, key, version, REQUEST);
      expect(await make.destroyed(a, pair)).toMatchObject({ objectIds: [half.objectId] });
    });

    it('refuses another revision, an unknown key and a tombstone, and then leaves no intent', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const destroy = (keyId: string, revision: number) =>
        a.beginDestroy(id, keyId, revision, make.TOMBSTONE, make.destruction(), REQUEST);
      await expect(destroy(key.id, 3)).rejects.toMatchObject({ code: 'conflict' });
      await expect(destroy('unknown', 0)).rejects.toMatchObject({ code: 'not-found' });
      expect(await a.intents()).toEqual([]);
      await destroy(key.id, 0);
      await expect(destroy(key.id, 0)).rejects.toMatchObject({ code: 'conflict' });
      await expect(destroy(key.id, 1)).rejects.toMatchObject({ code: 'not-found' });
      expect(await a.intents()).toHaveLength(1);
    });

    it('leaves the key alive when its intent cannot be written', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [key, other] = [await make.created(a, id), await make.created(a, id)];
      const { id: taken } = await make.destroyed(a, other);
      const intent = { ...make.destruction(), id: taken };
      await expect(a.beginDestroy(id, key.id, 0, make.TOMBSTONE, intent, REQUEST)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.findKey(id, key.id)).toEqual(key);
      expect(await a.pollHead()).toMatchObject({ tombstones: 1 });
    });
  });
}
