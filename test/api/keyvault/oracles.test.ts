/** Nobody learns from failed decryptions what is inside, and nobody may fail for ever (security P-9, P-11). */

import { createCipheriv, createPublicKey, constants, generateKeyPairSync, privateEncrypt, publicEncrypt, randomBytes } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import { onTick } from '../../../src/keys/failure-budget.ts';
import { auditRecords } from '../../support/audit-records.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { eventually } from '../../support/wait.ts';
import { serve } from '../../support/served.ts';
import { inTurns } from '../okms/support.ts';
import { b64, expectOk, expectRefusal, KeyVault } from './support.ts';

let kms: Installation;
let nobody: Client;
let dev: KeyVault;

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
}, { KMS_SERVER_PROCESSES: '2' });

afterAll(() => nobody.close());

/** Status, headers and body without what names the request or the moment. */
function shown({ status, headers, json }: Answer): unknown {
  const kept = Object.entries(headers).filter(([name]) => !['date', 'x-request-id', 'x-ms-request-id', 'content-length'].includes(name));
  return { status, headers: Object.fromEntries(kept), body: JSON.stringify(json).replace(/Activity ID: [\w-]+/, '') };
}

async function expectAlike(asks: readonly (() => Promise<Answer>)[]): Promise<void> {
  const answers = [];
  for (const ask of asks) answers.push(shown(await ask()));
  expect(answers[0]).toMatchObject({ status: 400, body: expect.stringContaining('the data cannot be decrypted with this key') });
  for (const answer of answers) expect(answer).toEqual(answers[0]);
}

describe('all failures look alike', () => {
  test.each(['RSA1_5', 'RSA-OAEP', 'RSA-OAEP-256'])('%s', async (alg) => {
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const name = `alike-${alg.replace('_', '-')}`;
    expectOk(await dev.put(`/keys/${name}`, { key: pair.privateKey.export({ format: 'jwk' }) }));
    const raw = (block: Buffer): string => b64(publicEncrypt({ key: pair.publicKey, padding: constants.RSA_NO_PADDING }, block));
    const padded = Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(253, 0xff), Buffer.from([0])]);
    const sealed = publicEncrypt({ key: pair.publicKey, oaepHash: alg === 'RSA-OAEP-256' ? 'sha1' : 'sha256' }, Buffer.from('other hash'));
    const values = [
      raw(Buffer.concat([Buffer.from([0, 3]), Buffer.alloc(254, 0xff)])), // wrong header
      raw(Buffer.concat([Buffer.from([0, 2]), Buffer.alloc(254, 0xff)])), // no separator
      raw(Buffer.concat([Buffer.from([1, 2]), Buffer.alloc(254, 0x11)])), // first byte
      raw(Buffer.alloc(256)), // zero
      alg === 'RSA1_5' ? b64(Buffer.alloc(256, 1)) : raw(padded),
      b64(sealed), b64(privateEncrypt(pair.privateKey, Buffer.from('type 1'))),
      b64(Buffer.alloc(256, 0xff)), // not below the modulus
      b64(randomBytes(255)), b64(randomBytes(257)), '', 'AAAA',
    ];
    await expectAlike(values.flatMap((value) => ['decrypt', 'unwrapkey'].map((word) => () => dev.post(`/keys/${name}/${word}`, { alg, value }))));
  });

  test('AES-CBC, whatever is wrong with the padding', async () => {
    const k = randomBytes(32);
    expectOk(await dev.put('/keys/alike-cbc', { key: { kty: 'oct', k: b64(k) } }));
    const iv = randomBytes(16);
    const seal = (block: Buffer): string => {
      const cipher = createCipheriv('aes-256-cbc', k, iv).setAutoPadding(false);
      return b64(Buffer.concat([cipher.update(block), cipher.final()]));
    };
    const endings = [[0], [17], [255], [1, 2], [2, 3, 3], [4, 4, 4, 3], [16]].map((end) => Buffer.concat([Buffer.alloc(32 - end.length, 9), Buffer.from(end)]));
    const values = [...endings.map(seal), b64(randomBytes(17)), b64(randomBytes(1)), ''];
    await expectAlike(values.map((value) => () => dev.post('/keys/alike-cbc/decrypt', { alg: 'A256CBCPAD', value, iv: b64(iv) })));
  });

  test('AES-GCM and AES-KW, whichever bit is wrong', async () => {
    await dev.create('alike-oct', { kty: 'oct', key_size: 256 });
    const gcm = expectOk(await dev.post('/keys/alike-oct/encrypt', { alg: 'A256GCM', value: b64('sealed'), aad: b64('aad') })) as Record<string, string>;
    const body = { alg: 'A256GCM', value: gcm['value']!, iv: gcm['iv']!, tag: gcm['tag']!, aad: b64('aad') };
    const flip = (text: string): string => {
      const bytes = Buffer.from(text, 'base64url');
      bytes[0]! ^= 1;
      return b64(bytes);
    };
    await expectAlike([
      ...(['value', 'iv', 'tag', 'aad'] as const).map((member) => () => dev.post('/keys/alike-oct/decrypt', { ...body, [member]: flip(body[member]) })),
      () => dev.post('/keys/alike-oct/decrypt', { ...body, value: '' }),
      () => dev.post('/keys/alike-oct/unwrapkey', { alg: 'A256KW', value: b64(randomBytes(24)) }),
      () => dev.post('/keys/alike-oct/unwrapkey', { alg: 'A256KW', value: b64(randomBytes(8)) }),
      () => dev.post('/keys/alike-oct/unwrapkey', { alg: 'CKM_AES_KEY_WRAP_PAD', value: b64(randomBytes(23)) }),
    ]);
  });
});

