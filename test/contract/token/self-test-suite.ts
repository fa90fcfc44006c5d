/** The self-test: what the profile claims is what the token does, and a claim too many is found (security H-9). */

import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Profile } from '../../../src/pkcs11/token.ts';
import { oct, objectOf, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { failureOf } from './expectations.ts';

/** A mechanism of nobody. */
const UNKNOWN = 0x8fff_fff1;
const NONE = Buffer.alloc(0);

/** What the profile claims, in the units of the self-test. */
function claims({ gcm, keyWrap, oaep, curves }: Profile): readonly string[] {
  return [
    ...['AES-CBC', 'HMAC', 'RSA-PKCS1', 'RSA-PSS', 'RSA1_5'],
    ...(gcm.iv === 'host' ? ['AES-GCM'] : []),
    ...(keyWrap.kw === null ? [] : ['AES-KW']),
    ...(keyWrap.kwp === null ? [] : ['AES-KWP']),
    ...(oaep.hashes.includes('sha1') ? ['RSA-OAEP'] : []),
    ...(oaep.sha256 === 'none' ? [] : ['RSA-OAEP-256']),
    ...curves.map((curve) => `ECDSA-${curve}`),
  ].sort();
}

export function selfTestSuite({ at, optional }: Contract): void {
  describe('self-test', () => {
    afterEach(async () => {
      await at().reopen();
    });

    const supported = (): readonly string[] => [...at().engine.capabilities.supported].sort();

    test('passes with exactly what the profile claims', async () => {
      expect(await at().engine.selfTest()).toBe('ok');
      expect(supported()).toEqual(claims(at().profile));
      expect(at().engine.capabilities.refused).toEqual([]);
      expect(at().raw.count('session')).toBe(0);
    });

    test('a key wrap that the token does not have is refused, and nothing else', async () => {
      const { profile } = at();
      const claiming: Profile = { ...profile, keyWrap: { ...profile.keyWrap, kw: UNKNOWN } };
      expect(await at().reopen({ profile: claiming })).toBe('ok');
      expect(at().engine.capabilities.refused).toEqual(['AES-KW']);
      expect(supported()).toEqual(claims(profile).filter((name) => name !== 'AES-KW'));
      expect(() => at().engine.servable(oct(256), ['gcm', 'kw'])).not.toThrow();
      expect(at().engine.servable(oct(256), ['gcm', 'kw'])).toEqual(['gcm']);
    });

    optional('RSA-OAEP-256-in-token', 'RSA-OAEP-256 by raw RSA is right too', async () => {
      const { profile } = at();
      expect(await at().reopen({ profile: { ...profile, oaep: { ...profile.oaep, sha256: 'raw' } } })).toBe('ok');
      expect(supported()).toEqual(claims(profile));
    }, async () => {
      const { profile } = at();
      const claiming: Profile = { ...profile, oaep: { ...profile.oaep, hashes: ['sha1', 'sha256'], sha256: 'native' } };
      expect(await at().reopen({ profile: claiming })).toBe('ok');
      expect(at().engine.capabilities.refused).toEqual(['RSA-OAEP-256']);
      expect(supported()).toEqual(claims(profile).filter((name) => name !== 'RSA-OAEP-256'));
      const shape = rsa(2048, 'decrypt');
      const key = objectOf(await at().generate(shape, ['private', 'public']), 'private');
      const code = async (algorithm: 'RSA-OAEP' | 'RSA-OAEP-256'): Promise<string> =>
        (await failureOf(at().engine.decryptRsa(key, shape, algorithm, Buffer.alloc(256)))).code;
      expect([await code('RSA-OAEP-256'), await code('RSA-OAEP')]).toEqual(['unsupported-by-token', 'decryption-failed']);
      await at().engine.destroy([key.objectId]);
    });

    optional('ECDSA-P-256K', 'all curves of the profile are tested', () => {
      expect(at().profile.curves).toEqual(['P-256', 'P-384', 'P-521', 'P-256K']);
    }, async () => {
      const { profile } = at();
      expect(await at().reopen({ profile: { ...profile, curves: [...profile.curves, 'P-256K'] } })).toBe('ok');
      expect(at().engine.capabilities.refused).toEqual(['ECDSA-P-256K']);
      expect(supported()).toEqual(claims(profile));
    });

    test('a wrong mechanism for key wrap with padding, with which nothing can be imported, is not ok', async () => {
      const { profile } = at();
      const kwp = profile.keyWrap.kwp === 0x210b ? 0x210a : 0x210b;
      expect(await at().reopen({ profile: { ...profile, keyWrap: { ...profile.keyWrap, kwp } } })).toBe('failed');
      expect(at().engine.fitness).toMatch(/^self-test failed: /);
      expect((await failureOf(at().engine.random(32))).code).toBe('token-unavailable');
    });

    test('an IV said to be made by the token, and taken from us, is not ok', async () => {
      const { profile } = at();
      expect(await at().reopen({ profile: { ...profile, gcm: { ...profile.gcm, iv: 'token-written-back' } } })).toBe('failed');
      expect(at().engine.fitness).toBe('self-test failed: AES-GCM-IV, AES-GCM');
      expect((await failureOf(at().engine.random(32))).code).toBe('token-unavailable');
    });

    test('without an IV at all, AES-GCM is not served', async () => {
      const { profile } = at();
      const gcm = objectOf(await at().import(oct(256), ['gcm'], randomBytes(32)), 'gcm');
      await at().reopen({ profile: { ...profile, gcm: { ...profile.gcm, iv: 'none' } } });
      expect(supported()).toEqual(claims(profile).filter((name) => name !== 'AES-GCM'));
      expect((await failureOf(at().engine.encryptGcm(gcm, NONE, NONE))).code).toBe('unsupported-by-token');
      await at().engine.destroy([gcm.objectId]);
    });
  });
}
