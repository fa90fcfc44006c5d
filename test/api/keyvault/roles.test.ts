// Managed HSM local RBAC (azure-keyvault-keys-api §6.3): definitions and assignments, in the managed HSM that they are of.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { keyVaultDocument } from '../../../src/api/keyvault/document.ts';
import { keyVaultRoutes } from '../../../src/api/keyvault/routes.ts';
import { issueToken } from '../../support/bearer.ts';
import { Documented } from '../../support/documented.ts';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectOk, expectRefusal, KeyVault } from './support.ts';

const NOTHING = new Proxy({}, { get: () => NOTHING }) as never;
const documented = new Documented(keyVaultDocument, keyVaultRoutes(NOTHING));
const PROVIDER = '/providers/Microsoft.Authorization';
const CRYPTO_USER = '21dbd100-6940-42c2-9190-5d6cb909625b';
const CRYPTO_OFFICER = '515eb02d-2335-4d2d-92f2-b1cbdf9c3778';

let kms: Installation;
let client: Client;
let officer: KeyVault;
let alice: KeyVault;

serve(async (served) => {
  ({ kms, admin: client } = served);
  client = kms.client(null);
  officer = await KeyVault.of(client, kms, 'dev', '--subject', 'officer', '--role', 'Managed HSM Policy Administrator');
  alice = new KeyVault(client, kms.port, 'dev', await issueToken(kms, '--subject', 'alice'));
  const owner = await KeyVault.of(client, kms, 'dev');
  for (const name of ['one', 'two']) await owner.create(name, { kty: 'EC-HSM', crv: 'P-256' });
});

const definitionId = (id: string): string => `Microsoft.KeyVault${PROVIDER}/roleDefinitions/${id}`;
const assign = (principalId: string, role: string, scope = '', id = randomUUID()) =>
  officer.put(`${scope}${PROVIDER}/roleAssignments/${id}`, { properties: { roleDefinitionId: definitionId(role), principalId } });

test('the built-in definitions, with their data actions', async () => {
  const answer = await officer.get(`/${PROVIDER}/roleDefinitions`);
  documented.expectAnswer('GET', `${PROVIDER}/roleDefinitions`, answer);
  const { value } = expectOk(answer) as { value: { name: string; properties: { roleName: string; type: string; permissions: { dataActions: string[] }[] } }[] };
  const user = value.find(({ name }) => name === CRYPTO_USER)!;
  expect(user.properties).toMatchObject({ roleName: 'Managed HSM Crypto User', type: 'AKVBuiltInRole' });
  expect(user.properties.permissions[0]!.dataActions).toEqual(expect.arrayContaining([
    'Microsoft.KeyVault/managedHsm/keys/sign/action', 'Microsoft.KeyVault/managedHsm/keys/write/action', 'Microsoft.KeyVault/managedHsm/rng/action',
  ]));
  const reader = value.find(({ name }) => name === '2c18b078-7c48-4d3a-af88-5a3a1b3f82b3')!;
  expect(reader.properties.permissions[0]!.dataActions).toEqual(['Microsoft.KeyVault/managedHsm/keys/read/action']);
  expect(value).toHaveLength(9);
});

