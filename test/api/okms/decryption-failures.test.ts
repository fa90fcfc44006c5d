// Whatever is wrong with a token, the answer is one and the same (okms-rest-api §2.7): no hint which check failed.

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Client, Installation } from '../../support/installation.ts';
import { base64, expectRefusal, inTurns, makeKey, OCT, withoutRequestId } from './support.ts';

let kms: Installation;
let admin: Client;
let id: string;
let ciphertext: string;
let dataKey: string;

const CONTEXT = 'the context';
const PLAINTEXT = base64('sixteen bytes at');

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  id = await makeKey(admin, OCT);
  const sealed = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: PLAINTEXT, context: CONTEXT });
  ciphertext = sealed.json.ciphertext as string;
  dataKey = (await admin.post(`/servicekey/${id}/datakey`, { size: 128 })).json.key as string;
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

const decrypt = (token: string, context: string | undefined = CONTEXT, key = id): ReturnType<Client['call']> =>
  admin.post(`/servicekey/${key}/decrypt`, { ciphertext: token, context });
const open = (token: string, key = id): ReturnType<Client['call']> =>
  admin.post(`/servicekey/${key}/datakey/decrypt`, { key: token });

/** Each refused, and each with the body of the first. */
async function expectOneRefusal(answers: readonly Awaited<ReturnType<Client['call']>>[]): Promise<void> {
  const wrongTag = await decrypt(ciphertext, 'another context');
  expect(answers.length).toBeGreaterThan(0);
  for (const answer of answers) {
    expectRefusal(answer, 'decryption-failed');
    expect(withoutRequestId(answer)).toEqual(withoutRequestId(wrongTag));
  }
}

/** Every character changed in its lowest and in its highest bit: the data bits and the unused bits of each part. */
function everyAlteration(token: string): readonly string[] {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  return Array.from(token).flatMap((character, i) => {
    const value = alphabet.indexOf(character);
    const others = value === -1 ? ['A', '~', ''] : [alphabet[value ^ 1] ?? '', alphabet[value ^ 32] ?? ''];
    return others.map((other) => `${token.slice(0, i)}${other}${token.slice(i + 1)}`);
  });
}

beforeAll(async () => {
  // What is altered below is good as it stands.
  expect((await decrypt(ciphertext)).json).toEqual({ plaintext: PLAINTEXT });
  expect((await open(dataKey)).status).toBe(200);
});

test('a ciphertext with any character altered', async () => {
  await expectOneRefusal(await inTurns(everyAlteration(ciphertext), (token) => decrypt(token)));
});

test('a data key with any character altered', async () => {
  await expectOneRefusal(await inTurns(everyAlteration(dataKey), (token) => open(token)));
});

test('a ciphertext with any character dropped', async () => {
  const shorter = Array.from(ciphertext, (_, i) => ciphertext.slice(0, i) + ciphertext.slice(i + 1));
  await expectOneRefusal(await inTurns(shorter, (token) => decrypt(token)));
});

test('a ciphertext cut anywhere', async () => {
  const cut = Array.from({ length: ciphertext.length - 1 }, (_, i) => ciphertext.slice(0, i + 1));
  await expectOneRefusal(await inTurns(cut, (token) => decrypt(token)));
});

