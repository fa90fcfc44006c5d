// Requests that are wrong (security S-17 to S-19): each is refused with its own status and code, none is a server
// error, and afterwards store and token hold what they held before.

import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, type Cause, expectRefusal, makeKey, OCT, UNKNOWN_ID, objectsOnToken } from './support.ts';

let kms: Installation;
let admin: Client;
let id: string;
let before: Holdings;

serve(async (served) => {
  ({ kms, admin } = served);
  id = await makeKey(admin, OCT);
  before = await holdings();
});

interface Holdings {
  readonly rows: object;
  readonly tokenObjects: number;
  readonly listing: unknown;
}

/** Rows of every table but the counters, objects in the token's directory, and what the API lists. */
async function holdings(): Promise<Holdings> {
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  const tables = ['key', 'key_version', 'key_object', 'intent', 'vault', 'credential', 'assignment'];
  const rows = Object.fromEntries(tables.map((table) => [table, db.prepare(`select * from "${table}"`).all()]));
  db.close();
  return { rows, tokenObjects: objectsOnToken(kms), listing: (await admin.get('/servicekey?state=all')).json };
}

const GOOD = '{"name":"k","type":"oct","size":128}';

function create(body: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  return admin.call('POST', '/servicekey', body, headers);
}

interface Wrong {
  readonly what: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause: Cause;
  /** What the message must contain. */
  readonly word: string;
}

const malformed = (what: string, body: string | Uint8Array, word = 'JSON'): Wrong => ({ what, body, cause: 'malformed-request', word });

