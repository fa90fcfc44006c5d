// Secrets stay out of logs, audit, store and answers (security S-28): markers go in through every door a caller has, on
// good requests and on broken ones, and are looked for afterwards in every byte the service wrote.

import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Client, Installation } from '../../support/installation.ts';
import { base64, makeKey, OCT } from './support.ts';

let kms: Installation;
let admin: Client;
const answers: Answer[] = [];

function marker(what: string): string {
  return `${what}${randomBytes(12).toString('hex')}`;
}

/** Secret wherever they are found. */
const secret = {
  plaintext: marker('plain'),
  context: marker('ctx'),
  message: marker('msg'),
  brokenJson: marker('broken'),
  badBase64: `${marker('bad')}!`,
  badEnumeration: marker('enum'),
  unknownMember: marker('member'),
  refusedName: marker('name').repeat(2),
  form: marker('form'),
};
/** Belong into the store, and nowhere else. */
const stored = { name: marker('n'), context: marker('c') };
const made = { plaintext: '', dataKey: '' };

beforeAll(async () => {
  kms = await Installation.make({ KMS_LOG_LEVEL: 'trace' });
  await kms.start();
  admin = kms.client();
  const path = `/servicekey/${await makeKey(admin, { ...OCT, ...stored })}`;
  const pair = `/servicekey/${await makeKey(admin, { type: 'EC', curve: 'P-256' })}`;
  const send = async (to: string, body: object | string): Promise<Answer> => {
    const answer = await admin.post(to, body);
    answers.push(answer);
    return answer;
  };
  const sealed = await admin.post(`${path}/encrypt`, { plaintext: base64(secret.plaintext), context: secret.context });
  const opened = await admin.post(`${path}/decrypt`, { ...sealed.json, context: secret.context });
  expect({ status: opened.status, text: opened.text }).toEqual({ status: 200, text: expect.any(String) });
  made.plaintext = Buffer.from(opened.json.plaintext as string, 'base64').toString();
  made.dataKey = (await admin.post(`${path}/datakey`, { size: 512 })).json.plaintext as string;
  await send(`${path}/decrypt`, { ...sealed.json, context: `${secret.context}x` });
  await send(`${pair}/sign`, { message: base64(secret.message), alg: 'ES256' });
  await send(`${pair}/sign`, { message: base64(secret.message), alg: secret.badEnumeration });
  await send(`${pair}/sign`, { message: base64(secret.message), alg: 'RS256' });
  await send(`${pair}/encrypt`, { plaintext: base64(secret.plaintext), context: secret.context });
  await send(`${path}/encrypt`, { plaintext: secret.badBase64 });
  await send(`${path}/encrypt`, { plaintext: base64(secret.plaintext), context: secret.context.repeat(3) });
  await send(`${path}/encrypt`, { [secret.unknownMember]: secret.unknownMember });
  await send(`${path}/encrypt`, `{"plaintext":"${secret.brokenJson}`);
  await send(`${path}/encrypt`, `{"${secret.brokenJson}":1,"${secret.brokenJson}":2}`);
  await send('/servicekey', { name: secret.refusedName, type: secret.badEnumeration });
  answers.push(await admin.call('POST', '/servicekey', secret.form, { 'content-type': 'text/plain' }));
  answers.push(await admin.get(`/servicekey?state=${secret.badEnumeration}&continuation-token=${secret.form}`));
  await admin.post(`${path}/deactivate`);
  await send(`${path}/encrypt`, { plaintext: base64(secret.plaintext), context: secret.context });
  await admin.close();
  await kms.stop();
});

afterAll(() => kms.remove());

/** The text itself and its base64 at each of the three offsets, in both alphabets, without the ends that neighbours change. */
function spellings(text: string): readonly Buffer[] {
  const bytes = Buffer.from(text);
  const encoded = [0, 1, 2].flatMap((offset) => {
    const shifted = Buffer.concat([Buffer.alloc(offset), bytes]);
    const inner = (alphabet: 'base64' | 'base64url'): string => shifted.toString(alphabet).replace(/=+$/, '').slice(4, -4);
    return [inner('base64'), inner('base64url')];
  });
  return [text, bytes.toString('hex'), ...encoded].map((spelling) => Buffer.from(spelling));
}

function holds(haystack: Buffer, text: string): boolean {
  return spellings(text).some((spelling) => haystack.includes(spelling));
}

function filesIn(...path: readonly string[]): Buffer {
  const entries = readdirSync(join(kms.home, ...path), { recursive: true, withFileTypes: true });
  return Buffer.concat(entries.filter((entry) => entry.isFile()).map((entry) => readFileSync(join(entry.parentPath, entry.name))));
}

const places: readonly (readonly [place: string, read: () => Buffer])[] = [
  ['output', () => Buffer.from(kms.output)],
  ['audit', () => filesIn('audit')],
  ['home', () => filesIn()],
  ['answers', () => Buffer.from(answers.map(({ text, headers }) => text + JSON.stringify(headers)).join('\n'))],
];

test('the search finds what is there: the requests did reach the service, and their traces are in each place', () => {
  expect(made.plaintext).toBe(secret.plaintext);
  expect(Buffer.from(made.dataKey, 'base64')).toHaveLength(64);
  const rejected = answers.filter(({ status }) => status >= 400 && status < 500);
  expect(rejected).toHaveLength(answers.length - 1);
  for (const { json } of rejected) {
    expect(holds(Buffer.from(kms.output), json.request_id as string)).toBe(true);
  }
  expect(holds(filesIn(), stored.name)).toBe(true);
  expect(holds(filesIn('audit'), answers[0]!.json.request_id as string)).toBe(true);
  expect(holds(Buffer.from(`xx${base64(`xy${secret.plaintext}z`)}`), secret.plaintext)).toBe(true);
});

describe.each(places)('%s', (_place, read) => {
  test.each(Object.entries(secret))('holds no %s', (_what, text) => {
    expect(holds(read(), text)).toBe(false);
  });

  test('holds no data key', () => {
    const raw = Buffer.from(made.dataKey, 'base64');
    const texts = [made.dataKey, raw.toString('hex'), raw.toString('base64url')].map((text) => Buffer.from(text));
    expect([raw, ...texts].filter((form) => read().includes(form))).toEqual([]);
  });
});

test.each(['output', 'audit', 'answers'])('%s holds neither name nor context of the key', (place) => {
  const haystack = places.find(([name]) => name === place)![1]();
  for (const text of Object.values(stored)) expect(holds(haystack, text)).toBe(false);
});
