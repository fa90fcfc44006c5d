// State calls beside the table of okms-rest-api §5.1 (transitions.test.ts): without a reason, on what is gone, and many at once.

import { beforeAll, describe, expect, test } from '@jest/globals';
import type { Answer, Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal, makeKey, UNKNOWN_ID, withoutRequestId } from './support.ts';

let admin: Client;

serve((served) => { ({ admin } = served); });

type State = 'active' | 'deactivated' | 'compromised';

async function keyIn(state: State): Promise<string> {
  const id = await makeKey(admin, { type: 'oct', size: 128 });
  const reason = { active: undefined, deactivated: 'unspecified', compromised: 'key_compromise' }[state];
  if (reason !== undefined) expectDone(await admin.post(`/servicekey/${id}/deactivate`, { reason }));
  return id;
}

function expectDone({ status, text, headers }: Answer): void {
  expect({ status, text, type: headers['content-type'] }).toEqual({ status: 204, text: '', type: undefined });
}

async function expectState(id: string, state: State): Promise<void> {
  const { status, json } = await admin.get(`/servicekey/${id}`);
  expect({ status, state: json.attributes.state }).toEqual({ status: 200, state });
}

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
  expect(['active', 'deactivated']).toContain((await admin.get(`/servicekey/${id}`)).json.attributes.state);
});
