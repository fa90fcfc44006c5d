/** Part of the store contract: keys by name, soft deletion, attributes of versions, token clients, failure budgets. */

import { describe, expect, it } from '@jest/globals';
import type { Key } from '../../src/keys/key.ts';
import type { NamePage, VersionChange } from '../../src/store/store.ts';
import type { Stores } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';

const { REQUEST } = make;
const DELETION = { atMs: 1_700_000_000_030, scheduledPurgeMs: 1_700_600_000_000 };

export function namingSuite(stores: Stores): void {
  describe('keys by name', () => {
    it('are found in any case, while they live and while they are deleted softly', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id, { name: 'My-Key' });
      expect(await a.findKeyByName(id, 'mY-kEY')).toEqual(key);
      const deleted = await a.updateKey(id, key.id, 0, { deletion: DELETION }, REQUEST);
      expect(deleted).toEqual({ ...key, deletion: DELETION, revision: 1 });
      expect(await a.findKeyByName(id, 'my-key')).toEqual(deleted);
      await expect(make.created(a, id, { name: 'my-key' })).rejects.toMatchObject({ code: 'conflict' });
      await make.destroyed(a, deleted);
      expect(await a.findKeyByName(id, 'my-key')).toBeUndefined();
      expect(await a.findKey(id, key.id)).toMatchObject({ state: 'destroyed', deletion: null, versions: [] });
      expect(await a.findKeyByName('another', 'my-key')).toBeUndefined();
    });

    it('are paged in the order of their names, the deleted ones apart', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const keys: Key[] = [];
      for (const name of ['b', 'D', 'a', 'c', 'E']) keys.push(await make.created(a, id, { name }));
      const [b, d, first, c, e] = keys as [Key, Key, Key, Key, Key];
      await a.updateKey(id, c.id, 0, { deletion: DELETION }, REQUEST);
      const page: NamePage = { vaultId: id, deleted: false, afterOrdinal: -1, limit: 2 };
      expect(await a.listKeysByName(page)).toEqual([first, b]);
      expect(await a.listKeysByName({ ...page, afterOrdinal: b.ordinal })).toEqual([d, e]);
      expect((await a.listKeysByName({ ...page, deleted: true })).map(({ name }) => name)).toEqual(['c']);
      // The key before the page may be gone since.
      await make.destroyed(a, b);
      expect(await a.listKeysByName({ ...page, afterOrdinal: b.ordinal })).toEqual([d, e]);
      expect(await a.listKeysByName({ ...page, afterOrdinal: e.ordinal })).toEqual([]);
    });

    it('that are deleted softly count as destroyed, unless a page is of whatever has objects', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const [off, live, gone] = [await make.created(a, id), await make.created(a, id), await make.created(a, id)];
      await a.updateKey(id, off.id, 0, { deletion: DELETION, state: 'compromised' }, REQUEST);
      await make.destroyed(a, gone);
      const list = async (states: Key['state'][], softly?: 'as-they-are') =>
        (await a.listKeys({ vaultId: id, states, afterOrdinal: -1, limit: 9, ...(softly && { softly }) })).map((of) => of.ordinal);
      expect(await list(['active', 'deactivated', 'compromised'])).toEqual([live.ordinal]);
      expect(await list(['destroyed'])).toEqual([off.ordinal, gone.ordinal]);
      expect(await list(['compromised'])).toEqual([]);
      expect(await list(['active', 'compromised', 'destroyed'])).toEqual([0, 1, 2]);
      expect(await list(['active', 'deactivated', 'compromised'], 'as-they-are')).toEqual([0, 1]);
      expect((await a.listDuePurges(DELETION.scheduledPurgeMs, 9)).map((of) => of.id)).toEqual([off.id]);
      expect(await a.listDuePurges(DELETION.scheduledPurgeMs - 1, 9)).toEqual([]);
    });

    it('get no further version while they are deleted', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      await a.updateKey(id, key.id, 0, { deletion: DELETION }, REQUEST);
      await expect(make.rotated(a, key)).rejects.toMatchObject({ code: 'not-found' });
    });
  });

  describe('updateVersion', () => {
    const changes: readonly (readonly [string, Omit<VersionChange, 'updatedMs'>])[] = [
      ['nothing but the time', {}],
      ['whether it is enabled', { enabled: false }],
      ['its time window', { nbfMs: -5_000, expMs: 4_102_444_800_000 }],
      ['its window away', { nbfMs: null, expMs: null }],
      ['usages', { usages: ['decrypt'] }],
      ['no usages', { usages: [] }],
      ['tags', { tags: [['Ünï', ''], ['__proto__', 'x,"y"']] }],
      ['no tags', { tags: [] }],
    ];
    it.each(changes)('changes %s, of one version alone', async (_name, change) => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.rotated(a, await make.created(a, id));
      const changed = await a.updateVersion({ vaultId: id, keyId: key.id, ordinal: 0 }, 1, { ...change, updatedMs: 99 }, REQUEST);
      const [first, second] = key.versions;
      expect(changed.versions).toEqual([{ ...first, ...change, updatedMs: 99, revision: 1 }, second]);
      expect(changed.revision).toBe(2);
      expect(await a.findKey(id, key.id)).toEqual(changed);
    });

    it('of the newest gives the key its usages', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.rotated(a, await make.created(a, id));
      const at = { vaultId: id, keyId: key.id, ordinal: 1 };
      expect((await a.updateVersion(at, 1, { usages: ['decrypt'], updatedMs: 1 }, REQUEST)).usages).toEqual(['decrypt']);
    });

    it('refuses another revision, and what is not there', async () => {
      const { a } = stores();
      const { id } = await make.installed(a);
      const key = await make.created(a, id);
      const at = { vaultId: id, keyId: key.id, ordinal: 0 };
      await expect(a.updateVersion(at, 1, { updatedMs: 1 }, REQUEST)).rejects.toMatchObject({ code: 'conflict' });
      await expect(a.updateVersion({ ...at, ordinal: 1 }, 0, { updatedMs: 1 }, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
      await expect(a.updateVersion({ ...at, keyId: 'x' }, 0, { updatedMs: 1 }, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
      expect(await a.findKey(id, key.id)).toEqual(key);
    });
  });

  describe('clients of the token endpoint', () => {
    it('are found until they are revoked, once', async () => {
      const { a } = stores();
      await make.installed(a);
      const client = make.tokenClient();
      await a.addTokenClient(client, REQUEST);
      expect(await a.tokenClient(client.id)).toEqual({ ...client, revision: 0 });
      expect(await a.tokenClients()).toEqual([{ ...client, revision: 0 }]);
      expect(await a.tokenClient('another')).toBeUndefined();
      await a.revokeTokenClient(client.id, 77, REQUEST);
      expect(await a.tokenClient(client.id)).toEqual({ ...client, revokedMs: 77, revision: 1 });
      await expect(a.revokeTokenClient(client.id, 78, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
      await expect(a.revokeTokenClient('another', 78, REQUEST)).rejects.toMatchObject({ code: 'not-found' });
    });
  });

  describe('failures', () => {
    it('are counted for each key and principal, by all processes, and none is lost', async () => {
      const { a, b } = stores();
      await make.installed(a);
      await b.unlock(make.MACS);
      expect(await a.failures('key', 'who')).toMatchObject({ count: 0 });
      const counts = await Promise.all([a, b, a, b, a].map((store) => store.noteFailure('key', 'who')));
      expect(counts.toSorted()).toEqual([1, 2, 3, 4, 5]);
      const { count, sinceLastMs } = await b.failures('key', 'who');
      expect(count).toBe(5);
      expect(sinceLastMs).toBeLessThan(60_000);
      for (const [key, who] of [['key', 'another'], ['another', 'who']] as const) {
        expect(await a.failures(key, who)).toMatchObject({ count: 0 });
      }
    });
  });
}
