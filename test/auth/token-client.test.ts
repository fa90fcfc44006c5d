// `kms token client`: what it prints, what it leaves in the store and in the audit, and what it refuses.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { auditRecords } from '../support/audit-records.ts';
import { asBearer, baseOf } from '../support/bearer.ts';
import { type Ended, runKms } from '../support/files.ts';
import type { Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { addTokenClient, askToken, grantForm } from '../support/token-client.ts';

let kms: Installation;
let nobody: Client;

serve((served) => {
  ({ kms } = served);
  nobody = kms.client(null);
});
afterAll(() => nobody.close());

const clients = (...args: readonly string[]): Promise<Ended> => runKms(kms.environment, 'token', 'client', ...args);

function rows(): readonly { id: string; subject: string; secret_hash: Buffer; revoked_ms: number | null }[] {
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  try {
    return db.prepare('select id, subject, secret_hash, revoked_ms from token_client').all() as ReturnType<typeof rows>;
  } finally {
    db.close();
  }
}

test('add prints id and secret once; the store has its digest, the audit neither', async () => {
  const { code, stdout, stderr } = await clients('add', '--subject', 'printed');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const [, id = '', secret = ''] = /^client ([0-9a-f-]{36})\nsecret ([\w-]{43})\ntenant [0-9a-f-]{36}\nendpoint https:\S+\nscope https:\S+\n$/.exec(stdout) ?? [];
  expect(rows().find((row) => row.id === id)).toEqual({ id, subject: 'printed', secret_hash: createHash('sha256').update(secret).digest(), revoked_ms: null });
  const records = auditRecords(kms);
  expect(records.find(({ detail }) => detail?.['client'] === id)).toMatchObject({
    event: 'token.client.add', result: 'success', principal: { method: 'operator' }, detail: { client: id, subject: 'printed' },
  });
  expect(JSON.stringify(records)).not.toContain(secret);
  expect((await clients('list')).stdout).not.toContain(secret);
});

test('two secrets differ, and each is good for its own client', async () => {
  const [one, two] = [await addTokenClient(kms, '--subject', 'same'), await addTokenClient(kms, '--subject', 'same')];
  expect(one.clientSecret).not.toBe(two.clientSecret);
  expect((await askToken(nobody, one, grantForm(one))).status).toBe(200);
  expect((await askToken(nobody, one, { ...grantForm(one), client_id: two.clientId })).status).toBe(401);
});

test('roles are assignments of the subject, in the vault that is named', async () => {
  const client = await addTokenClient(kms, '--subject', 'lister', '--role', 'Key Vault Reader', '--role', 'key-vault-crypto-user', '--vault', 'dev-premium');
  const { access_token: token } = (await askToken(nobody, client, grantForm(client))).json as { access_token: string };
  expect((await asBearer(nobody, token, 'GET', `${await baseOf(kms, 'dev-premium')}/servicekey`)).status).toBe(200);
  expect((await asBearer(nobody, token, 'GET', '/servicekey')).status).toBe(403);
  const given = auditRecords(kms).filter(({ event, detail }) => event === 'role.assign' && detail?.['subject'] === 'lister');
  expect(given.map(({ detail }) => detail?.['role'])).toEqual(['key-vault-reader', 'key-vault-crypto-user']);
});

test('list shows who there is and who is revoked; a revoked client gets no more tokens', async () => {
  const client = await addTokenClient(kms, '--subject', 'passing');
  expect((await clients('list')).stdout).toMatch(new RegExp(`^${client.clientId} passing, made [-0-9T:.]+Z$`, 'm'));
  expect(await clients('revoke', client.clientId)).toEqual({ code: 0, stdout: '', stderr: '' });
  expect((await askToken(nobody, client, grantForm(client))).json).toMatchObject({ error: 'invalid_client' });
  expect((await clients('list')).stdout).toMatch(new RegExp(`^${client.clientId} passing, made \\S+, revoked [-0-9T:.]+Z$`, 'm'));
  const listed = JSON.parse((await clients('list', '--output', 'json')).stdout) as readonly { id: string }[];
  expect(listed.find(({ id }) => id === client.clientId)).toEqual({ id: client.clientId, subject: 'passing', createdMs: expect.any(Number), revokedMs: expect.any(Number) });
  expect(auditRecords(kms).find(({ event, detail }) => event === 'token.client.revoke' && detail?.['client'] === client.clientId)).toMatchObject({ result: 'success', principal: { method: 'operator' } });
  expect(await clients('revoke', client.clientId)).toEqual({ code: 1, stdout: '', stderr: expect.stringContaining('or it is revoked') });
});

test.each<[string, readonly string[], string]>([
  ['add without a subject', ['add'], '--subject'],
  ['add with an empty subject', ['add', '--subject', ''], '--subject'],
  ['add with a long subject', ['add', '--subject', 'a'.repeat(257)], '--subject'],
  ['add with an unknown role', ['add', '--subject', 'refused', '--role', 'king'], 'key-vault-reader'],
  ['add with an unknown vault', ['add', '--subject', 'refused', '--vault', 'team-z'], 'team-z'],
  ['revoke without an id', ['revoke'], 'id'],
  ['revoke of an unknown client', ['revoke', '00000000-0000-4000-8000-000000000000'], 'no client'],
])('%s is refused', async (_name, args, word) => {
  const { code, stdout, stderr } = await clients(...args);
  expect({ stdout, stderr, failed: code !== 0 }).toEqual({ stdout: '', stderr: expect.stringContaining(word), failed: true });
  expect(rows().some(({ subject }) => subject === 'refused')).toBe(false);
});

test('the audit is intact after all of it', async () => {
  expect((await runKms(kms.environment, 'audit', 'verify')).code).toBe(0);
});
