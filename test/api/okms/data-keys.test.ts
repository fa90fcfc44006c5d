// Data keys (okms-rest-api §2.8): sizes in bits, randomness, the format that clients store.

import { createCipheriv, createDecipheriv } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { decodeProtectedHeader } from 'jose';
import type { Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal, inTurns, makeKey, OCT } from './support.ts';

let admin: Client;
let path: string;
let id: string;

serve(async (served) => {
  ({ admin } = served);
  id = await makeKey(admin, { ...OCT, operations: ['wrapKey', 'unwrapKey'] });
  path = `/servicekey/${id}/datakey`;
});

interface DataKey {
  readonly key: string;
  readonly plaintext: string;
}

async function make(body: object): Promise<DataKey> {
  const { status, json } = await admin.post(path, body);
  expect({ status, json }).toEqual({ status: 201, json: { key: expect.any(String), plaintext: expect.any(String) } });
  return json as DataKey;
}

test.each([64, 72, 128, 192, 256, 512, 4088, 4096])('%d bits come in clear and sealed, and open again', async (size) => {
  const { key, plaintext } = await make({ size });
  const bytes = Buffer.from(plaintext, 'base64');
  expect(bytes.toString('base64')).toBe(plaintext);
  expect(bytes).toHaveLength(size / 8);
  expect(Buffer.from(key.split('.')[3] ?? '', 'base64url')).toHaveLength(size / 8);
  const opened = await admin.post(`${path}/decrypt`, { key });
  expect({ status: opened.status, json: opened.json }).toEqual({ status: 200, json: { plaintext } });
});

test('of 256 bits is 203 characters long, as on the live service, and jose reads its header', async () => {
  const { key } = await make({ size: 256 });
  expect(key).toHaveLength(203);
  expect(key).toMatch(/^[\w-]+\.\.[\w-]{16}\.[\w-]{43}\.[\w-]{22}$/);
  expect(decodeProtectedHeader(key)).toEqual({ alg: 'dir', enc: 'A256GCM', kid: id, 'x-key-ver': 0 });
  const header = `{"alg":"dir","enc":"A256GCM","kid":"${id}","x-key-ver":0}`;
  expect(key.split('.')[0]).toBe(Buffer.from(header).toString('base64url'));
});

test('serves as a key of somebody else’s AES', async () => {
  const { key, plaintext } = await make({ size: 256 });
  const iv = Buffer.alloc(12, 7);
  const cipher = createCipheriv('aes-256-gcm', Buffer.from(plaintext, 'base64'), iv);
  const sealed = Buffer.concat([cipher.update('envelope'), cipher.final()]);
  const opened = await admin.post(`${path}/decrypt`, { key });
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(opened.json.plaintext as string, 'base64'), iv);
  decipher.setAuthTag(cipher.getAuthTag());
  expect(Buffer.concat([decipher.update(sealed), decipher.final()]).toString()).toBe('envelope');
});

test('never comes twice, and shares no IV', async () => {
  const made = await inTurns(Array.from({ length: 200 }), () => make({ size: 128 }));
  expect(new Set(made.map(({ plaintext }) => plaintext)).size).toBe(200);
  expect(new Set(made.map(({ key }) => key.split('.')[2])).size).toBe(200);
});

test('has every bit at random: over 64 KiB each bit of a byte is set about half of the time', async () => {
  const made = await inTurns(Array.from({ length: 128 }), () => make({ size: 4096 }));
  const bytes = Buffer.concat(made.map(({ plaintext }) => Buffer.from(plaintext, 'base64')));
  for (let bit = 0; bit < 8; bit += 1) {
    const set = bytes.reduce((count, byte) => count + ((byte >> bit) & 1), 0);
    // 65,536 tosses of a fair coin: more than 12 standard deviations away is a broken generator, not chance.
    expect(Math.abs(set - bytes.length / 2)).toBeLessThan(12 * Math.sqrt(bytes.length / 4));
  }
});

test('a name is accepted and has no effect', async () => {
  const { key, plaintext } = await make({ size: 128, name: '🔑'.repeat(32) });
  expect((await admin.post(`${path}/decrypt`, { key })).json).toEqual({ plaintext });
  await make({ size: 128, name: null });
});

describe('refused', () => {
  test.each([0, 8, 56, 63, 65, 100, 127, 4097, 4104, -64, 128.5, 1e10, '256', null, [256]])('size %j', async (size) => {
    expectRefusal(await admin.post(path, { size }), 'invalid-field', 'size');
  });

  test('no size, or a name too long or empty', async () => {
    expectRefusal(await admin.post(path, {}), 'invalid-field', 'size');
    expectRefusal(await admin.post(path, { size: 128, name: 'n'.repeat(33) }), 'invalid-field', 'name');
    expectRefusal(await admin.post(path, { size: 128, name: '' }), 'invalid-field', 'name');
  });

  test.each([undefined, null, '', 7, ['a..b.c.d'], 'x'.repeat(5001)])('a key to open that is %j', async (key) => {
    expectRefusal(await admin.post(`${path}/decrypt`, { key }), 'invalid-field', 'key');
  });
});
