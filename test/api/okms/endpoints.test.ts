// Every row of the endpoint table (okms-rest-api §2, statuses of §1.3), under both base paths: status, type and members of
// the answer, and what it did.

import { describe, expect, test } from '@jest/globals';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, EC, expectRefusal, OCT, UNKNOWN_ID } from './support.ts';

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

const UUID = expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
const DATE = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
const TEXT = expect.any(String);
const JWE = expect.stringMatching(/^[\w-]+\.\.[\w-]{16}\.[\w-]+\.[\w-]{22}$/);

const attributes = (state: string, ...dates: string[]): object => ({
  state, original_creation_date: DATE, activation_date: DATE, ...Object.fromEntries(dates.map((name) => [name, DATE])),
  extractable: false, never_extractable: true, sensitive: true, always_sensitive: true,
});
const metadata = (spec: typeof OCT | typeof EC, name = 'k', state = 'active', ...dates: string[]): object => ({
  id: UUID, name, type: spec.type, class: spec === OCT ? 'SECRET_KEY' : 'KEY_PAIR', protectionLevel: 'HSM',
  ...(spec === OCT ? { size: 256, operations: OCT.operations } : { curve: 'P-256', operations: ['sign', 'verify'] }),
  attributes: attributes(state, ...dates),
});

interface Row {
  readonly call: string;
  readonly spec?: typeof OCT | typeof EC;
  /** Deactivated before. */
  readonly off?: true;
  readonly suffix?: string;
  /** What was answered to an earlier call on the same key becomes part of the body. */
  readonly body?: (ask: (suffix: string, body: object) => Promise<Answer>) => Promise<object> | object;
  readonly status: number;
  /** Null for no body. */
  readonly answer: object | null;
  readonly after?: 'active' | 'deactivated' | 'gone';
}

const MESSAGE = base64('a message');
const SIGNED = { message: MESSAGE, alg: 'ES256' };

const ROWS: readonly Row[] = [
  { call: 'GET', status: 200, answer: metadata(OCT) },
  { call: 'GET', spec: EC, suffix: '?format=jwk', status: 200, answer: { ...metadata(EC), keys: [{ kid: UUID, kty: 'EC', crv: 'P-256', x: TEXT, y: TEXT, key_ops: ['sign', 'verify'] }] } },
  { call: 'PATCH', body: () => ({ name: 'renamed' }), status: 200, answer: metadata(OCT, 'renamed') },
  { call: 'DELETE', off: true, status: 204, answer: null, after: 'gone' },
  { call: 'DELETE', off: true, suffix: '/delete', status: 204, answer: null, after: 'gone' },
  { call: 'POST', off: true, suffix: '/activate', status: 204, answer: null, after: 'active' },
  { call: 'POST', suffix: '/deactivate', body: () => ({ reason: 'superseded' }), status: 204, answer: null, after: 'deactivated' },
  { call: 'POST', suffix: '/encrypt', body: () => ({ plaintext: MESSAGE }), status: 200, answer: { ciphertext: JWE } },
  { call: 'POST', suffix: '/decrypt', body: async (ask) => (await ask('/encrypt', { plaintext: MESSAGE })).json as object, status: 200, answer: { plaintext: MESSAGE } },
  { call: 'POST', suffix: '/datakey', body: () => ({ size: 256, name: 'n' }), status: 201, answer: { key: JWE, plaintext: TEXT } },
  { call: 'POST', suffix: '/datakey/decrypt', body: async (ask) => ({ key: ((await ask('/datakey', { size: 256 })).json as { key: string }).key }), status: 200, answer: { plaintext: TEXT } },
  { call: 'POST', spec: EC, suffix: '/sign', body: () => SIGNED, status: 200, answer: { signature: expect.stringMatching(/^[\w+/]{86}==$/) } },
  { call: 'POST', spec: EC, suffix: '/verify', body: async (ask) => ({ ...SIGNED, ...((await ask('/sign', SIGNED)).json as object) }), status: 200, answer: { result: true } },
];

const ALL_METHODS = ['GET', 'POST', 'PATCH', 'DELETE', 'PUT'] as const;
const onKey = (suffix: string): string => `/servicekey/{keyId}${suffix}`;
const POSTED = ['/activate', '/deactivate', '/encrypt', '/decrypt', '/datakey', '/datakey/decrypt', '/sign', '/verify'];
const METHODS: Readonly<Record<string, readonly string[]>> = {
  '/servicekey': ['POST', 'GET'], [onKey('')]: ['GET', 'PATCH', 'DELETE'], [onKey('/delete')]: ['DELETE'], '/random': ['GET'],
  ...Object.fromEntries(POSTED.map((suffix) => [onKey(suffix), ['POST']])),
};

