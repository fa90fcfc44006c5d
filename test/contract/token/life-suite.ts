/** From provisioning to a token that is ready. */

import { describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { Contract } from '../token-contract.ts';
import { oct } from '../../support/token.ts';

export function lifeSuite({ at }: Contract): void {
  describe('life', () => {
    test('is ready, logged in, with a serial number', () => {
      const { token, raw } = at();
      expect(token.state).toMatchObject({ phase: 'ready' });
      // CKS_RW_USER_FUNCTIONS: a login is of the whole process.
      expect(raw.module.C_GetSessionInfo(raw.session).state).toBe(3);
      const [slot] = raw.module.C_GetSlotList(true).filter((one) => raw.module.C_GetTokenInfo(one).label.trim() === at().tokenLabel);
      expect(raw.module.C_GetTokenInfo(slot!).serialNumber.trim()).toBe((token.state as { serial: string }).serial);
      expect(raw.module.C_GetTokenInfo(slot!).flags & ck.CKF_USER_PIN_INITIALIZED).not.toBe(0);
    });

    test('lists the internal keys and nothing else', () => {
      const { token, canary, importKey, raw } = at();
      expect([...token.objectIds()].sort()).toEqual([canary.objectId, importKey.objectId].sort());
      expect(raw.count('token')).toBe(3);
      expect(raw.count('session')).toBe(0);
    });

    test('the canary answers as it was recorded', async () => {
      const { token, canary } = at();
      const mac = token.sign({ objectId: canary.objectId, part: 'secret' }, { name: 'hmac', hash: 'sha256' }, Buffer.from('kms-canary'), 32, 'fast');
      expect(Buffer.from(await mac)).toEqual(Buffer.from(canary.proof));
      // Two beats of the canary change nothing.
      await new Promise((done) => setTimeout(done, 2200));
      expect(token.state).toMatchObject({ phase: 'ready' });
    });

    test('provisioning a second time is harmless', async () => {
      const before = at().token.state;
      const { objects } = await at().generate(oct(256), ['gcm']);
      const sealed = await at().engine.encryptGcm(objects[0]!, Buffer.alloc(0), Buffer.from('kept'));
      expect(await at().reopen({ provision: true })).toBe('ok');
      expect(at().token.state).toEqual(before);
      expect(at().token.objectIds()).toContain(objects[0]!.objectId);
      expect(Buffer.from(await at().engine.decryptGcm(objects[0]!, Buffer.alloc(0), sealed)).toString()).toBe('kept');
      await at().engine.destroy([objects[0]!.objectId]);
    });
  });
}
