// Encryption (okms-rest-api §2.7, §5.2): the token byte for byte, contexts, sizes, fresh IVs, usages.

import { describe, expect, test } from '@jest/globals';
import { decodeProtectedHeader } from 'jose';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, EC, expectRefusal, inTurns, makeKey, OCT, RSA } from './support.ts';

let kms: Installation;
let admin: Client;
let id: string;

serve(async (served) => {
  ({ kms, admin } = served);
  id = await makeKey(admin, OCT);
});

async function encrypt(plaintext: Uint8Array | string, context?: string): Promise<string> {
  const { status, json } = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: base64(plaintext), context });
  expect({ status, json }).toEqual({ status: 200, json: { ciphertext: expect.any(String) } });
  return json.ciphertext as string;
}

function decrypt(ciphertext: string, context?: string | null): ReturnType<Client['call']> {
  return admin.post(`/servicekey/${id}/decrypt`, { ciphertext, context });
}

function bytesOf(part: string | undefined): Buffer {
  const bytes = Buffer.from(part ?? '', 'base64url');
  expect(bytes.toString('base64url')).toBe(part);
  return bytes;
}

describe('the ciphertext', () => {
  test.each([
    [128, 'A128GCM'],
    [192, 'A192GCM'],
    [256, 'A256GCM'],
  ])('of a %d-bit key has five parts, and a header with these members in this order', async (size, enc) => {
    const key = await makeKey(admin, { type: 'oct', size });
    const { json } = await admin.post(`/servicekey/${key}/encrypt`, { plaintext: base64('seventeen bytes !') });
    const [header, encryptedKey, iv, ciphertext, tag, ...more] = (json.ciphertext as string).split('.');
    expect(bytesOf(header).toString('utf8')).toBe(`{"alg":"dir","enc":"${enc}","kid":"${key}","x-key-ver":0}`);
    expect([encryptedKey, more]).toEqual(['', []]);
    expect([bytesOf(iv).length, bytesOf(ciphertext).length, bytesOf(tag).length]).toEqual([12, 17, 16]);
  });

  test('has a header that jose reads', async () => {
    expect(decodeProtectedHeader(await encrypt('x'))).toEqual({ alg: 'dir', enc: 'A256GCM', kid: id, 'x-key-ver': 0 });
  });

  test('never repeats an IV or a ciphertext', async () => {
    const tokens = await inTurns(Array.from({ length: 500 }), () => encrypt('the same plaintext'));
    expect(new Set(tokens.map((token) => token.split('.')[2])).size).toBe(500);
    expect(new Set(tokens.map((token) => token.split('.')[3])).size).toBe(500);
  });
});

describe('plaintexts', () => {
  test.each([1, 15, 16, 17, 31, 4095, 4096])('of %d bytes come back', async (size) => {
    const plaintext = Buffer.alloc(size, 'ÿ\u0000', 'latin1');
    const opened = await decrypt(await encrypt(plaintext));
    expect({ status: opened.status, json: opened.json }).toEqual({ status: 200, json: { plaintext: base64(plaintext) } });
  });

  test('of 4096 bytes make 5622 characters', async () => {
    expect(await encrypt(Buffer.alloc(4096))).toHaveLength(5622);
  });

  test.each([4097, 4098, 4099])('of %d bytes are refused', async (size) => {
    const plaintext = base64(Buffer.alloc(size));
    expectRefusal(await admin.post(`/servicekey/${id}/encrypt`, { plaintext }), 'invalid-field', 'plaintext');
  });

  test('of every byte value come back', async () => {
    const plaintext = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    expect((await decrypt(await encrypt(plaintext))).json).toEqual({ plaintext: base64(plaintext) });
  });

  test('decrypt on the other server process and over another connection', async () => {
    const ciphertext = await encrypt('anywhere');
    const clients = Array.from({ length: 8 }, () => kms.client());
    for (const client of clients) {
      const { json } = await client.post(`/servicekey/${id}/decrypt`, { ciphertext });
      expect(json).toEqual({ plaintext: base64('anywhere') });
      await client.close();
    }
  });
});

