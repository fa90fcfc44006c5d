// Only an active key works (okms-rest-api §5.1): every cryptographic call in every state, and again after activation.

import { describe, expect, test } from '@jest/globals';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { EC, expectRefusal, makeKey, OCT, RSA } from './support.ts';

let kms: Installation;
let admin: Client;

serve((served) => { ({ kms, admin } = served); });

const PLAINTEXT = 'c2VjcmV0';

interface Use {
  readonly operation: string;
  readonly call: () => Promise<Answer>;
  readonly status: number;
  readonly expected: object;
}

/** Every call a key of this kind can serve, on inputs made while it was active. */
async function usesOf(spec: { readonly type: string }): Promise<{ readonly path: string; readonly uses: readonly Use[] }> {
  const path = `/servicekey/${await makeKey(admin, spec)}`;
  const use = (operation: string, body: object, status: number, expected: object): Use =>
    ({ operation, call: () => admin.post(`${path}/${operation}`, body), status, expected });
  if (spec.type !== 'oct') {
    const input = { message: PLAINTEXT, alg: spec.type === 'RSA' ? 'RS256' : 'ES256' };
    const { signature } = (await admin.post(`${path}/sign`, input)).json;
    const made = { signature: expect.any(String) };
    return { path, uses: [use('sign', input, 200, made), use('verify', { ...input, signature }, 200, { result: true })] };
  }
  const { ciphertext } = (await admin.post(`${path}/encrypt`, { plaintext: PLAINTEXT })).json;
  const { key, plaintext } = (await admin.post(`${path}/datakey`, { size: 256 })).json;
  return {
    path,
    uses: [
      use('encrypt', { plaintext: PLAINTEXT }, 200, { ciphertext: expect.any(String) }),
      use('decrypt', { ciphertext }, 200, { plaintext: PLAINTEXT }),
      use('datakey', { size: 256 }, 201, { key: expect.any(String), plaintext: expect.any(String) }),
      use('datakey/decrypt', { key }, 200, { plaintext }),
    ],
  };
}

async function expectAllWork(uses: readonly Use[]): Promise<void> {
  for (const { operation, call, status, expected } of uses) {
    const answer = await call();
    expect({ operation, status: answer.status, json: answer.json }).toEqual({ operation, status, json: expected });
  }
}

describe.each([OCT, RSA, EC])('$type', (spec) => {
  test.each([
    ['deactivated', 'unspecified'],
    ['compromised', 'key_compromise'],
  ])('while %s nothing works, and everything again once active', async (state, reason) => {
    const { path, uses } = await usesOf(spec);
    await expectAllWork(uses);
    expect((await admin.post(`${path}/deactivate`, { reason })).status).toBe(204);
    for (const { call } of uses) expectRefusal(await call(), 'wrong-state', state);
    expect((await admin.post(`${path}/activate`)).status).toBe(204);
    await expectAllWork(uses);
  });
});

test('once a deactivation is acknowledged no request is served, on whatever connection and process it arrives', async () => {
  const path = `/servicekey/${await makeKey(admin, OCT)}`;
  const clients = Array.from({ length: 8 }, () => kms.client());
  const encrypt = (client: Client): Promise<Answer> => client.post(`${path}/encrypt`, { plaintext: PLAINTEXT });
  for (const answer of await Promise.all(clients.map(encrypt))) expect(answer.status).toBe(200);
  expect((await admin.post(`${path}/deactivate`)).status).toBe(204);
  for (const answer of await Promise.all(clients.map(encrypt))) expectRefusal(answer, 'wrong-state', 'deactivated');
  expect((await admin.call('DELETE', path)).status).toBe(204);
  for (const answer of await Promise.all(clients.map(encrypt))) expectRefusal(answer, 'not-found');
  await Promise.all(clients.map((client) => client.close()));
});

test('destroying a key leaves other keys alone', async () => {
  const [gone, stays] = [await usesOf(OCT), await usesOf(OCT)];
  expect((await admin.post(`${gone.path}/deactivate`)).status).toBe(204);
  expect((await admin.call('DELETE', gone.path)).status).toBe(204);
  await expectAllWork(stays.uses);
});
