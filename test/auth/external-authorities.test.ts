// Client certificates of a CA of the operator's own (security S-13): by configured mapping, checked on every request.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { externalAuthority } from '../../src/auth/external-authority.ts';
import { type Client, Installation } from '../support/installation.ts';
import { OwnCa, SERVER_AUTH, type Shape } from '../support/own-ca.ts';
import { eventually } from '../support/wait.ts';
import { expectRefusal, OCT } from '../api/okms/support.ts';

let kms: Installation;
let ca: OwnCa;
let byUri: OwnCa;
const clients: Client[] = [];

beforeAll(async () => {
  [ca, byUri] = [await OwnCa.make('Ops CA'), await OwnCa.make('Mesh CA')];
  const authorities = [
    { name: 'ops', certificateFile: 'ops.pem', crlFile: 'ops.crl', vault: 'dev' },
    { name: 'mesh', certificateFile: 'mesh.pem', subject: 'uri' },
  ];
  kms = await Installation.make({ KMS_ACCESS_AUTHORITIES: JSON.stringify(authorities), KMS_SERVER_PROCESSES: '1' });
  writeFileSync(join(kms.home, 'ops.pem'), ca.certificate);
  writeFileSync(join(kms.home, 'mesh.pem'), byUri.certificate);
  await publish([]);
  await kms.command('role', 'assign', '--certificate', 'alice', '--issuer', 'ops', '--role', 'key-vault-crypto-officer', '--vault', 'dev');
  await kms.command('role', 'assign', '--certificate', 'spiffe://mesh/web', '--issuer', 'mesh', '--role', 'key-vault-reader', '--vault', 'dev');
  await kms.start();
});

afterAll(async () => {
  for (const client of clients) await client.close();
  await kms.remove();
});

async function publish(serials: readonly string[], until?: number): Promise<void> {
  writeFileSync(join(kms.home, 'ops.crl'), await ca.crl(serials, until));
}

async function clientOf(shape: Shape, of = ca): Promise<{ readonly client: Client; readonly serial: string }> {
  const { serial, ...pair } = await of.issue(shape);
  const client = kms.client(pair);
  clients.push(client);
  return { client, serial };
}

const statusFor = async (client: Client): Promise<number> => (await client.get('/servicekey')).status;

/** For so many seconds that it is used before it is over, on any machine. */
async function almostOver(): Promise<Client> {
  for (let seconds = 3; ; seconds *= 2) {
    const { client } = await clientOf({ cn: 'alice', until: seconds });
    if ((await statusFor(client)) === 200) return client;
  }
}

const keys = (): string => `https://localhost:${kms.port}/keys?api-version=7.4`;

test('the subject has its roles in the vault of the CA, at both doors, and in no other', async () => {
  const { client } = await clientOf({ cn: 'alice' });
  const made = await client.post(`https://localhost:${kms.port}/v1/servicekey`, { name: 'k', ...OCT });
  expect(made.status).toBe(201);
  expect((await client.get(keys())).status).toBe(200);
  const premium = await client.get(`https://dev-premium.localhost:${kms.port}/keys?api-version=7.4`).catch(() => undefined);
  if (premium !== undefined) expect(premium.status).toBe(403);
});

test('the same name from another CA, or in our own certificates, is somebody else', async () => {
  const { client } = await clientOf({ cn: 'bob' });
  expectRefusal(await client.get('/servicekey'), 'forbidden', 'permission');
  const { client: other } = await clientOf({ cn: 'x', san: [{ type: 'url', value: 'alice' }] }, byUri);
  expect((await other.get(keys())).status).toBe(403);
});

test('a CA without a vault: its subjects have roles at the Key Vault door, and no vault at the other', async () => {
  const { client } = await clientOf({ cn: 'ignored', san: [{ type: 'url', value: 'spiffe://mesh/web' }, { type: 'dns', value: 'web' }] }, byUri);
  expect((await client.get(keys())).status).toBe(200);
  expectRefusal(await client.get(`https://localhost:${kms.port}/v1/servicekey`), 'unauthenticated', 'names no vault');
});

