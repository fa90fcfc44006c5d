// The transitions of okms-rest-api §5.1: every state call from every state, with the state and the dates it leaves.

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Answer, type Client, Installation } from '../../support/installation.ts';
import { expectRefusal, makeKey, UNKNOWN_ID, withoutRequestId } from './support.ts';

let kms: Installation;
let admin: Client;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

type State = 'active' | 'deactivated' | 'compromised';

const STATES: readonly State[] = ['active', 'deactivated', 'compromised'];
const COMPROMISING = ['key_compromise', 'ca_compromise'];
const OTHER_REASONS = ['unspecified', 'affiliation_changed', 'superseded', 'cessation_of_operation', 'privilege_withdrawn'];

async function keyIn(state: State): Promise<string> {
  const id = await makeKey(admin, { type: 'oct', size: 128 });
  const reason = { active: undefined, deactivated: 'unspecified', compromised: 'key_compromise' }[state];
  if (reason !== undefined) expectDone(await admin.post(`/servicekey/${id}/deactivate`, { reason }));
  return id;
}

function expectDone({ status, text, headers }: Answer): void {
  expect({ status, text, type: headers['content-type'] }).toEqual({ status: 204, text: '', type: undefined });
}

interface Attributes {
  readonly state: string;
  readonly original_creation_date: string;
  readonly activation_date: string;
  readonly deactivation_date?: string;
  readonly compromise_date?: string;
}

async function attributes(id: string): Promise<Attributes> {
  const { status, json } = await admin.get(`/servicekey/${id}`);
  expect(status).toBe(200);
  return json.attributes as Attributes;
}

/** Which state the key is in, and that exactly the dates of that state are there: absent members, never empty ones. */
async function expectState(id: string, state: State): Promise<Attributes> {
  const now = await attributes(id);
  expect(now.state).toBe(state);
  const created = Date.parse(now.original_creation_date);
  expect(Date.parse(now.activation_date)).toBeGreaterThanOrEqual(created);
  if (state === 'active') expect(now).not.toHaveProperty('deactivation_date');
  if (state === 'deactivated') expect(Date.parse(now.deactivation_date ?? '')).toBeGreaterThanOrEqual(created);
  if (state === 'compromised') expect(Date.parse(now.compromise_date ?? '')).toBeGreaterThanOrEqual(created);
  else expect(now).not.toHaveProperty('compromise_date');
  return now;
}

describe.each(STATES)('from %s', (from) => {
  test('activate gives active, and drops the dates of deactivation and compromise', async () => {
    const id = await keyIn(from);
    const before = await expectState(id, from);
    expectDone(await admin.post(`/servicekey/${id}/activate`));
    const after = await expectState(id, 'active');
    expect(after.original_creation_date).toBe(before.original_creation_date);
    expectDone(await admin.post(`/servicekey/${id}/activate`));
    expect(await attributes(id)).toEqual(after);
  });

  test.each(COMPROMISING)('deactivate because of %s gives compromised', async (reason) => {
    const id = await keyIn(from);
    const before = await expectState(id, from);
    expectDone(await admin.post(`/servicekey/${id}/deactivate`, { reason }));
    const after = await expectState(id, 'compromised');
    expect(after.activation_date).toBe(before.activation_date);
    if (before.deactivation_date !== undefined) expect(after.deactivation_date).toBe(before.deactivation_date);
    if (before.compromise_date !== undefined) expect(after.compromise_date).toBe(before.compromise_date);
  });

  test.each(OTHER_REASONS)('deactivate because of %s', async (reason) => {
    const id = await keyIn(from);
    const before = await expectState(id, from);
    expectDone(await admin.post(`/servicekey/${id}/deactivate`, { reason }));
    const after = await expectState(id, from === 'active' ? 'deactivated' : from);
    if (from !== 'active') expect(after).toEqual(before);
  });

  test.each(['', '/delete'])('DELETE of the key%s', async (suffix) => {
    const id = await keyIn(from);
    const answer = await admin.call('DELETE', `/servicekey/${id}${suffix}`);
    if (from === 'active') {
      expectRefusal(answer, 'wrong-state', 'active');
      await expectState(id, 'active');
      return;
    }
    expectDone(answer);
    expectRefusal(await admin.get(`/servicekey/${id}`), 'not-found');
    const state = { deactivated: 'destroyed', compromised: 'destroyed_compromised' }[from];
    const listed = (await admin.get(`/servicekey?state=${state}&max=500`)).json.objects_list as { id: string }[];
    expect(listed.filter((key) => key.id === id)).toHaveLength(1);
  });
});

