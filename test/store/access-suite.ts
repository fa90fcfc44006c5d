/** Part of the store contract: unlocking, installation, vaults, credentials, assignments. */

import { describe, expect, it } from '@jest/globals';
import type { Stores } from '../contract/store-contract.ts';
import { assignment, created, credential, customRole, hex, installation, installed, MACS, macsOf, vault } from './fixtures.ts';

const HOLDER = { method: 'token', issuer: 'issuer', subject: 'subject' } as const;
const UNAVAILABLE = { code: 'store-unavailable' };

export function accessSuite(stores: Stores): void {
  describe('before it is unlocked', () => {
    it('only the installation answers', async () => {
      const { a, b } = stores();
      expect(await a.installation()).toBeUndefined();
      const { id } = await installed(a);
      expect(await b.installation()).toEqual(await a.installation());
      await expect(b.vaults()).rejects.toMatchObject(UNAVAILABLE);
      await expect(b.findKey(id, 'key')).rejects.toMatchObject(UNAVAILABLE);
      await expect(b.assignments(HOLDER)).rejects.toMatchObject(UNAVAILABLE);
      await expect(b.removeIntent('intent', 'request')).rejects.toMatchObject(UNAVAILABLE);
      await expect(b.renew('boot', { seq: 0, head: '', checkpoint: '' })).rejects.toMatchObject(UNAVAILABLE);
      await expect(b.pollHead()).rejects.toMatchObject(UNAVAILABLE);
      expect(() => b.head()).toThrow(expect.objectContaining(UNAVAILABLE));
      expect(() => b.changeCounter()).toThrow(expect.objectContaining(UNAVAILABLE));
      await b.unlock(MACS);
      expect(await b.vaults()).toMatchObject([{ id }]);
      expect(b.head()).toEqual(a.head());
    });

    it('there is nothing to unlock without an installation, nor with keys of another token', async () => {
      const { a, b } = stores();
      await expect(b.unlock(MACS)).rejects.toMatchObject({ code: 'integrity' });
      await installed(a);
      const others = macsOf({ seal: hex(), journal: hex() });
      await expect(b.unlock(others)).rejects.toMatchObject({ code: 'integrity' });
      await expect(b.vaults()).rejects.toMatchObject(UNAVAILABLE);
      await b.unlock(MACS);
    });
  });

  describe('installation', () => {
    it('comes back as it was written, with vaults in order of creation', async () => {
      const { a } = stores();
      const only = installation();
      const vaults = [vault({ name: 'zz' }), vault({ name: 'aa', cbc: true, purgeProtection: false, flavour: 'premium' })];
      const credentials = [credential(vaults[0]!.id), credential(vaults[1]!.id, { revokedMs: 5 })];
      await a.createInstallation({ installation: only, vaults, credentials, assignments: [] }, MACS);
      expect(await a.installation()).toEqual({ ...only, revision: 0 });
      expect(await a.vaults()).toEqual(vaults.map((of) => ({ ...of, revision: 0 })));
      for (const of of credentials) {
        expect(await a.credential(of.issuerKeyHash, of.serial)).toEqual({ ...of, revision: 0 });
      }
      expect(await a.credential(credentials[0]!.issuerKeyHash, credentials[1]!.serial)).toBeUndefined();
      expect(await a.assignments(HOLDER)).toEqual([]);
      // One row each, and two internal keys.
      expect(a.head()).toMatchObject({ epoch: 1, seq: 7, liveRows: 7, tombstones: 0 });
    });

    it('is made once', async () => {
      const { a, b } = stores();
      const first = await installed(a);
      await expect(installed(b)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.vaults()).toMatchObject([{ id: first.id }]);
    });

    it('is made by one of two at the same time', async () => {
      const { a, b } = stores();
      const outcomes = await Promise.allSettled([installed(a), installed(b)]);
      expect(outcomes.map((of) => of.status).sort()).toEqual(['fulfilled', 'rejected']);
      const [loser] = outcomes.filter((of) => of.status === 'rejected');
      expect(loser?.reason).toMatchObject({ code: 'conflict' });
      await Promise.all([a.unlock(MACS), b.unlock(MACS)]);
      expect(await a.vaults()).toHaveLength(1);
      expect(await b.vaults()).toEqual(await a.vaults());
    });

    it('is all or nothing', async () => {
      const { a } = stores();
      const twice = vault();
      const rows = { installation: installation(), vaults: [twice, twice], credentials: [], assignments: [] };
      await expect(a.createInstallation(rows, MACS)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.installation()).toBeUndefined();
      await expect(a.unlock(MACS)).rejects.toMatchObject({ code: 'integrity' });
      await installed(a);
      expect(await a.vaults()).toHaveLength(1);
    });
  });

  describe('vaults', () => {
    it('are added at the end, seen by every process, and named once', async () => {
      const { a, b } = stores();
      const first = await installed(a, b);
      const second = vault({ name: 'another', cbc: true });
      expect(await a.createVault(second, 'make')).toEqual({ ...second, revision: 0 });
      expect((await b.vaults()).map(({ name }) => name)).toEqual([first.name, 'another']);
      await expect(b.createVault(vault({ name: 'another' }), 'again')).rejects.toMatchObject({ code: 'conflict' });
      await expect(b.createVault({ ...vault({ name: 'third' }), id: second.id }, 'again')).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.vaults()).toHaveLength(2);
      expect(await a.unrecorded('boot-of-nobody')).toEqual([]);
    });

    it('are made by several at once without a gap', async () => {
      const { a, b } = stores();
      await installed(a, b);
      const names = Array.from({ length: 8 }, (_, index) => `vault-${index}`);
      await Promise.all(names.map((name, index) => (index % 2 === 0 ? a : b).createVault(vault({ name }), `make ${name}`)));
      expect((await b.vaults()).map(({ name }) => name).slice(1).sort()).toEqual(names);
    });

    it('change in what may change, by compare and set', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const [before] = await a.vaults();
      const change = { cbc: !before!.cbc, rsa15: !before!.rsa15, purgeProtection: true, compromiseRule: 'final' } as const;
      const after = await a.updateVault(id, 0, change, 'change');
      expect(after).toEqual({ ...before, ...change, revision: 1 });
      expect(await b.vaults()).toEqual([after]);
      await expect(b.updateVault(id, 0, { cbc: true }, 'late')).rejects.toMatchObject({ code: 'conflict' });
      await expect(b.updateVault('nobody', 0, { cbc: true }, 'lost')).rejects.toMatchObject({ code: 'not-found' });
      expect(await a.vaults()).toEqual([after]);
    });
  });

  describe('the head', () => {
    it('is what this process committed, and what another did once it is polled', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const before = b.head();
      expect(before).toMatchObject({ epoch: 1, seq: 4, liveRows: 4, tombstones: 0 });
      await created(a, id);
      // Intent and its end; key, version, two objects.
      expect(a.head()).toMatchObject({ epoch: 1, seq: before.seq + 6 });
      expect(b.head()).toEqual(before);
      expect(await b.pollHead()).toMatchObject({ epoch: 1, seq: before.seq + 6, liveRows: 8, mac: a.head().mac });
      expect(b.head()).toEqual(await a.pollHead());
      await created(b, id);
      expect(b.head().seq).toBe(before.seq + 12);
    });

    it('is consistent with what anybody saw of it, unless they saw another or more', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const seen = a.head();
      await created(a, id);
      expect(await b.examine(seen)).toBe('consistent');
      expect(await b.examine(a.head())).toBe('consistent');
      expect(await b.examine({ ...seen, mac: new Uint8Array(32) })).toBe('forked');
      expect(await b.examine({ ...seen, seq: a.head().seq + 1 })).toBe('rolled-back');
      expect(await b.examine({ ...seen, epoch: 2, seq: 1 })).toBe('rolled-back');
      expect(await b.examine({ ...seen, epoch: 0 })).toBe('past');
    });
  });

  describe('assignments', () => {
    it('are added once for each principal, role and scope', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const mine = assignment({ subject: 'new', vaultId: id });
      expect(await a.assign(mine, 'first')).toEqual({ ...mine, revision: 0 });
      expect(await b.assign({ ...mine, id: 'another' }, 'again')).toEqual({ ...mine, revision: 0 });
      const wider = assignment({ subject: 'new', vaultId: null });
      await b.assign(wider, 'wider');
      const found = await a.assignments({ ...HOLDER, method: mine.method, issuer: mine.issuer, subject: 'new' });
      expect(found.map((of) => of.id).sort()).toEqual([mine.id, wider.id].sort());
      await expect(a.assign({ ...wider, subject: 'other' }, 'taken')).rejects.toMatchObject({ code: 'conflict' });
    });

    it('are found by method, issuer and subject together', async () => {
      const { a } = stores();
      const only = vault();
      const mine = [assignment({ createdMs: 1 }), assignment({ createdMs: 2, vaultId: only.id, keyId: 'key', role: 'user' })];
      const others = [
        assignment({ method: 'token' }),
        assignment({ issuer: 'another' }),
        assignment({ subject: 'another' }),
      ];
      const assignments = [...others, ...mine];
      await a.createInstallation({ installation: installation(), vaults: [only], credentials: [], assignments }, MACS);
      const found = await a.assignments({ ...HOLDER, method: 'certificate' });
      expect(found).toEqual(mine.map((of) => ({ ...of, revision: 0 })));
    });

    it('change with roles of the operator, all or nothing', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const role = customRole({ vaultId: id });
      const mine = assignment({ ...HOLDER, role: role.id, vaultId: id });
      const policy = assignment({ ...HOLDER, role: 'access-policy', permissions: ['key/get'] });
      await a.changePolicy({ define: [role], assign: [mine, policy] }, 'first');
      expect(await b.customRoles()).toEqual([{ ...role, revision: 0 }]);
      expect((await b.assignments(HOLDER)).map((of) => of.id).sort()).toEqual([mine.id, policy.id].sort());
      await expect(b.changePolicy({ withdraw: [policy.id], forget: [role.id] }, 'used')).rejects.toMatchObject({ code: 'conflict' });
      await expect(b.changePolicy({ withdraw: [policy.id, 'nobody'] }, 'lost')).rejects.toMatchObject({ code: 'not-found' });
      await expect(b.changePolicy({ define: [customRole({ name: role.name.toUpperCase(), vaultId: id })] }, 'twice')).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.assignments(HOLDER)).toHaveLength(2);
      await expect(b.changePolicy({ define: [{ ...role, vaultId: null }] }, 'taken')).rejects.toMatchObject({ code: 'conflict' });
      await b.changePolicy({ define: [{ ...role, permissions: ['key/sign'] }] }, 'less');
      expect(await a.customRoles()).toEqual([{ ...role, permissions: ['key/sign'], revision: 1 }]);
      await b.changePolicy({ withdraw: [policy.id, mine.id], forget: [role.id] }, 'gone');
      expect(await a.assignments(HOLDER)).toEqual([]);
      expect(await a.customRoles()).toEqual([]);
      expect((await a.allAssignments()).map((of) => of.subject)).not.toContain(HOLDER.subject);
    });
  });

  describe('credentials', () => {
    it('are added once, listed, and revoked once', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const mine = credential(id, { identities: ['urn:one', 'urn:two'] });
      const role = assignment({ ...HOLDER, subject: mine.subject });
      await a.addCredential(mine, [role], 'add');
      expect(await b.assignments(role)).toEqual([{ ...role, revision: 0 }]);
      const other = assignment({ ...HOLDER, subject: 'nobody' });
      await expect(b.addCredential(mine, [other], 'again')).rejects.toMatchObject({ code: 'conflict' });
      expect(await b.assignments(other)).toEqual([]);
      expect(await b.credentials()).toContainEqual({ ...mine, revision: 0 });
      await b.revokeCredential(mine.issuerKeyHash, mine.serial, 9, 'revoke');
      expect(await a.credential(mine.issuerKeyHash, mine.serial)).toEqual({ ...mine, revokedMs: 9, revision: 1 });
      await expect(a.revokeCredential(mine.issuerKeyHash, mine.serial, 10, 'again')).rejects.toMatchObject({ code: 'not-found' });
    });
  });

  describe('a quota of keys', () => {
    it('holds between processes, counts what is announced, and is raised', async () => {
      const { a, b } = stores();
      const { id } = await installed(a, b);
      const [{ revision } = { revision: 0 }] = await a.vaults();
      await a.updateVault(id, revision, { keyQuota: 5 }, 'limit');
      const made = await Promise.allSettled(Array.from({ length: 12 }, (_, n) => created(n % 2 === 0 ? a : b, id)));
      expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
      for (const of of made) if (of.status === 'rejected') expect(of.reason).toMatchObject({ code: 'rate-limited', retryAfter: 10 });
      await a.updateVault(id, revision + 1, { keyQuota: null }, 'no limit');
      await created(b, id);
    });
  });
}