describe('the budget of failures', () => {
  const wrong = { alg: 'RSA-OAEP', value: b64(Buffer.alloc(256, 1)) };

  test('after a hundred with one key a caller has to wait, longer each time; nobody else does', async () => {
    const { key } = await dev.create('spent', { kty: 'RSA' });
    await dev.create('unspent', { kty: 'RSA' });
    const publicKey = createPublicKey({ key: { kty: 'RSA', n: String(key['n']), e: String(key['e']) }, format: 'jwk' });
    const good = { alg: 'RSA-OAEP', value: b64(publicEncrypt({ key: publicKey, oaepHash: 'sha1' }, Buffer.from('x'))) };
    const other = await KeyVault.of(nobody, kms, 'dev', '--subject', 'other', '--role', 'owner');
    // Over both server processes.
    await inTurns(Array.from({ length: 100 }), async () => { expect((await dev.post('/keys/spent/decrypt', wrong)).status).toBe(400); }, 8);
    // Each further failure doubles the delay; what is refused meanwhile costs nothing.
    let refused = await dev.post('/keys/spent/decrypt', wrong);
    await eventually('the delay is four seconds', async () => {
      refused = await dev.post('/keys/spent/decrypt', wrong);
      return Number(refused.headers['retry-after']) === 4;
    });
    expectRefusal(refused, { status: 429, code: 'Throttled', words: 'VaultRequestTypeLimitReached: too many failed decryptions' });
    expect((await dev.post('/keys/spent/unwrapkey', good)).status).toBe(429);
    expectOk(await other.post('/keys/spent/decrypt', good));
    expect((await dev.post('/keys/unspent/decrypt', wrong)).status).toBe(400);
    expectOk(await dev.post('/keys/spent/sign', { alg: 'PS256', value: b64(Buffer.alloc(32)) }));
    await eventually('the delay is over', async () => (await dev.post('/keys/spent/decrypt', good)).status === 200);
    const alarms = auditRecords(kms).filter(({ event }) => event === 'alarm.failure-budget');
    expect(alarms).toEqual([expect.objectContaining({ result: 'failed', key: auditRecords(kms).find(({ event, reason }) => event === 'key.decrypt' && reason === 'rate-limited')!.key })]);
  });
});

describe('the tick', () => {
  test('hands on what was found, and what was thrown', async () => {
    expect(await onTick(() => Promise.resolve('found'))).toBe('found');
    await expect(onTick(() => Promise.reject(new Error('thrown')))).rejects.toThrow('thrown');
  });
});
