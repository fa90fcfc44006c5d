/** OAEP unpadding (RFC 8017 §7.1.2) judged by node:crypto: the same messages, and the same blocks refused. */

import { constants, createHash, generateKeyPairSync, privateDecrypt, publicEncrypt, randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { unpadOaepSha256 } from '../../src/crypto/oaep.ts';

const HASH = 32;

function sha256(...parts: readonly Uint8Array[]): Buffer {
  return parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
}

function mask(target: Uint8Array, seed: Uint8Array): Buffer {
  const stream = Buffer.concat(Array.from({ length: Math.ceil(target.length / HASH) }, (_, n) => sha256(seed, Buffer.from([0, 0, 0, n]))));
  return Buffer.from(target.map((byte, index) => byte ^ stream[index]!));
}

interface Parts {
  readonly first?: number;
  readonly labelHash?: Buffer;
  readonly padding?: Buffer;
  readonly separator?: Buffer;
}

/** EME-OAEP encoding of 256 bytes with parts exchanged. */
function block(message: Buffer, { first = 0, labelHash = sha256(), separator = Buffer.from([1]), ...parts }: Parts = {}): Buffer {
  const padding = parts.padding ?? Buffer.alloc(256 - 2 * HASH - 1 - separator.length - message.length);
  const seed = randomBytes(HASH);
  const data = mask(Buffer.concat([labelHash, padding, separator, message]), seed);
  return Buffer.concat([Buffer.from([first]), mask(seed, data), data]);
}

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' };
const RAW = { padding: constants.RSA_NO_PADDING };

const raw = (ciphertext: Buffer): Buffer => privateDecrypt({ key: privateKey, ...RAW }, ciphertext);

function byNode(padded: Buffer): Buffer | undefined {
  const ciphertext = publicEncrypt({ key: publicKey, ...RAW }, padded);
  try {
    return privateDecrypt({ key: privateKey, ...OAEP }, ciphertext);
  } catch {
    return undefined;
  }
}

describe('sealed by node:crypto', () => {
  test.each([0, 1, 31, 32, 33, 100, 189, 190])('%d bytes', (length) => {
    for (let n = 0; n < 10; n += 1) {
      const message = randomBytes(length);
      expect(unpadOaepSha256(raw(publicEncrypt({ key: publicKey, ...OAEP }, message)))).toEqual(message);
    }
  });

  test('messages that look like padding', () => {
    for (const message of ['00', '01', '0001', '0101', '00'.repeat(50), '01'.repeat(190)].map((hex) => Buffer.from(hex, 'hex'))) {
      expect(unpadOaepSha256(raw(publicEncrypt({ key: publicKey, ...OAEP }, message)))).toEqual(message);
    }
  });

  test('under a key of another size', () => {
    const other = generateKeyPairSync('rsa', { modulusLength: 3072 });
    const message = randomBytes(100);
    const padded = privateDecrypt({ key: other.privateKey, ...RAW }, publicEncrypt({ key: other.publicKey, ...OAEP }, message));
    expect(unpadOaepSha256(padded)).toEqual(message);
  });

  test('with a label, another hash, or another padding', () => {
    const message = Buffer.from('message');
    const sealed = [
      publicEncrypt({ key: publicKey, ...OAEP, oaepLabel: Buffer.from('label') }, message),
      publicEncrypt({ key: publicKey, ...OAEP, oaepHash: 'sha1' }, message),
      publicEncrypt({ key: publicKey, ...OAEP, oaepHash: 'sha384' }, message),
      publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, message),
    ];
    for (const one of sealed) expect(unpadOaepSha256(raw(one))).toBeUndefined();
  });
});

describe('malformed', () => {
  const message = Buffer.from('message');
  const zeros = (length: number): Buffer => Buffer.alloc(length);

  test('the encoder of this test is right', () => {
    const padded = block(message);
    expect(padded.length).toBe(256);
    expect(byNode(padded)).toEqual(message);
    expect(unpadOaepSha256(padded)).toEqual(message);
  });

  test.each<readonly [string, Parts]>([
    ['first byte 1', { first: 1 }],
    ['hash of another label', { labelHash: sha256(Buffer.from('label')) }],
    ['first bit of the label hash', { labelHash: Buffer.concat([Buffer.from([sha256()[0]! ^ 0x80]), sha256().subarray(1)]) }],
    ['last bit of the label hash', { labelHash: Buffer.concat([sha256().subarray(0, 31), Buffer.from([sha256()[31]! ^ 1])]) }],
    ['no separator', { separator: zeros(1), padding: zeros(183) }],
    ['separator 2', { separator: Buffer.from([2]) }],
    ['separator 0x81', { separator: Buffer.from([0x81]) }],
    ['a byte before the separator, at the start', { padding: Buffer.concat([Buffer.from([2]), zeros(182)]) }],
    ['a byte before the separator, at the end', { padding: Buffer.concat([zeros(182), Buffer.from([0x80])]) }],
  ])('%s', (_name, parts) => {
    // Without a separator the message must hold none either.
    const padded = block(Buffer.from('message'), parts);
    expect(padded.length).toBe(256);
    expect(byNode(padded)).toBeUndefined();
    expect(unpadOaepSha256(padded)).toBeUndefined();
  });

  test('nothing but zeros after the label hash', () => {
    const padded = block(zeros(0), { separator: zeros(0), padding: zeros(191) });
    expect([byNode(padded), unpadOaepSha256(padded)]).toEqual([undefined, undefined]);
  });

  test.each([2, 3, 0x40, 0x80, 0xff])('first byte %d', (first) => {
    // Larger than the modulus, perhaps: only the token's arithmetic could make it, so node:crypto is not asked.
    expect(unpadOaepSha256(block(message, { first }))).toBeUndefined();
  });

  test('every single bit, but for those of the message', () => {
    const padded = block(message);
    for (let bit = 0; bit < 8 * (256 - message.length); bit += 1) {
      const damaged = Buffer.from(padded);
      damaged[bit >> 3]! ^= 0x80 >> (bit & 7);
      expect(unpadOaepSha256(damaged)).toBeUndefined();
    }
  });

  test('any length, and anything in it, without an exception', () => {
    for (const length of [0, 1, 33, 64, 65, 66, 67, 128, 255, 257, 384, 512]) {
      expect(unpadOaepSha256(zeros(length))).toBeUndefined();
      for (let n = 0; n < 50; n += 1) expect(unpadOaepSha256(randomBytes(length))).toBeUndefined();
    }
    for (let cut = 0; cut < 256; cut += 1) expect(unpadOaepSha256(block(message).subarray(0, cut))).toBeUndefined();
  });

  test('the block that was given is left as it was', () => {
    const padded = block(message);
    const before = Buffer.from(padded);
    unpadOaepSha256(padded);
    expect(padded).toEqual(before);
  });
});