describe('401 for', () => {
  test.each<[string, Shape]>([
    ['a certificate for servers', { cn: 'alice', usages: [SERVER_AUTH] }], ['one for nothing', { cn: 'alice', usages: [] }],
    ['one that is over', { cn: 'alice', until: -1 }], ['one that is not valid yet', { cn: 'alice', from: 3000 }], ['one without a name', { cn: '' }],
  ])('%s', async (_name, shape) => {
    const { client } = await clientOf(shape);
    expect((await client.get('/servicekey')).status).toBe(401);
    expect((await client.get(keys())).status).toBe(401);
  });

  test.each<[string, Shape['san']]>([
    ['no name of the type', [{ type: 'dns', value: 'web' }]],
    ['two of them', [{ type: 'url', value: 'spiffe://mesh/web' }, { type: 'url', value: 'spiffe://mesh/root' }]],
  ])('%s', async (_name, san = []) => {
    const { client } = await clientOf({ san }, byUri);
    expect((await client.get(keys())).status).toBe(401);
  });

  test('a certificate that expires while its connection is open', async () => {
    const client = await almostOver();
    await eventually('it is over', async () => (await statusFor(client)) === 401);
    expectRefusal(await client.get('/servicekey'), 'unauthenticated', 'expired');
  });

  test('a certificate that is revoked while its connection is open, within two seconds, and on a new connection', async () => {
    const { client, serial } = await clientOf({ cn: 'alice' });
    const { client: other } = await clientOf({ cn: 'alice' });
    expect((await client.get('/servicekey')).status).toBe(200);
    await publish([serial]);
    // What is promised, and not a guess at the machine: it is the next request that looks.
    await sleep(2000);
    expectRefusal(await client.get('/servicekey'), 'unauthenticated', 'not acceptable');
    expect((await other.get('/servicekey')).status).toBe(200);
    // Half a file changes nothing, and neither does the list of another CA.
    for (const text of ['-----BEGIN X509 CRL-----\nAAAA', await byUri.crl([])]) {
      writeFileSync(join(kms.home, 'ops.crl'), text);
      // The file is looked at every second.
      await sleep(1500);
      expect([await statusFor(client), await statusFor(other)]).toEqual([401, 200]);
    }
    await publish([]);
    await eventually('the list is read', async () => (await statusFor(client)) === 200);
  });

  test('in prod, a list that is overdue refuses everybody, and in dev nobody but whom it names', async () => {
    const file = join(kms.home, 'overdue.crl');
    writeFileSync(file, await ca.crl(['7abc'], -1));
    const settings = { certificate: ca.certificate, crlFile: file, subject: 'cn', vault: null } as const;
    const [prod, dev] = [await externalAuthority(settings, 'refuse'), await externalAuthority(settings, 'accept')];
    await expect(prod.assertNotRevoked('7def', Date.now())).rejects.toMatchObject({ code: 'unauthenticated', rule: 'crl-stale' });
    await dev.assertNotRevoked('7def', Date.now());
    for (const of of [prod, dev]) await expect(of.assertNotRevoked('7abc', Date.now())).rejects.toMatchObject({ rule: 'certificate-revoked' });
  });

  test('an access token beside a certificate that does not hold, and the other way round', async () => {
    const { stdout: token } = await kms.command('token', 'issue', '--subject', 'carol', '--role', 'owner');
    const bearer = (client: Client, text: string) => client.call('GET', '/servicekey', undefined, { authorization: `Bearer ${text}` });
    const { client } = await clientOf({ cn: 'alice' });
    expect((await bearer(client, token.trim())).status).toBe(200);
    expect((await bearer(client, `${token.trim()}x`)).status).toBe(401);
    const { client: late } = await clientOf({ cn: 'alice', until: -1 });
    expect((await bearer(late, token.trim())).status).toBe(401);
  });
});
