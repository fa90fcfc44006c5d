/** `kms vault`: made and changed beside running servers, which go by it at once and answer under the new names. */

import { constants, createCipheriv, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { expectRefusal, makeKey, RSA } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { rows } from '../support/form.ts';
import type { Client, Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { type Engine, kmsCommand, makeOn, type TestStore } from './support.ts';

interface Shown {
  readonly id: string;
  readonly name: string;
  readonly revision: number;
}

const MADE = ['--flavour', 'premium', '--backup', 'never'] as const;

describe.each<Engine>(['SQLite', 'PostgreSQL'])('on %s', (engine) => {
  let kms: Installation;
  let store: TestStore;
  let admin: Client;
  const vault = (...args: readonly string[]): ReturnType<typeof kmsCommand> => kmsCommand(kms, 'vault', ...args);
  const shown = async (...args: readonly string[]): Promise<Shown> => {
    const { code, stdout, stderr } = await vault(...args, '--output', 'json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return JSON.parse(stdout) as Shown;
  };

  beforeAll(async () => {
    ({ kms, store } = await makeOn(engine));
    await kms.start();
    admin = kms.client();
  }, 120_000);

  afterAll(async () => {
    await admin.close();
    await kms.remove();
    await store.drop();
  });

  test('the development set-up has two, and a new one is the last', async () => {
    const made = await shown('create', 'team-a', ...MADE, '--cbc', '--soft-delete-days', '30');
    expect(made).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/), name: 'team-a', flavour: 'premium', backup: 'never', softDeleteDays: 30, profile: 'standard',
      purgeProtection: false, cbc: true, rsa15: false, rsnull: false, compromiseRule: 'reversible', keyQuota: null, createdMs: expect.any(Number), revision: 0,
    });
    expect(await shown('show', 'team-a')).toEqual(made);
    const { stdout } = await vault('list', '--output', 'json');
    expect((JSON.parse(stdout) as Shown[]).map(({ name }) => name)).toEqual(['dev', 'dev-premium', 'team-a']);
    expect((await vault('list')).stdout).toContain(`team-a premium ${made.id}`);
  });

  test('what changed is shown, and in the audit with who did it', async () => {
    const { id } = await shown('show', 'team-a');
    expect(await shown('update', 'team-a', '--rsnull', '--no-cbc', '--purge-protection', '--compromise-rule', 'final')).toMatchObject({
      id, revision: 1, cbc: false, rsnull: true, rsa15: false, purgeProtection: true, compromiseRule: 'final',
    });
    expect(await shown('update', 'team-a', '--rsnull')).toMatchObject({ revision: 1 });
    const records = auditRecords(kms).filter(({ event }) => event.startsWith('vault.'));
    expect(records.map(({ event, result, detail }) => [event, result, detail?.['name'], detail?.['revision']]).sort()).toEqual([
      ['vault.create', 'success', 'team-a', 0], ['vault.update', 'success', 'team-a', 1],
    ]);
  });

  test('each server process answers under the name of the new vault, without a restart', async () => {
    const { port } = kms;
    const ca = readFileSync(kms.admin.ca, 'utf8');
    const names = (): Promise<string> => new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', servername: 'team-a.localhost', ca }, () => {
        resolve(socket.getPeerX509Certificate()?.subjectAltName ?? '');
        socket.destroy();
      });
      socket.once('error', reject);
    });
    process.kill(kms.pid, 'SIGHUP');
    await eventually('both have it', async () => (await Promise.all([names(), names(), names(), names()].map((asked) => asked.catch(() => ''))))
      .every((list) => list.includes('DNS:team-a.localhost') && list.includes('DNS:dev.localhost') && list.includes('IP Address:127.0.0.1')));
  });

  test('a switch that is turned off is off with the next request', async () => {
    const id = await makeKey(admin, { ...RSA, operations: ['wrapKey', 'unwrapKey'] });
    const { n, e } = ((await admin.get(`/servicekey/${id}?format=jwk`)).json.keys as [{ n: string; e: string }])[0];
    const key = createPublicKey({ key: { kty: 'RSA', n, e }, format: 'jwk' });
    const wrapped = (): object => {
      const [contentKey, iv] = [randomBytes(32), randomBytes(12)];
      const header = Buffer.from(JSON.stringify({ alg: 'RSA1_5', enc: 'A256GCM' })).toString('base64url');
      const cipher = createCipheriv('aes-256-gcm', contentKey, iv).setAAD(Buffer.from(header));
      const body = Buffer.concat([cipher.update(randomBytes(32)), cipher.final()]);
      const sealed = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, contentKey);
      const ciphertext = [header, ...[sealed, iv, body, cipher.getAuthTag()].map((part) => part.toString('base64url'))].join('.');
      return { name: 'wrapped', wrappedKeys: [{ keyFormatType: 'RAW', wrappingKeyId: id, ciphertext }] };
    };
    expect((await admin.post('/servicekey', wrapped())).status).toBe(201);
    await shown('update', 'dev', '--no-rsa1-5');
    const answers = await Promise.all(Array.from({ length: 8 }, () => admin.post('/servicekey', wrapped())));
    for (const answer of answers) expectRefusal(answer, 'invalid-field', 'RSA-OAEP');
    await shown('update', 'dev', '--rsa1-5');
    expect((await admin.post('/servicekey', wrapped())).status).toBe(201);
  });

  // Most are refused before a database is looked at.
  test.each(rows<[string, readonly string[], number, string]>([
    ['a name that is taken', ['create', 'dev', ...MADE], 1, 'there is a vault dev'],
    ['a short name', ['create', 'ab', ...MADE], 2, 'NAME'],
    ['a long name', ['create', 'a'.repeat(25), ...MADE], 2, 'NAME'],
    ['upper case', ['create', 'Team', ...MADE], 2, 'NAME'],
    ['a dash at the end', ['create', 'team-', ...MADE], 2, 'NAME'],
    ['two dashes', ['create', 'te--am', ...MADE], 2, 'NAME'],
    ['a dot', ['create', 'te.am', ...MADE], 2, 'NAME'],
    ['no flavour', ['create', 'team-b', '--backup', 'never'], 2, '--flavour'],
    ['no word on backup', ['create', 'team-b', '--flavour', 'premium'], 2, '--backup'],
    ['an unknown flavour', ['create', 'team-b', '--flavour', 'gold', '--backup', 'never'], 2, '--flavour'],
    ['6 days', ['create', 'team-b', ...MADE, '--soft-delete-days', '6'], 2, '--soft-delete-days'],
    ['91 days', ['create', 'team-b', ...MADE, '--soft-delete-days', '91'], 2, '--soft-delete-days'],
    ['no days', ['create', 'team-b', ...MADE, '--soft-delete-days', 'many'], 2, '--soft-delete-days'],
    ['fips with backup', ['create', 'team-b', '--flavour', 'premium', '--backup', 'allowed', '--profile', 'fips'], 2, '--backup'],
    ['fips with CBC', ['create', 'team-b', ...MADE, '--profile', 'fips', '--cbc'], 2, '--cbc'],
    ['fips with RSA1_5', ['create', 'team-b', ...MADE, '--profile', 'fips', '--rsa1-5'], 2, '--rsa1-5'],
    ['an unknown vault to show', ['show', 'team-z'], 1, 'team-z'],
    ['an unknown vault to change', ['update', 'team-z', '--cbc'], 1, 'team-z'],
    ['purge protection to be taken away', ['update', 'team-a', '--no-purge-protection'], 2, '--no-purge-protection'],
    ['another flavour', ['update', 'team-a', '--flavour', 'premium'], 2, '--flavour'],
  ], engine === 'SQLite' ? 2 : 5))('%s is refused, and nothing is made', async (_name, args, code, word) => {
    const before = await store.rows('select seq from head');
    const ended = await vault(...args);
    expect({ code: ended.code, stdout: ended.stdout, stderr: ended.stderr }).toEqual({ code, stdout: '', stderr: expect.stringContaining(word) });
    expect(await store.rows('select seq from head')).toEqual(before);
  });

  test('the audit and the store are whole after all this', async () => {
    await admin.close();
    expect(await kms.stop()).toBe(0);
    expect(await kmsCommand(kms, 'audit', 'verify')).toMatchObject({ code: 0, stdout: expect.stringContaining('the audit is intact') });
    expect(await kmsCommand(kms, 'reconcile', '--report')).toMatchObject({ code: 0 });
    const [owed] = await store.rows(`select count(*) as n from journal where recorded = 0 and request_id <> 'init'`);
    expect(Number(owed?.['n'])).toBe(0);
  });

  test('a certificate that lacks a name is renewed at the start, with the key it has', async () => {
    const files = ['server.pem', 'server.key'].map((name) => join(kms.home, 'tls', name));
    const [pem = '', key = ''] = files.map((file) => readFileSync(file, 'utf8'));
    expect(pem).toContain('BEGIN CERTIFICATE');
    const { stdout } = await vault('create', 'team-c', ...MADE);
    expect(stdout).toContain('team-c');
    await kms.start();
    await eventually('renewed', () => Promise.resolve(readFileSync(files[0]!, 'utf8') !== pem));
    expect(readFileSync(files[1]!, 'utf8')).toBe(key);
    expect(await kms.stop()).toBe(0);
  });
});