describe('deactivate without a reason', () => {
  test.each([
    ['no body', undefined],
    ['an empty object', {}],
    ['a null reason', { reason: null }],
    ['unknown members', { because: 'I say so' }],
  ])('%s: deactivated', async (_what, body) => {
    const id = await keyIn('active');
    expectDone(await admin.post(`/servicekey/${id}/deactivate`, body));
    await expectState(id, 'deactivated');
  });

  test('an empty body that is declared as JSON: deactivated', async () => {
    const id = await keyIn('active');
    expectDone(await admin.call('POST', `/servicekey/${id}/deactivate`, '', { 'content-type': 'application/json' }));
    await expectState(id, 'deactivated');
  });

  test.each(['', 'KEY_COMPROMISE', 'other', 7, true])('reason %j is refused and changes nothing', async (reason) => {
    const id = await keyIn('active');
    expectRefusal(await admin.post(`/servicekey/${id}/deactivate`, { reason }), 'invalid-field', 'reason');
    await expectState(id, 'active');
  });
});

test('metadata can be read and changed while a key is deactivated or compromised', async () => {
  for (const state of ['deactivated', 'compromised'] as const) {
    const id = await keyIn(state);
    const renamed = await admin.call('PATCH', `/servicekey/${id}`, { name: `still ${state}` });
    expect({ status: renamed.status, name: renamed.json.name }).toEqual({ status: 200, name: `still ${state}` });
    const exported = await admin.get(`/servicekey/${id}?format=jwk`);
    expect(exported.json).toMatchObject({ name: `still ${state}`, keys: [{ kid: id, kty: 'oct' }] });
    await expectState(id, state);
  }
});

describe('a destroyed key answers 404 to everything, as a key that never was', () => {
  interface Attempt {
    readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
    readonly suffix: string;
    readonly body?: object;
  }
  const attempts: readonly Attempt[] = [
    { method: 'GET', suffix: '' },
    { method: 'GET', suffix: '?format=jwk' },
    { method: 'PATCH', suffix: '', body: { name: 'again' } },
    { method: 'DELETE', suffix: '' },
    { method: 'DELETE', suffix: '/delete' },
    { method: 'POST', suffix: '/activate' },
    { method: 'POST', suffix: '/deactivate', body: { reason: 'superseded' } },
    { method: 'POST', suffix: '/encrypt', body: { plaintext: 'AAAA' } },
    { method: 'POST', suffix: '/decrypt', body: { ciphertext: 'a..b.c.d' } },
    { method: 'POST', suffix: '/datakey', body: { size: 256 } },
    { method: 'POST', suffix: '/datakey/decrypt', body: { key: 'a..b.c.d' } },
    { method: 'POST', suffix: '/sign', body: { message: 'AAAA', alg: 'ES256' } },
    { method: 'POST', suffix: '/verify', body: { message: 'AAAA', alg: 'ES256', signature: 'AAAA' } },
  ];
  const gone: string[] = [];

  beforeAll(async () => {
    for (const state of ['deactivated', 'compromised'] as const) {
      const id = await keyIn(state);
      expectDone(await admin.call('DELETE', `/servicekey/${id}`));
      gone.push(id);
    }
  });

  test.each(attempts)('$method /servicekey/{id}$suffix', async ({ method, suffix, body }) => {
    const never = await admin.call(method, `/servicekey/${UNKNOWN_ID}${suffix}`, body);
    expectRefusal(never, 'not-found');
    for (const id of gone) {
      const answer = await admin.call(method, `/servicekey/${id}${suffix}`, body);
      expectRefusal(answer, 'not-found');
      expect(withoutRequestId(answer)).toEqual(withoutRequestId(never));
    }
  });
});

test('many state calls at once leave one of the asked states, and every answer is one of the documented', async () => {
  const id = await keyIn('active');
  const answers = await Promise.all(Array.from({ length: 12 }, (_, i) =>
    admin.post(`/servicekey/${id}/${i % 2 === 0 ? 'activate' : 'deactivate'}`)));
  for (const answer of answers) expectDone(answer);
  expect(['active', 'deactivated']).toContain((await attributes(id)).state);
});
