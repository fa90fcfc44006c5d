// The token endpoint when what is behind it fails: nobody gets a token, and everybody is told to come again.

import { createHash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { auditRecords } from '../support/audit-records.ts';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { serve } from '../support/served.ts';
import { type AddedClient, addTokenClient, askToken, grantForm } from '../support/token-client.ts';

let kms: Installation;
let nobody: Client;
let client: AddedClient;

serve((served) => {
  ({ kms } = served);
  nobody = kms.client(null);
});
beforeAll(async () => { client = await addTokenClient(kms, '--subject', 'job'); });
afterAll(() => nobody.close());

const ask = (of: AddedClient = client): Promise<Answer> => askToken(nobody, of, grantForm(of));

function expectUnavailable({ status, json, headers }: Answer): void {
  expect({ status, json }).toEqual({ status: 503, json: { error: 'temporarily_unavailable', error_description: expect.any(String) } });
  expect(Number(headers['retry-after'])).toBeGreaterThan(0);
}

/** As somebody who can write to the database. */
function behind(statement: string, ...values: readonly unknown[]): void {
  const db = new Database(join(kms.home, 'kms.db'));
  try {
    expect(db.prepare(statement).run(...values).changes).toBe(1);
  } finally {
    db.close();
  }
}

test('while the HSM is away: 503, recorded as failed, and none of it remains when it is back', async () => {
  const tokens = join(kms.home, 'softhsm', 'tokens');
  renameSync(tokens, `${tokens}-away`);
  try {
    await eventually('the HSM is missed', async () => (await ask()).status === 503);
    await eventually('it is the HSM that is asked for', async () => {
      const answer = await ask();
      expectUnavailable(answer);
      const record = auditRecords(kms).find(({ requestId }) => requestId === answer.headers['x-request-id']);
      return record?.event === 'token.issue' && record.result === 'failed' && record.reason === 'token-unavailable';
    });
  } finally {
    renameSync(`${tokens}-away`, tokens);
  }
  await eventually('it works again', async () => (await ask()).status === 200);
});

test.each<[string, string, (of: AddedClient) => unknown]>([
  ['another secret', 'update token_client set secret_hash = ? where id = ?', () => createHash('sha256').update('mine').digest()],
  ['another subject', 'update token_client set subject = ? where id = ?', () => 'owner of all'],
  ['a revocation that is taken back', 'update token_client set revoked_ms = ? where id = ?', () => null],
])('%s, written behind the back of the store, gets no token', async (name, statement, value) => {
  const victim = await addTokenClient(kms, '--subject', 'victim');
  expect((await ask(victim)).status).toBe(200);
  if (name.startsWith('a revocation')) await kms.command('token', 'client', 'revoke', victim.clientId);
  behind(statement, value(victim), victim.clientId);
  for (const clientSecret of [victim.clientSecret, 'mine']) expectUnavailable(await ask({ ...victim, clientSecret }));
  expect((await ask()).status).toBe(200);
});
