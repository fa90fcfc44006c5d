/** The bytes of an anchor, against integrity §5 written out by hand. */

import { createHmac } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { type Anchor, decodeAnchor, encodeAnchor } from '../../src/crypto/anchor-encoding.ts';

const KEY = Buffer.alloc(32, 0x6b);
const mac = (bytes: Uint8Array): Uint8Array => createHmac('sha256', KEY).update(bytes).digest();
/** 36 bytes. */
const INSTALLATION = '4f1c1d0e-0000-4000-8000-000000000001';
/** 9 bytes. */
const STORE = 'größe:1';
const ANCHOR: Anchor = {
  storeId: STORE,
  epoch: 0x01020304,
  seq: 0x0102_0304_0506,
  journalMac: Buffer.alloc(32, 0xa1),
  auditHeads: Buffer.alloc(32, 0xb2),
  writtenMs: 0x018c_cafe_f00d,
};

/** 186 bytes, each member at its offset. */
function written(): Buffer {
  const bytes = Buffer.alloc(186);
  const put = (offset: number, hex: string): void => { expect(bytes.write(hex, offset, 'hex')).toBe(hex.length / 2); };
  put(0, '4b4d534101');
  put(5, '00000024');
  bytes.write(INSTALLATION, 9, 'latin1');
  put(45, '00000009');
  put(49, '6772c3b6c39f653a31');
  put(58, '01020304');
  put(62, '0000010203040506');
  put(70, '00000020');
  bytes.fill(0xa1, 74, 106);
  put(106, '00000020');
  bytes.fill(0xb2, 110, 142);
  put(142, '0000018ccafef00d');
  put(150, '00000020');
  createHmac('sha256', KEY).update(bytes.subarray(0, 150)).digest().copy(bytes, 154);
  return bytes;
}

/** With a right mac over whatever stands before it. */
function sealed(body: Buffer): Buffer {
  return Buffer.concat([body, Buffer.from('00000020', 'hex'), mac(body)]);
}

const decode = (bytes: Uint8Array): Anchor | undefined => decodeAnchor(bytes, INSTALLATION, mac);

describe('an anchor', () => {
  test('is these bytes', () => {
    expect(Buffer.from(encodeAnchor(ANCHOR, INSTALLATION, mac)).toString('hex')).toBe(written().toString('hex'));
  });

  test('is read from these bytes', () => {
    const { journalMac, auditHeads, ...rest } = decode(written())!;
    expect(rest).toEqual({ storeId: STORE, epoch: ANCHOR.epoch, seq: ANCHOR.seq, writtenMs: ANCHOR.writtenMs });
    expect(Buffer.from(journalMac)).toEqual(ANCHOR.journalMac);
    expect(Buffer.from(auditHeads)).toEqual(ANCHOR.auditHeads);
  });

  test.each([[0, 0], [0xffff_ffff, Number.MAX_SAFE_INTEGER]])('epoch %d and seq %d', (epoch, seq) => {
    const anchor = { ...ANCHOR, epoch, seq, writtenMs: seq };
    expect(decode(encodeAnchor(anchor, INSTALLATION, mac))).toMatchObject({ epoch, seq, writtenMs: seq });
  });

  test.each([
    ['epoch', { epoch: 0x1_0000_0000 }],
    ['negative epoch', { epoch: -1 }],
    ['seq', { seq: Number.MAX_SAFE_INTEGER + 1 }],
    ['seq with a fraction', { seq: 1.5 }],
    ['time', { writtenMs: -1 }],
    ['journal mac', { journalMac: Buffer.alloc(31) }],
    ['audit heads', { auditHeads: Buffer.alloc(33) }],
  ])('%s outside its range cannot be written', (_, change) => {
    expect(() => encodeAnchor({ ...ANCHOR, ...change }, INSTALLATION, mac)).toThrow(expect.objectContaining({ code: 'internal' }));
  });
});

describe('anything else is no anchor', () => {
  test('every bit counts', () => {
    for (let bit = 0; bit < 186 * 8; bit += 1) {
      const edited = written();
      edited[bit >> 3]! ^= 1 << (bit & 7);
      expect(decode(edited)).toBeUndefined();
    }
  });

  test('every shorter length, and a longer one', () => {
    for (let length = 0; length < 186; length += 1) expect(decode(written().subarray(0, length))).toBeUndefined();
    expect(decode(Buffer.concat([written(), Buffer.alloc(1)]))).toBeUndefined();
  });

  test('another key, another installation', () => {
    expect(decodeAnchor(written(), INSTALLATION, (bytes) => createHmac('sha256', 'other').update(bytes).digest())).toBeUndefined();
    expect(decodeAnchor(written(), INSTALLATION.replace('1', '2'), mac)).toBeUndefined();
  });

  /** What only somebody with the key could make: a later layout, or a defect. */
  const body = written().subarray(0, 150);
  const without = (from: number, to: number): Buffer => Buffer.concat([body.subarray(0, from), body.subarray(to)]);
  const patched = (offset: number, hex: string): Buffer => {
    const copy = Buffer.from(body);
    copy.write(hex, offset, 'hex');
    return copy;
  };
  test.each([
    ['as it is', body, true],
    ['another magic', patched(0, '4b'.repeat(4)), false],
    ['a later version', patched(4, '02'), false],
    ['bytes after the time', Buffer.concat([body, Buffer.alloc(1)]), false],
    ['no time', without(142, 150), false],
    ['half a time', without(146, 150), false],
    ['no journal mac', without(74, 106), false],
    ['a shorter journal mac', Buffer.concat([without(105, 106).subarray(0, 70), Buffer.from('0000001f', 'hex'), without(105, 106).subarray(74)]), false],
    ['a length beyond the end', patched(45, '7fffffff'), false],
    ['a seq beyond 2^53', patched(62, '0020000000000000'), false],
    ['a time beyond 2^53', patched(142, 'ffffffffffffffff'), false],
    ['a store that is no UTF-8', patched(49, 'ff'), false],
    ['nothing', Buffer.alloc(0), false],
  ])('under a right mac: %s', (_, bytes, accepted) => {
    expect(decode(sealed(bytes)) !== undefined).toBe(accepted);
  });
});