function expectAnswer(answer: Answer, status: number, body: object | null): void {
  const type = body === null ? undefined : expect.stringMatching(/^application\/json(;|$)/);
  expect({ status: answer.status, type: answer.headers['content-type'], body: answer.json ?? (answer.text === '' ? null : answer.text) })
    .toEqual({ status, type, body });
}

describe.each(['/v1', '/api/{okmsId}/v1'])('under %s', (path) => {
  const base = (): string => `https://localhost:${kms.port}${path.replace('{okmsId}', kms.admin.okmsId)}`;
  const make = async (spec: object): Promise<string> => {
    const { status, json } = await admin.post(`${base()}/servicekey`, { name: 'k', ...spec });
    expect(status).toBe(201);
    return `${base()}/servicekey/${json.id as string}`;
  };

  test.each([OCT, EC])('POST /servicekey makes a key of type $type', async (spec) => {
    expectAnswer(await admin.post(`${base()}/servicekey`, { name: 'k', ...spec }), 201, metadata(spec));
  });

  test('POST /servicekey imports a key', async () => {
    const keys = [{ kty: 'oct', k: Buffer.alloc(32, 7).toString('base64url'), key_ops: OCT.operations }];
    const { attributes: made, ...rest } = metadata(OCT) as { attributes: object };
    const imported = { ...made, never_extractable: false, always_sensitive: false };
    const jwk = { kid: UUID, kty: 'oct', key_ops: OCT.operations };
    expectAnswer(await admin.post(`${base()}/servicekey?format=jwk`, { name: 'k', keys }), 201, { ...rest, attributes: imported, keys: [jwk] });
  });

  test('GET /servicekey lists keys', async () => {
    await make(EC);
    const answer = await admin.get(`${base()}/servicekey?max=10`);
    expectAnswer(answer, 200, { objects_list: expect.any(Array), is_truncated: expect.any(Boolean), continuation_token: TEXT });
    expect((answer.json.objects_list as object[]).length).toBeGreaterThan(0);
    expectAnswer(await admin.get(`${base()}/servicekey?state=pre_active`), 200, { objects_list: [], is_truncated: false, continuation_token: '' });
  });

  test.each(ROWS)('$call /servicekey/{keyId}$suffix', async ({ call, spec = OCT, off, suffix = '', body, status, answer, after = 'active' }) => {
    const key = await make(spec);
    const sent = await body?.((more, content) => admin.post(`${key}${more}`, content));
    if (off === true) expect((await admin.post(`${key}/deactivate`)).status).toBe(204);
    expectAnswer(await admin.call(call as 'GET', `${key}${suffix}`, sent), status, answer);
    const seen = await admin.get(key);
    if (after === 'gone') expectRefusal(seen, 'not-found');
    else expect(seen.json.attributes.state).toBe(after);
  });

  test.each([['', 1], ['?length=24', 24], ['?length=4096', 4096]])('GET /random%s', async (query, length) => {
    const answer = await admin.get(`${base()}/random${query}`);
    expectAnswer(answer, 200, { bytes: expect.stringMatching(/^[\w+/]+={0,2}$/) });
    expect(Buffer.from(answer.json.bytes as string, 'base64')).toHaveLength(length);
  });

  test.each(['0', '4097', '1.5'])('GET /random?length=%s is refused', async (length) => {
    expectRefusal(await admin.get(`${base()}/random?length=${length}`), 'invalid-field', 'length');
  });

  test.each(ROWS.map(({ call, suffix = '' }) => [call, suffix]))('%s /servicekey/{keyId}%s of an unknown key', async (call, suffix) => {
    const bodies: Readonly<Record<string, object>> = { '/encrypt': { plaintext: MESSAGE }, '/decrypt': { ciphertext: 'a' }, '/datakey': { size: 64 }, '/datakey/decrypt': { key: 'a' }, '/sign': SIGNED, '/verify': { ...SIGNED, signature: 'AAAA' } };
    const body = call === 'PATCH' ? { name: 'n' } : bodies[suffix];
    expectRefusal(await admin.call(call as 'POST', `${base()}/servicekey/${UNKNOWN_ID}${suffix}`, body), 'not-found');
  });

  test.each(Object.entries(METHODS))('%s answers no other method than %j', async (path, methods) => {
    const target = `${base()}${path.replace('{keyId}', UNKNOWN_ID)}`;
    const others = ALL_METHODS.filter((method) => !methods.includes(method));
    expect(others.length).toBeGreaterThan(1);
    for (const method of others) expectRefusal(await admin.call(method, target, method === 'GET' ? undefined : {}), 'method-not-allowed');
  });

  test.each(['', '/servicekeys', '/servicekey/{keyId}/rotate', '/random/more'])('%j is no route', async (path) => {
    expectRefusal(await admin.get(`${base()}${path.replace('{keyId}', UNKNOWN_ID)}`), 'unknown-route');
  });
});