test('an assignment gives a role at once, for everything or for a key, and its removal takes it', async () => {
  expectRefusal(await alice.get('/keys/one'), { status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac', words: 'key/get' });
  const id = randomUUID();
  const made = await assign('alice', CRYPTO_USER, '/keys/one', id);
  documented.expectAnswer('PUT', `/keys/{name}${PROVIDER}/roleAssignments/{id}`, made);
  expect(made.json).toMatchObject({ name: id, properties: { scope: '/keys/one', principalId: 'alice', roleDefinitionId: `${PROVIDER}/roleDefinitions/${CRYPTO_USER}` } });
  expect((await alice.get('/keys/one')).status).toBe(200);
  expect((await alice.get('/keys/two')).status).toBe(403);
  expectRefusal(await assign('alice', CRYPTO_USER, '/keys/one'), { status: 409, code: 'Conflict', words: 'exists already' });
  const wide = await assign('alice', CRYPTO_OFFICER, '/keys');
  expect(wide.status).toBe(201);
  const filtered = await officer.get(`${PROVIDER}/roleAssignments?$filter=principalId%20eq%20'alice'`);
  expect((filtered.json.value as { name: string }[]).map(({ name }) => name).sort()).toEqual([id, wide.json.name].sort());
  expect((await officer.get(`/keys/one${PROVIDER}/roleAssignments`)).json.value).toHaveLength(1);
  expect((await officer.get(`${PROVIDER}/roleAssignments/${id}`)).json).toEqual(made.json);
  const removed = await officer.delete(`/keys/one${PROVIDER}/roleAssignments/${id}`);
  documented.expectAnswer('DELETE', `/keys/{name}${PROVIDER}/roleAssignments/{id}`, removed);
  expect((await alice.get('/keys/one')).status).toBe(403);
  expect((await officer.get(`${PROVIDER}/roleAssignments/${id}`)).status).toBe(404);
  expect((await officer.delete(`${PROVIDER}/roleAssignments/${id}`)).status).toBe(404);
});

test('a definition of its own: made, used, changed, and removed when nobody has it', async () => {
  const id = randomUUID();
  const put = (dataActions: readonly string[]) => officer.put(`${PROVIDER}/roleDefinitions/${id}`, {
    properties: { roleName: 'Signer', description: 'signs', permissions: [{ actions: [], dataActions: [...dataActions] }], assignableScopes: ['/'] },
  });
  const sign = 'Microsoft.KeyVault/managedHsm/keys/sign/action';
  const made = await put([sign]);
  documented.expectAnswer('PUT', `${PROVIDER}/roleDefinitions/{id}`, made);
  expect(made.json.properties).toMatchObject({ roleName: 'Signer', type: 'CustomRole', permissions: [{ dataActions: [sign] }] });
  const given = await assign('alice', id);
  expect((await alice.get('/keys/two')).status).toBe(403);
  await put([sign, 'Microsoft.KeyVault/managedHsm/keys/read/action']);
  expect((await alice.get('/keys/two')).status).toBe(200);
  expectRefusal(await officer.delete(`${PROVIDER}/roleDefinitions/${id}`), { status: 409, code: 'Conflict', words: 'somebody has this role' });
  await officer.delete(`${PROVIDER}/roleAssignments/${String(given.json.name)}`);
  expect((await officer.delete(`${PROVIDER}/roleDefinitions/${id}`)).status).toBe(200);
  expect((await officer.get(`${PROVIDER}/roleDefinitions/${id}`)).status).toBe(404);
});

test('bad input names the field; owner, roles of vaults and other managed HSMs are out of reach', async () => {
  for (const [role, principal, words] of [[randomUUID(), 'x', 'roleDefinitionId'], ['owner', 'x', 'roleDefinitionId'], ['14b46e9e-c2b7-41b4-b07b-48a6ebf60603', 'x', 'roleDefinitionId'], [CRYPTO_USER, 'group:', 'principalId']] as const) {
    expectRefusal(await assign(principal, role), { status: 400, code: 'BadParameter', words });
  }
  expectRefusal(await assign('x', CRYPTO_USER, '/keys/nothing'), { status: 400, code: 'BadParameter', words: 'scope' });
  // Who may not is told so before what it sent is looked at.
  const nobody = new KeyVault(client, kms.port, 'dev', await issueToken(kms, '--subject', 'nobody'));
  expectRefusal(await nobody.put(`${PROVIDER}/roleDefinitions/${randomUUID()}`, {}), { status: 403, code: 'Forbidden', inner: 'ForbiddenByRbac', words: 'role/definition/update' });
  expectRefusal(await officer.put(`${PROVIDER}/roleAssignments/no-uuid`, {}), { status: 400, code: 'BadParameter', words: 'name' });
  const unknown = { properties: { roleName: 'X', permissions: [{ dataActions: ['Microsoft.KeyVault/managedHsm/keys/fly/action'] }] } };
  expectRefusal(await officer.put(`${PROVIDER}/roleDefinitions/${randomUUID()}`, unknown), { status: 400, code: 'BadParameter', words: 'permission' });
  const builtIn = { properties: { roleName: 'Managed HSM Crypto User', permissions: [] } };
  expectRefusal(await officer.put(`${PROVIDER}/roleDefinitions/${randomUUID()}`, builtIn), { status: 400, code: 'BadParameter', words: 'roleName' });
  const premium = await KeyVault.of(client, kms, 'dev-premium');
  expect((await premium.get(`${PROVIDER}/roleAssignments`)).status).toBe(404);
  await kms.command('vault', 'create', 'second', '--flavour', 'managed-hsm', '--backup', 'never');
  // Its host name is in the certificate of the server from the next look on.
  process.kill(kms.pid, 'SIGHUP');
  const fresh = kms.client(null);
  const elsewhere = await KeyVault.of(fresh, kms, 'second');
  while (await elsewhere.get('/keys').then(() => false, () => true)) await sleep(200);
  const mine = await assign('bob', CRYPTO_OFFICER);
  const { value } = expectOk(await elsewhere.get(`${PROVIDER}/roleAssignments`)) as { value: { name: string }[] };
  expect(value.map(({ name }) => name)).not.toContain(mine.json.name);
  expect((await elsewhere.delete(`${PROVIDER}/roleAssignments/${String(mine.json.name)}`)).status).toBe(404);
  // The name of a role of one is free in another, and its id is not to be had.
  const role = (permission: string) => ({ properties: { roleName: 'Auditor of keys', permissions: [{ dataActions: [`Microsoft.KeyVault/managedHsm/keys/${permission}/action`] }] } });
  const id = randomUUID();
  expect((await officer.put(`${PROVIDER}/roleDefinitions/${id}`, role('sign'))).status).toBe(201);
  expect((await elsewhere.put(`${PROVIDER}/roleDefinitions/${randomUUID()}`, role('read'))).status).toBe(201);
  expect((await elsewhere.put(`${PROVIDER}/roleDefinitions/${id}`, role('verify'))).status).toBe(409);
  expect((await elsewhere.get(`${PROVIDER}/roleDefinitions/${id}`)).status).toBe(404);
  await kms.command('role', 'assign', '--token', 'alice', '--role', 'auditor of keys', '--vault', 'second');
  const there = new KeyVault(fresh, kms.port, 'second', await issueToken(kms, '--subject', 'alice'));
  expect((await there.get('/keys')).status).toBe(200);
  expect((await there.post(`/keys/x/sign`, { alg: 'ES256', value: 'AAAA' })).status).toBe(403);
  await expect(kms.command('role', 'assign', '--token', 'alice', '--role', 'auditor of keys', '--vault', 'dev-premium')).rejects.toThrow('there is no role');
  await fresh.close();
});