describe('JSON', () => {
  const nested = (depth: number): string => `{"name":"k","x":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
  test.each<Wrong>([
    malformed('nothing', '', 'body'),
    malformed('white space', ' '),
    malformed('cut off', GOOD.slice(0, -1)),
    malformed('two values', `${GOOD}${GOOD}`),
    malformed('a comma too many', '{"name":"k",}'),
    malformed('single quotes', "{'name':'k'}"),
    malformed('a comment', `/* */${GOOD}`),
    malformed('NaN', '{"name":"k","size":NaN}'),
    malformed('a raw line break in a text', '{"name":"a\nb"}'),
    malformed('an array', `[${GOOD}]`),
    malformed('a text', '"name"'),
    malformed('a number', '5'),
    malformed('null', 'null'),
    malformed('a form', 'name=k&type=oct&size=128'),
    malformed('duplicate members', '{"name":"k","operations":["encrypt"],"operations":["decrypt"],"type":"oct","size":128}', 'duplicate'),
    malformed('duplicate members, spelled differently', '{"name":"k","n\\u0061me":"l","type":"oct","size":128}', 'duplicate'),
    malformed('duplicate members in an unknown object', '{"name":"k","type":"oct","size":128,"x":{"y":[{"a":1,"a":2}]}}', 'duplicate'),
    malformed('__proto__', '{"__proto__":{"name":"k"},"type":"oct","size":128}', '__proto__'),
    malformed('__proto__, escaped and deep inside', '{"name":"k","type":"oct","size":128,"x":[{"\\u005f_proto__":{}}]}', '__proto__'),
    malformed('17 levels', nested(17), '16'),
    malformed('10,000 levels', nested(10_000), '16'),
    malformed('10,000 levels never closed', '['.repeat(10_000), '16'),
    malformed('invalid UTF-8', Buffer.concat([Buffer.from('{"name":"'), Buffer.of(0xff), Buffer.from('","type":"oct","size":128}')]), 'UTF-8'),
    malformed('overlong UTF-8', Buffer.concat([Buffer.from('{"name":"'), Buffer.of(0xc0, 0xaf), Buffer.from('","type":"oct","size":128}')]), 'UTF-8'),
    malformed('UTF-16', Buffer.from(GOOD, 'utf16le')),
    malformed('a byte order mark', `\ufeff${GOOD}`),
    malformed('a lone surrogate', '{"name":"\\ud800","type":"oct","size":128}', 'surrogate'),
    malformed('a lone surrogate in a member name', '{"\\udc00":1,"name":"k","type":"oct","size":128}', 'surrogate'),
  ])('$what is refused', async ({ body, cause, word }) => {
    expectRefusal(await create(body), cause, word);
  });

  test('16 levels and members named constructor or toString are accepted, and mean nothing', async () => {
    const odd = '{"reason":null,"constructor":{"prototype":{"reason":"x"}},"toString":1,"hasOwnProperty":1,';
    const deep = `"x":${'['.repeat(15)}${']'.repeat(15)}}`;
    const key = await makeKey(admin, OCT);
    expect((await admin.post(`/servicekey/${key}/deactivate`, odd + deep)).status).toBe(204);
    expect((await admin.call('DELETE', `/servicekey/${key}`)).status).toBe(204);
    before = await holdings();
  });
});

describe('media types and encodings', () => {
  const PLAIN = '{"plaintext":"AAAA"}';
  const encrypt = (headers: Readonly<Record<string, string>>): Promise<Answer> =>
    admin.call('POST', `/servicekey/${id}/encrypt`, PLAIN, headers);

  test.each([
    'application/json', 'application/json; charset=utf-8', 'application/json;charset=UTF-8', 'text/json',
    'application/merge-patch+json', 'APPLICATION/JSON', 'application/vnd.api+json',
  ])('%s is accepted', async (type) => {
    expect((await encrypt({ 'content-type': type })).status).toBe(200);
  });

  test.each([
    'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/octet-stream',
    'application/xml', '',
  ])('%j is refused', async (type) => {
    expectRefusal(await encrypt({ 'content-type': type }), 'malformed-request', 'application/json');
  });

  test.each(['gzip', 'deflate', 'br', 'identity', 'x'])('Content-Encoding %s is refused', async (encoding) => {
    expectRefusal(await encrypt({ 'content-encoding': encoding }), 'malformed-request', 'Content-Encoding');
  });
});

describe('size', () => {
  const padded = (bytes: number): string => GOOD.replace('}', ` ,"pad":"${'x'.repeat(bytes - GOOD.length - 10)}"}`);

  // Chunked bodies are in raw-http.test.ts.
  test('one byte more than 64 KiB is refused', async () => {
    expect(Buffer.byteLength(padded(65_537))).toBe(65_537);
    expectRefusal(await create(padded(65_537)), 'too-large', '65536');
    expectRefusal(await create(padded(1_000_000)), 'too-large', '65536');
  });

  test('64 KiB exactly are read', async () => {
    const body = padded(65_536).replace('"oct"', '"???"');
    expectRefusal(await create(body), 'invalid-field', 'type');
  });

  test('64 KiB of brackets or of members are refused as quickly as anything else', async () => {
    expectRefusal(await create('{"a":'.repeat(13_000)), 'malformed-request', '16');
    const members = Array.from({ length: 5000 }, (_, i) => `"m${i}":1`).join(',');
    expectRefusal(await create(`{${members}}`), 'invalid-field', 'name');
  });
});

interface WrongField {
  readonly operation: string;
  readonly what: string;
  readonly body: object;
  readonly word: string;
}

const BASE64: readonly (readonly [what: string, text: unknown])[] = [
  ['absent', undefined],
  ['null', null],
  ['empty', ''],
  ['a number', 1],
  ['an object', {}],
  ['a list', ['AAAA']],
  ['one character', 'A'],
  ['without padding', 'AAA'],
  ['with too much padding', 'AAAA='],
  ['all padding', '===='],
  ['in the URL alphabet', '-__-'],
  ['with a space', 'AA AA'],
  ['with a line break', 'AAAA\r\n'],
  ['with non-zero trailing bits', 'AB=='],
  ['with non-zero trailing bits of two', 'AAB='],
  ['with a NUL', 'AAAA\u0000'],
  ['not ASCII', 'ÄÄÄÄ'],
  ['data after padding', 'AA==AAAA'],
  ['4097 bytes', base64(Buffer.alloc(4097))],
];

describe('fields', () => {
  const wrong: WrongField[] = BASE64.flatMap(([what, text]) => [
    { operation: 'encrypt', what, body: { plaintext: text }, word: 'plaintext' },
    { operation: 'sign', what, body: { message: text, alg: 'ES256' }, word: 'message' },
  ]);
  const others: readonly WrongField[] = [
    { operation: 'encrypt', what: 'a context that is no text', body: { plaintext: 'AAAA', context: 1 }, word: 'context' },
    { operation: 'encrypt', what: 'a context of 65 characters', body: { plaintext: 'AAAA', context: 'c'.repeat(65) }, word: 'context' },
    { operation: 'decrypt', what: 'no ciphertext', body: {}, word: 'ciphertext' },
    { operation: 'decrypt', what: 'a null ciphertext', body: { ciphertext: null }, word: 'ciphertext' },
    { operation: 'decrypt', what: 'an empty ciphertext', body: { ciphertext: '' }, word: 'ciphertext' },
    { operation: 'decrypt', what: 'a ciphertext of 8193 characters', body: { ciphertext: 'x'.repeat(8193) }, word: 'ciphertext' },
    { operation: 'sign', what: 'an unknown alg', body: { message: 'AAAA', alg: 'ES512K' }, word: 'alg' },
    { operation: 'sign', what: 'isdigest as text', body: { message: 'AAAA', alg: 'ES256', isdigest: 'true' }, word: 'isdigest' },
    { operation: 'deactivate', what: 'an unknown reason', body: { reason: 'tired' }, word: 'reason' },
  ];

  test.each([...wrong, ...others])('$operation: $what is refused', async ({ operation, body, word }) => {
    expectRefusal(await admin.post(`/servicekey/${id}/${operation}`, body), 'invalid-field', word);
  });

  test('the fields are checked before the key is looked for, and the message never repeats their value', async () => {
    const answer = await admin.post(`/servicekey/${UNKNOWN_ID}/encrypt`, { plaintext: 'do-not-repeat!' });
    expectRefusal(answer, 'invalid-field', 'base64');
    expect(answer.text).not.toContain('do-not-repeat');
  });
});

describe('request ids', () => {
  test('a short printable one of the caller is taken over, any other replaced', async () => {
    const path = `/servicekey/${UNKNOWN_ID}`;
    const given = await admin.call('GET', path, undefined, { 'x-request-id': 'OKMS.my-own~id' });
    expectRefusal(given, 'not-found');
    expect(given.json.request_id).toBe('OKMS.my-own~id');
    for (const id of ['x'.repeat(65), 'two words', 'é']) {
      const answer = await admin.call('GET', path, undefined, { 'x-request-id': id });
      expectRefusal(answer, 'not-found');
      expect(answer.json.request_id).toMatch(/^[0-9a-f-]{36}$/);
    }
  });
});

test('after all of it, store and token hold exactly what they held before', async () => {
  expect(await holdings()).toEqual(before);
  expect(before.listing).toMatchObject({ objects_list: [{ id }, {}] });
  expect(({} as { enabled?: unknown }).enabled).toBeUndefined();
});