describe('a header other than ours', () => {
  const header = (members: object): string => Buffer.from(JSON.stringify(members)).toString('base64url');
  const rest = (): string => ciphertext.slice(ciphertext.indexOf('.'));

  test('with other members, in another order, in another spelling', async () => {
    const enc = 'A256GCM';
    const good = { alg: 'dir', enc, kid: id, 'x-key-ver': 0 };
    expect(`${header(good)}${rest()}`).toBe(ciphertext);
    const spelled = (text: string): string => Buffer.from(text).toString('base64url');
    const exact = JSON.stringify(good);
    const headers = [
      header({ ...good, zip: 'DEF' }),
      header({ ...good, crit: ['exp'] }),
      header({ ...good, cty: 'text' }),
      header({ enc, alg: 'dir', kid: id, 'x-key-ver': 0 }),
      header({ alg: 'dir', enc, 'x-key-ver': 0, kid: id }),
      header({ alg: 'dir', enc, kid: id }),
      header({ ...good, alg: 'A256KW' }),
      header({ ...good, enc: 'A128GCM' }),
      header({ ...good, kid: id.toUpperCase() }),
      header({ ...good, 'x-key-ver': 1 }),
      header({ ...good, 'x-key-ver': -1 }),
      header({ ...good, 'x-key-ver': '0' }),
      spelled(exact.replace(':0}', ':00}')),
      spelled(exact.replace(':0}', ':0.0}')),
      spelled(exact.replace(':0}', ':0 }')),
      spelled(exact.replace(':0}', ':4294967296}')),
      spelled(exact.replace('{"alg":"dir",', '{"alg":"dir","alg":"dir",')),
      spelled(exact.replace('dir', '\\u0064ir')),
      spelled(`${exact}\n`),
      spelled(`\ufeff${exact}`),
      `${header(good)}=`,
      header([]),
      header({}),
      '',
    ];
    expect(new Set(headers).size).toBe(headers.length);
    await expectOneRefusal(await inTurns(headers.map((one) => one + rest()), (token) => decrypt(token)));
  });
});

test('parts of other lengths, more parts, an encrypted key, padding, white space', async () => {
  const [header = '', , iv = '', body = '', tag = ''] = ciphertext.split('.');
  const zeros = (bytes: number): string => Buffer.alloc(bytes).toString('base64url');
  const tokens = [
    [header, '', iv, body, tag, ''],
    [header, '', iv, body],
    [header, 'AAAA', iv, body, tag],
    [header, '', zeros(16), body, tag],
    [header, '', zeros(0), body, tag],
    [header, '', iv, '', tag],
    [header, '', iv, body, tag.slice(0, 16)],
    [header, '', iv, body, ''],
    [header, '', iv, body, tag + tag],
    [header, '', iv, body, `${tag}==`],
    [header, '', iv, body + body, tag],
    [header, '', iv, tag, body],
    [header, '', `${iv}\n`, body, tag],
  ].map((parts) => parts.join('.'));
  const junk = ['.', '....', 'x', ' ', `${ciphertext} `, ` ${ciphertext}`, '\u0000', '🔑', 'a.b.c', base64(ciphertext)];
  await expectOneRefusal(await inTurns([...tokens, ...junk], (token) => decrypt(token)));
});

test('a token of another key, of the same or another size', async () => {
  for (const size of [256, 128]) {
    const other = await makeKey(admin, { ...OCT, size });
    const swapped = `${(await sealedHeader(other))}${ciphertext.slice(ciphertext.indexOf('.'))}`;
    const answers = [await decrypt(ciphertext, CONTEXT, other), await decrypt(swapped, CONTEXT, other), await open(dataKey, other)];
    await expectOneRefusal(answers);
  }
});

async function sealedHeader(key: string): Promise<string> {
  const { json } = await admin.post(`/servicekey/${key}/encrypt`, { plaintext: PLAINTEXT });
  return (json.ciphertext as string).split('.')[0] ?? '';
}

test('a data key never opens as a ciphertext, under any context', async () => {
  const contexts = [undefined, '', 'datakey', '~datakey', '.datakey', '~'];
  await expectOneRefusal(await Promise.all(contexts.map((context) => decrypt(dataKey, context ?? ''))));
});

test('a ciphertext never opens as a data key, under whatever context it was made', async () => {
  const contexts = ['', 'datakey', '~datakey', '.datakey', '~', CONTEXT];
  const answers = await Promise.all(contexts.map(async (context) => {
    const { json } = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: PLAINTEXT, context });
    return open(json.ciphertext as string);
  }));
  await expectOneRefusal(answers);
});
