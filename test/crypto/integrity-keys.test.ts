/** The derived MACs against integrity §2 written out with node:crypto, with an integrity key of known value. */

import { createHmac, randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Macs } from '../../src/crypto/integrity-keys.ts';
import type { InternalKey } from '../../src/keys/key.ts';
import { deriveMacs } from '../support/built.ts';
import { INSTALLATION, TestToken } from '../support/token.ts';

const value = randomBytes(32);
let at: TestToken;
let integrity: InternalKey;

beforeAll(async () => {
  at = await TestToken.make({ profile: 'softhsm-2.6.1', tokenLabel: 'kms-macs' });
  const { objectId, proof } = await at.importOct(value, 'mac');
  integrity = { name: 'integrity', objectId, proof, publicKey: null };
});

afterAll(() => at.remove());

function field(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
}

function expected(purpose: keyof Macs, epoch: number, bytes: Uint8Array): string {
  const epochBytes = Buffer.alloc(4);
  epochBytes.writeUInt32BE(epoch);
  const input = Buffer.concat([Buffer.from('kms-kdf'), Buffer.from([1]), field(purpose), field(INSTALLATION), epochBytes]);
  const key = createHmac('sha256', value).update(input).digest();
  return createHmac('sha256', key).update(bytes).digest('hex');
}

describe('derived MACs', () => {
  const PURPOSES = ['seal', 'journal', 'tail', 'anchor'] as const;

  test.each([1, 2, 0xffff_ffff])('are what the document says, key epoch %d', async (epoch) => {
    const macs = await deriveMacs(at.token, integrity, INSTALLATION, epoch);
    for (const bytes of [Buffer.alloc(0), randomBytes(1), randomBytes(5000)]) {
      for (const purpose of PURPOSES) expect(Buffer.from(macs[purpose](bytes)).toString('hex')).toBe(expected(purpose, epoch, bytes));
    }
  });

  test('no two of them agree, nor do those of another installation', async () => {
    const all = await Promise.all([[INSTALLATION, 1], [INSTALLATION, 2], ['another', 1]].map(([installation, epoch]) =>
      deriveMacs(at.token, integrity, installation as string, epoch as number)));
    const seen = all.flatMap((macs) => PURPOSES.map((purpose) => Buffer.from(macs[purpose](value)).toString('hex')));
    expect(new Set(seen).size).toBe(12);
  });

  test('the keys do not show', async () => {
    const macs = await deriveMacs(at.token, integrity, INSTALLATION, 1);
    expect(inspect(macs, { depth: 9, showHidden: true })).not.toMatch(/Buffer|Uint8Array|[0-9a-f]{16}/);
  });

  test('a key that is not the one of the proof is refused', async () => {
    const other = await at.importOct(randomBytes(32), 'mac');
    await at.reopen();
    const swapped = { ...integrity, objectId: other.objectId };
    await expect(deriveMacs(at.token, swapped, INSTALLATION, 1)).rejects.toMatchObject({ code: 'integrity' });
  });
});
