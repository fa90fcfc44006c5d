// The published client for Entra ID gets tokens of our issuer, with the CA as its only setting, and they are good at a door.

import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { makeKey, OCT } from '../api/okms/support.ts';
import { asBearer } from '../support/bearer.ts';
import type { Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { type AddedClient, addTokenClient } from '../support/token-client.ts';

let kms: Installation;
let admin: Client;
let nobody: Client;
let client: AddedClient;

serve((served) => {
  ({ kms, admin } = served);
  nobody = kms.client(null);
});
beforeAll(async () => { client = await addTokenClient(kms, '--subject', 'backup-job', '--role', 'Key Vault Crypto User'); });
afterAll(() => nobody.close());

interface Told {
  readonly token?: string;
  readonly expiresOnTimestamp?: number;
  readonly name?: string;
  readonly message?: string;
}

async function identity(how: Partial<AddedClient> = {}): Promise<Told> {
  const environment = {
    PATH: process.env['PATH'],
    NODE_EXTRA_CA_CERTS: kms.admin.ca,
    CLIENT: JSON.stringify({ ...client, authorityHost: `https://localhost:${kms.port}`, ...how }),
  };
  const { stdout } = await promisify(execFile)(process.execPath, [resolve('test/support/azure-identity.mjs')], { env: environment });
  return JSON.parse(stdout) as Told;
}

test('ClientSecretCredential gets a token that opens a door and verifies against the served keys', async () => {
  const { token = '', expiresOnTimestamp = 0, ...wrong } = await identity();
  expect(wrong).toMatchObject({ tokenType: 'Bearer' });
  expect(Math.abs(expiresOnTimestamp - Date.now() - 3_600_000)).toBeLessThan(30_000);

  const authority = `https://localhost:${kms.port}/${client.tenantId}`;
  const metadata = await nobody.get(`${authority}/v2.0/.well-known/openid-configuration`);
  const keys = await nobody.get((metadata.json as { jwks_uri: string }).jwks_uri);
  const { payload } = await jwtVerify(token, createLocalJWKSet(keys.json as JSONWebKeySet), {
    algorithms: ['ES256'], issuer: `${authority}/v2.0`, audience: `https://localhost:${kms.port}`,
  });
  expect(payload).toMatchObject({ sub: 'backup-job', tid: client.tenantId });

  const path = `/servicekey/${await makeKey(admin, OCT)}`;
  const { status, json } = await asBearer(nobody, token, 'POST', `${path}/encrypt`, { plaintext: 'AAAA' });
  expect(status).toBe(200);
  expect((await asBearer(nobody, token, 'POST', `${path}/decrypt`, json as object)).json).toEqual({ plaintext: 'AAAA' });
  expect((await asBearer(nobody, token, 'POST', `${path}/deactivate`, {})).status).toBe(403);
});

test('it is told of a wrong secret, a foreign scope and a foreign tenant', async () => {
  expect(await identity({ clientSecret: 'wrong' })).toMatchObject({ name: 'AuthenticationRequiredError', message: expect.stringContaining('invalid_client') });
  expect(await identity({ scope: 'https://vault.azure.net/.default' })).toMatchObject({ name: 'AuthenticationRequiredError', message: expect.stringContaining('invalid_scope') });
  const { name, token } = await identity({ tenantId: '00000000-0000-4000-8000-000000000000' });
  expect({ name, token }).toEqual({ name: 'CredentialUnavailableError', token: undefined });
});
