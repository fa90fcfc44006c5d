/** A caller's bytes under AES key wrap (RFC 3394) and key wrap with padding (RFC 5649), against node:crypto. */

import { createCipheriv, randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { KeyRef } from '../../../src/pkcs11/token.ts';
import type { Contract } from '../token-contract.ts';
import { expectUniform, failureOf, flipped, lengths } from './expectations.ts';

const KW = { name: 'aes-kw' } as const;
const KWP = { name: 'aes-kwp' } as const;
/** RFC 3394 §2.2.3.1, RFC 5649 §3. */
const KW_IV = Buffer.from('a6a6a6a6a6a6a6a6', 'hex');
const KWP_IV = Buffer.from('a65959a6', 'hex');

function wrapped(key: Buffer, data: Buffer, iv: Buffer): Buffer {
  const pad = iv.length === 4 ? '-pad' : '';
  const cipher = createCipheriv(`id-aes${key.length * 8}-wrap${pad}`, key, iv);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** RFC 5649 with a length and a padding that do not fit each other: an RFC 3394 wrap with its own initial value. */
function forged(key: Buffer, declared: number, padded: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(declared);
  return wrapped(key, padded, Buffer.concat([KWP_IV, length]));
}

export function keyWrapSuite({ at, optional }: Contract): void {
  describe.each([16, 24, 32])('key wrap, key of %d bytes', (keyBytes) => {
    const value = randomBytes(keyBytes);
    let ref: KeyRef;
    beforeAll(async () => {
      ref = { objectId: (await at().importOct(value, 'kw')).objectId, part: 'secret' };
    });
    const refusal = async (mechanism: typeof KW | typeof KWP, length: number): Promise<string> =>
      (await failureOf(at().token.wrapBytes(ref, mechanism, randomBytes(length)))).code;

    test('KW of 16 to 64 bytes, and of the longest', async () => {
      for (const length of [...lengths(16, 64, 8), at().profile.keyWrap.maxBytes]) {
        const data = randomBytes(length);
        const blob = wrapped(value, data, KW_IV);
        expect(Buffer.from(await at().token.wrapBytes(ref, KW, data))).toEqual(blob);
        expect(Buffer.from(await at().token.unwrapBytes(ref, KW, blob))).toEqual(data);
      }
    });

    test('KW refuses other lengths', async () => {
      for (const length of [0, 1, 8, 15, 17, 20, at().profile.keyWrap.maxBytes + 8]) expect(await refusal(KW, length)).toBe('invalid-field');
    });

    test('KWP of 16 to 40 bytes by eights, and of the longest', async () => {
      for (const length of [...lengths(16, 40, 8), at().profile.keyWrap.maxBytes]) {
        const data = randomBytes(length);
        expect(Buffer.from(await at().token.wrapBytes(ref, KWP, data))).toEqual(wrapped(value, data, KWP_IV));
      }
      expect(await refusal(KWP, 0)).toBe('invalid-field');
      expect(await refusal(KWP, at().profile.keyWrap.maxBytes + 8)).toBe('invalid-field');
    });

    const others = lengths(1, 40, 1).filter((length) => length % 8 !== 0 || length < 16);
    optional('KWP-any-length', 'KWP of every length from 1 to 40', async () => {
      for (const length of others) {
        const data = randomBytes(length);
        expect(Buffer.from(await at().token.wrapBytes(ref, KWP, data))).toEqual(wrapped(value, data, KWP_IV));
      }
    }, async () => {
      // Never padded silently: nobody could tell the padding from the value.
      for (const length of others) expect(await refusal(KWP, length)).toBe('unsupported-by-token');
    });

    test('KWP made by others opens, from 1 to 40 bytes', async () => {
      for (const length of lengths(1, 40, 1)) {
        const data = randomBytes(length);
        expect(Buffer.from(await at().token.unwrapBytes(ref, KWP, wrapped(value, data, KWP_IV)))).toEqual(data);
      }
    });

    test('bad blobs fail alike', async () => {
      const { token } = at();
      const data = randomBytes(32);
      const other = randomBytes(keyBytes);
      for (const [mechanism, iv, foreign] of [[KW, KW_IV, KWP_IV], [KWP, KWP_IV, KW_IV]] as const) {
        const blob = wrapped(value, data, iv);
        const bad = [
          ...[0, 7, 8, 20, 39].map((index) => flipped(blob, index)),
          ...[wrapped(other, data, iv), wrapped(value, data, foreign)],
          ...[blob.subarray(8), blob.subarray(0, 32), Buffer.concat([blob, Buffer.alloc(8)])],
          ...[0, 1, 8, 15, 16, 17, 24, 39].map((length) => randomBytes(length)),
        ];
        for (const one of bad) await expectUniform(token.unwrapBytes(ref, mechanism, one));
        expect(Buffer.from(await token.unwrapBytes(ref, mechanism, blob))).toEqual(data);
      }
      expect(at().raw.count('session')).toBe(0);
    });

    test('KWP with a wrong length or padding inside fails alike', async () => {
      const { token } = at();
      // The forging itself is right: this one is as RFC 5649 says.
      const padded = Buffer.concat([randomBytes(29), Buffer.alloc(3)]);
      expect(forged(value, 29, padded)).toEqual(wrapped(value, padded.subarray(0, 29), KWP_IV));
      for (const declared of [0, 8, 24, 33, 0xffff_ffff]) await expectUniform(token.unwrapBytes(ref, KWP, forged(value, declared, padded)));
      for (const index of [29, 30, 31]) await expectUniform(token.unwrapBytes(ref, KWP, forged(value, 29, flipped(padded, index))));
    });
  });
}