describe('contexts', () => {
  const LONGEST = '🔑'.repeat(64);

  test.each(['order 1', 'é', LONGEST, '.', '~datakey', '\u0000', ' '])('%j is needed to decrypt', async (context) => {
    const ciphertext = await encrypt('bound', context);
    expect((await decrypt(ciphertext, context)).json).toEqual({ plaintext: base64('bound') });
    const shorter = Array.from(context).slice(1).join('');
    for (const wrong of [undefined, '', shorter, `${shorter}x`]) {
      expectRefusal(await decrypt(ciphertext, wrong), 'decryption-failed');
    }
  });

  test('are compared with regard to case, Unicode form and white space', async () => {
    const pairs = [['Case', 'case'], ['\u00e9', 'e\u0301'], ['a', 'a '], ['a', ' a'], ['1', '١']] as const;
    for (const [given, other] of pairs) expectRefusal(await decrypt(await encrypt('x', given), other), 'decryption-failed');
  });

  test('absent, null and empty are the same thing', async () => {
    const spellings = [undefined, null, ''];
    for (const given of spellings) {
      const sealed = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA', context: given });
      for (const asked of spellings) {
        expect((await decrypt(sealed.json.ciphertext as string, asked)).json).toEqual({ plaintext: 'AAAA' });
      }
      expectRefusal(await decrypt(sealed.json.ciphertext as string, 'something'), 'decryption-failed');
    }
  });

  test('are not in the ciphertext', async () => {
    const ciphertext = await encrypt('x', 'kept-out-of-it');
    const parts = ciphertext.split('.').map((part) => Buffer.from(part, 'base64url').toString('latin1'));
    expect(parts.filter((part) => part.includes('kept-out-of-it'))).toEqual([]);
    expect(ciphertext).toHaveLength((await encrypt('x')).length);
  });

  test('of 65 characters are refused on both sides', async () => {
    for (const context of ['c'.repeat(65), `${LONGEST}c`]) {
      const sealed = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA', context });
      expectRefusal(sealed, 'invalid-field', 'context');
      expectRefusal(await decrypt('a..b.c.d', context), 'invalid-field', 'context');
    }
  });

  test('of the key are another thing: a key made with one encrypts without', async () => {
    const key = await makeKey(admin, { ...OCT, context: 'of the key' });
    const sealed = await admin.post(`/servicekey/${key}/encrypt`, { plaintext: 'AAAA' });
    expect((await admin.post(`/servicekey/${key}/decrypt`, sealed.json)).json).toEqual({ plaintext: 'AAAA' });
  });
});

describe('usages', () => {
  const calls = [
    { usage: 'encrypt', operation: 'encrypt', body: { plaintext: 'AAAA' } },
    { usage: 'decrypt', operation: 'decrypt', body: { ciphertext: 'a..b.c.d' } },
    { usage: 'wrapKey', operation: 'datakey', body: { size: 256 } },
    { usage: 'unwrapKey', operation: 'datakey/decrypt', body: { key: 'a..b.c.d' } },
  ];

  test.each(calls)('$operation needs $usage, whatever else the key may do', async ({ usage, operation, body }) => {
    const operations = OCT.operations.filter((one) => one !== usage);
    const key = await makeKey(admin, { ...OCT, operations });
    expectRefusal(await admin.post(`/servicekey/${key}/${operation}`, body), 'wrong-usage', usage);
  });

  test.each(calls)('$usage alone does $operation and nothing else', async ({ usage, operation }) => {
    const key = await makeKey(admin, { ...OCT, operations: [usage] });
    for (const call of calls) {
      const answer = await admin.post(`/servicekey/${key}/${call.operation}`, call.body);
      if (call.operation !== operation) expectRefusal(answer, 'wrong-usage', call.usage);
      else if (usage === 'encrypt' || usage === 'wrapKey') expect(answer.status).toBe(usage === 'encrypt' ? 200 : 201);
      else expectRefusal(answer, 'decryption-failed');
    }
  });

  test.each([RSA, EC])('a key of type $type does none of them', async (spec) => {
    const key = await makeKey(admin, spec);
    for (const { operation, body, usage } of calls) {
      expectRefusal(await admin.post(`/servicekey/${key}/${operation}`, body), 'wrong-usage', usage);
    }
  });
});
