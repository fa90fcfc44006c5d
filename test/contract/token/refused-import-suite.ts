/** Imports that must fail: a clean error, the token as it was, and no session object left (security P-4, P-6, P-7). */

import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import type { WrappedKey } from '../../../src/pkcs11/token.ts';
import { wrapForImport } from '../../support/built.ts';
import { times } from '../../support/form.ts';
import { ec, newId, oct, present, rsa } from '../../support/token.ts';
import type { Contract } from '../token-contract.ts';
import { expectUniform, failureOf, flipped } from './expectations.ts';
import { ecPair, rsaPair } from './node-keys.ts';

type Clear = Parameters<typeof wrapForImport>[1];

export function refusedImportSuite({ at }: Contract): void {
  const wrap = (clear: Clear): WrappedKey => wrapForImport(present(at().importKey.publicKey), clear, at().profile);
  const importWrapped = (wrapped: WrappedKey, objectId = newId()): Promise<void> => at().token.importKey(
    { objectId: at().importKey.objectId, part: 'private' }, objectId, at().label(newId(), wrapped.half === null ? 'gcm' : 'private'), wrapped);
  const aes = (bytes: Buffer): Clear => ({ type: 'aes', purpose: 'gcm', bytes, publicKey: null });

  /** Refused with this code, nothing of it left. */
  async function refused(run: () => Promise<unknown>, codes: readonly string[] = ['invalid-field']): Promise<void> {
    const { raw } = at();
    const before = raw.count('token');
    const error = await failureOf(Promise.resolve().then(run));
    if (!codes.includes(error.code)) throw error;
    expect(raw.count('token')).toBe(before);
    expect(raw.count('session')).toBe(0);
  }

  describe('refused imports', () => {
    test('garbage and damaged blobs', async () => {
      const good = wrap(aes(randomBytes(32)));
      for (const index of [0, 9, 39]) await refused(() => importWrapped({ ...good, blob: flipped(good.blob, index) }));
      for (const length of [1, 8, 15, 16, 24, 40, 256]) await refused(() => importWrapped({ ...good, blob: randomBytes(length) }));
    });

    test('a key-encryption key that is none', async () => {
      const good = wrap(aes(randomBytes(32)));
      const other = wrap(aes(randomBytes(32)));
      for (const kek of [flipped(good.kek, 100), randomBytes(good.kek.length), Buffer.alloc(good.kek.length), other.kek, good.kek.slice(1)]) {
        await refused(() => importWrapped({ ...good, kek }));
      }
    });

    test('a value that is no AES key', async () => {
      for (const family of ['gcm', 'cbc', 'kw'] as const) {
        for (const length of [1, 8, 15, 17, 20, 31, 33, 64]) {
          // A module may take it and be unable to use it.
          await refused(() => at().import(oct(256), [family], randomBytes(length)), ['invalid-field', 'unsupported-by-token', 'token-unavailable']);
        }
      }
    });

    test('a private key of another type', async () => {
      const pair = ecPair('P-256');
      const { pkcs8, spki } = rsaPair();
      const [asRsa, asEc] = [{ type: 'rsa', purpose: 'rsa-sign' }, { type: 'ec', purpose: 'ec-sign' }] as const;
      await refused(() => importWrapped(wrap({ ...asRsa, bytes: pair.pkcs8, publicKey: spki })));
      await refused(() => importWrapped(wrap({ ...asEc, bytes: pkcs8, publicKey: pair.spki })));
      await refused(() => importWrapped(wrap({ ...asRsa, bytes: randomBytes(32), publicKey: spki })));
      await refused(() => importWrapped(wrap({ ...asEc, bytes: randomBytes(32), publicKey: pair.spki })));
    });

    test('a private key that does not belong to its stated public key', async () => {
      const wrong = ['integrity', 'invalid-field'];
      for (const curve of ['P-256', 'P-384', 'P-521'] as const) {
        const [one, other] = [ecPair(curve), ecPair(curve)];
        await refused(() => at().import(ec(curve), ['private', 'public'], Buffer.from(one.pkcs8), other.spki), wrong);
      }
      const [one, other] = [rsaPair(), rsaPair()];
      for (const usage of ['sign', 'decrypt'] as const) {
        await refused(() => at().import(rsa(2048, usage), ['private', 'public'], Buffer.from(one.pkcs8), other.spki), wrong);
      }
    });

    test('after many good and bad imports and unwraps no session object is left', async () => {
      const { token, engine, raw } = at();
      const before = raw.count('token');
      const { objectId } = await at().importOct(randomBytes(32), 'kw');
      const ref = { objectId, part: 'secret' } as const;
      const blob = await token.wrapBytes(ref, { name: 'aes-kw' }, randomBytes(32));
      for (let n = 0; n < times(15, 50); n += 1) {
        const made = newId();
        const wrapped = wrap(aes(randomBytes(32)));
        await importWrapped(wrapped, made);
        await engine.destroy([made]);
        expect((await failureOf(importWrapped({ ...wrapped, blob: flipped(wrapped.blob, n % 40) }))).code).toBe('invalid-field');
        await token.unwrapBytes(ref, { name: 'aes-kw' }, blob);
        await expectUniform(token.unwrapBytes(ref, { name: 'aes-kw' }, flipped(blob, n % 40)));
      }
      expect(raw.count('session')).toBe(0);
      await engine.destroy([objectId]);
      expect(raw.count('token')).toBe(before);
    });

    test('and good ones still work', async () => {
      const { objects } = await at().import(oct(256), ['gcm'], randomBytes(32));
      await at().engine.destroy(objects.map(({ objectId }) => objectId));
    });
  });
}
