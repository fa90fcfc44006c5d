/** Part of the store contract: installation, vaults, credentials, assignments. */

import { describe, expect, it } from '@jest/globals';
import type { Stores } from '../contract/store-contract.ts';
import { assignment, credential, installation, installed, vault } from './fixtures.ts';

export function accessSuite(stores: Stores): void {
  describe('installation', () => {
    it('is undefined before init, and everything is empty', async () => {
      const { a } = stores();
      expect(await a.installation()).toBeUndefined();
      expect(await a.vaults()).toEqual([]);
      expect(await a.credential('hash', 'serial')).toBeUndefined();
      expect(await a.assignments('token', 'issuer', 'subject')).toEqual([]);
    });

    it('comes back as it was written, with vaults in order of creation', async () => {
      const { a } = stores();
      const only = installation();
      const vaults = [vault({ name: 'zz' }), vault({ name: 'aa', cbc: true, purgeProtection: false, flavour: 'premium' })];
      const credentials = [credential(vaults[0]!.id), credential(vaults[1]!.id, { revokedMs: 5 })];
      await a.createInstallation({ installation: only, vaults, credentials, assignments: [] });
      expect(await a.installation()).toEqual({ ...only, revision: 0 });
      expect(await a.vaults()).toEqual(vaults.map((of) => ({ ...of, revision: 0 })));
      for (const of of credentials) {
        expect(await a.credential(of.issuerKeyHash, of.serial)).toEqual({ ...of, revision: 0 });
      }
      expect(await a.credential(credentials[0]!.issuerKeyHash, credentials[1]!.serial)).toBeUndefined();
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
      expect(await a.vaults()).toHaveLength(1);
    });

    it('is all or nothing', async () => {
      const { a } = stores();
      const twice = vault();
      const rows = { installation: installation(), vaults: [twice, twice], credentials: [], assignments: [] };
      await expect(a.createInstallation(rows)).rejects.toMatchObject({ code: 'conflict' });
      expect(await a.installation()).toBeUndefined();
      expect(await a.vaults()).toEqual([]);
    });
  });

  describe('assignments', () => {
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
      await a.createInstallation({ installation: installation(), vaults: [only], credentials: [], assignments });
      const found = await a.assignments('certificate', 'issuer', 'subject');
      expect(found).toEqual(mine.map((of) => ({ ...of, revision: 0 })));
    });
  });
}
