// Who may do what (security S-10, S-11, S-15): each built-in role × each route of the tables × own key, other key, key of
// another vault, key that is not there. A route without a scenario here fails; one without a declared permission does not
// compile, and one that asks for more than it declares is a 500.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { SignJWT } from 'jose';
import { stringify } from 'yaml';
import type { Route } from '../../src/api/door.ts';
import { keyVaultRoutes } from '../../src/api/keyvault/routes.ts';
import { okmsRoutes } from '../../src/api/okms/routes.ts';
import { FULL } from '../support/form.ts';
import { type Answer, type Client, Installation } from '../support/installation.ts';
import { RIGHTS } from './rights.ts';

const ISS = 'https://matrix.example/';
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const SOME = Buffer.alloc(16, 1).toString('base64');
const SOME_URL = Buffer.alloc(16, 1).toString('base64url');
const DIGEST = Buffer.alloc(32, 1);

/** Names of the keys of a vault: their OKMS ids, which are their names too. */
interface Keys {
  readonly oct: string;
  readonly ec: string;
  /** Sealed with `oct`. */
  readonly ciphertext: string;
  readonly dataKey: string;
  readonly cipher: { readonly value: string; readonly iv: string; readonly tag: string };
  readonly wrapped: string;
  readonly signature: string;
  /** Of `oct`, its first. */
  readonly version: string;
}

let kms: Installation;
let admin: Client;
let nobody: Client;
let dev: Keys;
let other: Keys;
/** A second set of `dev`. */
let second: Keys;
let premiumId: string;

beforeAll(async () => {
  const issuers = [{ name: 'matrix', issuer: ISS, algorithms: ['ES256'], jwksFile: 'keys.json' }];
  kms = await Installation.make({ KMS_ACCESS_ISSUERS: JSON.stringify(issuers) });
  writeFileSync(join(kms.home, 'keys.json'), JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] }));
  premiumId = (JSON.parse((await kms.command('vault', 'show', 'dev-premium', '--output', 'json')).stdout) as { id: string }).id;
  await kms.command('vault', 'update', 'dev-premium', '--cbc');
  await kms.start();
  [admin, nobody] = [kms.client(), kms.client(null)];
  await policy({});
  [dev, second] = [await makeKeys('dev'), await makeKeys('dev')];
  other = await makeKeys('dev-premium');
  await policy({ keyOf: dev });
  await root('keyvault', 'dev', { method: 'PUT', path: `${PROVIDER}/roleDefinitions/${randomUUID()}`, body: { properties: { roleName: 'Taken', permissions: [] } } });
});

afterAll(async () => {
  for (const client of [admin, nobody]) await client.close();
  await kms.remove();
});

/** Everybody's roles, in one file: in the whole of dev, and for the keys of a set alone. */
async function policy({ keyOf }: { readonly keyOf?: Keys }): Promise<void> {
  const names = Object.keys(RIGHTS);
  const file = join(kms.home, 'policy.yaml');
  writeFileSync(file, stringify({
    assignments: [
      { certificate: 'admin', role: 'owner', vault: '*' },
      { token: 'root', issuer: 'matrix', role: 'owner', vault: '*' },
      ...names.map((role) => ({ token: role, issuer: 'matrix', role, vault: 'dev' })),
      ...(keyOf === undefined ? [] : names.flatMap((role) =>
        [keyOf.oct, keyOf.ec].map((key) => ({ token: `key ${role}`, issuer: 'matrix', role, vault: 'dev', key })))),
    ],
  }));
  await kms.command('policy', 'apply', '--yes', file);
}

async function tokenOf(sub: string): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const aud = `https://localhost:${kms.port}`;
  return new SignJWT({ iss: ISS, aud, sub, nbf: now - 5, exp: now + 3000 }).setProtectedHeader({ alg: 'ES256', kid: 'k' }).sign(privateKey);
}

interface Ask {
  readonly method: Route['method'];
  readonly path: string;
  readonly body?: object;
}

/** Addressed to a vault, by the way of each door. */
async function ask(door: 'okms' | 'keyvault', vault: 'dev' | 'dev-premium', token: string, { method, path, body }: Ask): Promise<Answer> {
  const authorization = `Bearer ${token}`;
  const origin = `https://localhost:${kms.port}`;
  if (door === 'okms') {
    const id = vault === 'dev' ? kms.admin.okmsId : premiumId;
    return nobody.call(method, `${origin}/api/${id}/v1${path}`, body, { authorization });
  }
  const url = `${origin}${path}${path.includes('?') ? '&' : '?'}api-version=7.6`;
  return nobody.call(method, url, body, { authorization, host: `${vault}.localhost:${kms.port}` });
}

async function root(door: 'okms' | 'keyvault', vault: 'dev' | 'dev-premium', request: Ask): Promise<Answer['json']> {
  const { status, json, text } = await ask(door, vault, await tokenOf('root'), request);
  if (status >= 300) throw new Error(`${request.path}: ${status} ${text}`);
  return json;
}

async function makeKeys(vault: 'dev' | 'dev-premium'): Promise<Keys> {
  const post = (door: 'okms' | 'keyvault', path: string, body: object) => root(door, vault, { method: 'POST', path, body });
  const make = async (body: object): Promise<string> => (await post('okms', '/servicekey', { name: 'k', ...body })).id as string;
  const oct = await make({ type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] });
  const ec = await make({ type: 'EC', curve: 'P-256', operations: ['sign', 'verify'] });
  const { ciphertext } = await post('okms', `/servicekey/${oct}/encrypt`, { plaintext: SOME });
  const { key: dataKey } = await post('okms', `/servicekey/${oct}/datakey`, { size: 256 });
  const cipher = await post('keyvault', `/keys/${oct}/encrypt`, { alg: 'A256GCM', value: SOME_URL });
  const { value: wrapped } = await post('keyvault', `/keys/${oct}/wrapkey`, { alg: 'A256KW', value: SOME_URL });
  const { value: signature } = await post('keyvault', `/keys/${ec}/sign`, { alg: 'ES256', value: DIGEST.toString('base64url') });
  return { oct, ec, ciphertext, dataKey, cipher, wrapped, signature, version: String(cipher.kid).split('/').at(-1) ?? '' };
}

interface Scenario {
  /** Word of `RIGHTS`. */
  readonly right: string;
  /** Of the caller who may. */
  readonly success: number;
  readonly ask: (keys: Keys) => Omit<Ask, 'method'>;
  /** Asks about the vault, not about a key. A listing shows to whom may see some keys those. */
  readonly of?: 'vault' | 'listing';
  /** Of what is gone when it succeeded: makes what is asked for afresh. @returns its name */
  readonly fresh?: (vault: 'dev' | 'dev-premium') => Promise<string>;
}

const freshKey = async (vault: 'dev' | 'dev-premium'): Promise<string> =>
  (await root('okms', vault, { method: 'POST', path: '/servicekey', body: { name: 'k', type: 'oct', size: 256 } })).id as string;
const freshDeleted = async (vault: 'dev' | 'dev-premium'): Promise<string> => {
  const name = await freshKey(vault);
  await root('keyvault', vault, { method: 'DELETE', path: `/keys/${name}` });
  return name;
};
const on = (key: 'oct' | 'ec', rest: string, body?: object) => (keys: Keys) =>
  ({ path: `/servicekey/${keys[key]}${rest}`, ...(body && { body }) });
const at = (key: 'oct' | 'ec', rest: string, body?: object) => (keys: Keys) => ({ path: `/keys/${keys[key]}${rest}`, ...(body && { body }) });
const vaultWide = (path: string, body?: object) => () => ({ path, ...(body && { body }) });
const jwk = { kty: 'oct', k: SOME_URL };
const later = (right: string, rest: string, body?: object): Scenario => ({ right, success: 501, ask: at('oct', rest, body) });

const OKMS: Readonly<Record<string, readonly Scenario[]>> = {
  createKey: [
    { right: 'create', success: 201, of: 'vault', ask: vaultWide('/servicekey', { name: 'n', type: 'oct', size: 256 }) },
    { right: 'import', success: 201, of: 'vault', ask: vaultWide('/servicekey', { name: 'n', keys: [jwk] }) },
  ],
  listKeys: [{ right: 'get', success: 200, of: 'listing', ask: vaultWide('/servicekey?max=500') }],
  getKey: [{ right: 'get', success: 200, ask: on('oct', '') }],
  updateKey: [{ right: 'update', success: 200, ask: on('oct', '', { name: 'new' }) }],
  // Only what is deactivated can be deleted.
  deleteKey: [{ right: 'delete', success: 400, ask: on('oct', '') }],
  activateKey: [{ right: 'activate', success: 204, ask: on('oct', '/activate') }],
  deactivateKey: [{ right: 'deactivate', success: 204, ask: on('oct', '/deactivate', { reason: 'unspecified' }), fresh: freshKey }],
  encrypt: [{ right: 'encrypt', success: 200, ask: on('oct', '/encrypt', { plaintext: SOME }) }],
  decrypt: [{ right: 'decrypt', success: 200, ask: (keys) => ({ path: `/servicekey/${keys.oct}/decrypt`, body: { ciphertext: keys.ciphertext } }) }],
  createDataKey: [{ right: 'datakey', success: 201, ask: on('oct', '/datakey', { size: 256 }) }],
  decryptDataKey: [{ right: 'opendatakey', success: 200, ask: (keys) => ({ path: `/servicekey/${keys.oct}/datakey/decrypt`, body: { key: keys.dataKey } }) }],
  sign: [{ right: 'sign', success: 200, ask: on('ec', '/sign', { message: SOME, alg: 'ES256' }) }],
  verify: [{ right: 'verify', success: 200, ask: on('ec', '/verify', { message: SOME, alg: 'ES256', signature: Buffer.alloc(64, 1).toString('base64') }) }],
  getRandom: [{ right: 'random', success: 200, of: 'vault', ask: vaultWide('/random?length=16') }],
};

const value = DIGEST.toString('base64url');
const KEY_VAULT: Readonly<Record<string, readonly Scenario[]>> = {
  getKeys: [{ right: 'list', success: 200, of: 'listing', ask: vaultWide('/keys') }],
  getKeyVersions: [{ right: 'list', success: 200, ask: at('oct', '/versions') }],
  getKey: [{ right: 'get', success: 200, ask: at('oct', '') }],
  createKey: [{ right: 'create', success: 200, ask: (keys) => ({ path: `/keys/${keys.oct}/create`, body: { kty: 'oct-HSM', key_size: 256, key_ops: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] } }) }],
  importKey: [{ right: 'import', success: 409, ask: at('ec', '', { key: { ...jwk, kty: 'oct-HSM' } }) }],
  updateKey: [{ right: 'update', success: 200, ask: at('oct', '', { tags: { a: 'b' } }) }],
  deleteKey: [{ right: 'delete', success: 200, ask: at('oct', ''), fresh: freshKey }],
  rotateKey: [{ right: 'rotate', success: 200, ask: at('ec', '/rotate') }],
  getDeletedKeys: [{ right: 'listdeleted', success: 200, of: 'listing', ask: vaultWide('/deletedkeys') }],
  getDeletedKey: [{ right: 'getdeleted', success: 404, ask: (keys) => ({ path: `/deletedkeys/${keys.oct}` }) }],
  recoverDeletedKey: [{ right: 'recover', success: 200, ask: (keys) => ({ path: `/deletedkeys/${keys.oct}/recover` }), fresh: freshDeleted }],
  purgeDeletedKey: [{ right: 'purge', success: 204, ask: (keys) => ({ path: `/deletedkeys/${keys.oct}` }), fresh: freshDeleted }],
  getRandomBytes: [{ right: 'random', success: 200, of: 'vault', ask: vaultWide('/rng', { count: 16 }) }],
  encrypt: [{ right: 'encrypt', success: 200, ask: at('oct', '/encrypt', { alg: 'A256GCM', value }) }],
  decrypt: [{ right: 'decrypt', success: 200, ask: (keys) => ({ path: `/keys/${keys.oct}/${keys.version}/decrypt`, body: { alg: 'A256GCM', value: keys.cipher.value, iv: keys.cipher.iv, tag: keys.cipher.tag } }) }],
  wrapKey: [{ right: 'wrap', success: 200, ask: at('oct', '/wrapkey', { alg: 'A256KW', value }) }],
  unwrapKey: [{ right: 'unwrap', success: 200, ask: (keys) => ({ path: `/keys/${keys.oct}/${keys.version}/unwrapkey`, body: { alg: 'A256KW', value: keys.wrapped } }) }],
  sign: [{ right: 'sign', success: 200, ask: at('ec', '/sign', { alg: 'ES256', value }) }],
  verify: [{ right: 'verify', success: 200, ask: (keys) => ({ path: `/keys/${keys.ec}/verify`, body: { alg: 'ES256', digest: value, value: keys.signature } }) }],
  getKeyRotationPolicy: [later('getrotationpolicy', '/rotationpolicy')],
  updateKeyRotationPolicy: [later('setrotationpolicy', '/rotationpolicy', { lifetimeActions: [] })],
  getKeyAttestationLatest: [later('get', '/attestation')],
  getKeyAttestation: [{ right: 'get', success: 501, ask: (keys) => ({ path: `/keys/${keys.oct}/${keys.version}/attestation` }) }],
  backupKey: [later('backup', '/backup')],
  restoreKey: [{ right: 'restore', success: 501, of: 'vault', ask: vaultWide('/keys/restore', { value: SOME_URL }) }],
  releaseLatest: [later('release', '/release', { target: 'x' })],
  release: [{ right: 'release', success: 501, ask: (keys) => ({ path: `/keys/${keys.oct}/${keys.version}/release`, body: { target: 'x' } }) }],
};
const PROVIDER = '/providers/Microsoft.Authorization';
/** Of something that is not there, or is not acceptable: whoever may is told so. */
const ofRoles = (right: string, success: number, path: string, body?: object): Scenario => ({ right, success, of: 'vault', ask: vaultWide(`${PROVIDER}/${path}`, body) });
const ROLES: Readonly<Record<string, readonly Scenario[]>> = {
  listRoleDefinitions: [ofRoles('readdefinition', 200, 'roleDefinitions')],
  getRoleDefinition: [ofRoles('readdefinition', 404, `roleDefinitions/${randomUUID()}`)],
  putRoleDefinition: [ofRoles('define', 409, `roleDefinitions/${randomUUID()}`, { properties: { roleName: 'Taken', permissions: [] } })],
  deleteRoleDefinition: [ofRoles('undefine', 404, `roleDefinitions/${randomUUID()}`)],
  listRoleAssignments: [ofRoles('readassignment', 200, 'roleAssignments')],
  getRoleAssignment: [ofRoles('readassignment', 404, `roleAssignments/${randomUUID()}`)],
  putRoleAssignment: [ofRoles('assign', 400, `roleAssignments/${randomUUID()}`, { properties: { roleDefinitionId: 'x', principalId: 'x' } })],
  deleteRoleAssignment: [ofRoles('unassign', 404, `roleAssignments/${randomUUID()}`)],
};
/** The same with a version in the path. */
const SAME: Readonly<Record<string, string>> = { getKeyVersion: 'getKey', updateKeyVersion: 'updateKey' };

/** Versions that are served by the paths of the newest are left out: the gate does not tell them apart. */
function tableOf(routes: readonly Route[]): ReadonlyMap<string, Route['method']> {
  return new Map(routes.map(({ operation, method }) => [operation, method]));
}

const NOTHING = new Proxy({}, { get: () => NOTHING }) as never;
const DOORS = [
  ['okms', tableOf(okmsRoutes(NOTHING)), OKMS],
  ['keyvault', tableOf(keyVaultRoutes(NOTHING)), { ...KEY_VAULT, ...ROLES }],
] as const;

test.each(DOORS)('every route of %s has a scenario, and every scenario a route', (_door, routes, scenarios) => {
  const covered = [...Object.keys(scenarios), ...Object.keys(SAME)];
  expect([...routes.keys()].filter((operation) => !covered.includes(operation))).toEqual([]);
  expect(Object.keys(scenarios).filter((operation) => !routes.has(operation))).toEqual([]);
});

interface Cell {
  readonly door: 'okms' | 'keyvault';
  readonly method: Route['method'];
  readonly operation: string;
  readonly scenario: Scenario;
}

const CELLS: readonly Cell[] = DOORS.flatMap(([door, routes, scenarios]) =>
  Object.entries(scenarios).flatMap(([operation, list]) => list.map((scenario) => ({ door, operation, scenario, method: routes.get(operation)! }))));

type Row = readonly (readonly [what: string, status: number])[];

interface Choice {
  readonly cells?: readonly Cell[];
  /** Whose success would destroy what is asked for. */
  readonly fresh?: (scenario: Scenario) => boolean;
}

/** What one caller is told, by operation. */
async function row(sub: string, vault: 'dev' | 'dev-premium', keys: Keys, { cells = CELLS, fresh = () => false }: Choice = {}): Promise<Row> {
  const token = await tokenOf(sub);
  const answers: (readonly [string, number])[] = [];
  for (const { door, method, operation, scenario } of cells) {
    const asked = scenario.fresh !== undefined && fresh(scenario) ? { ...keys, oct: await scenario.fresh(vault) } : keys;
    const { status } = await ask(door, vault, token, { method, ...scenario.ask(asked) });
    answers.push([`${door} ${operation} ${scenario.right}`, status]);
  }
  return answers;
}

const expected = (statusOf: (scenario: Scenario, door: Cell['door']) => number, cells = CELLS): Row =>
  cells.map(({ door, operation, scenario }) => [`${door} ${operation} ${scenario.right}`, statusOf(scenario, door)]);
const may = (role: string, { right }: Scenario): boolean => RIGHTS[role]!.includes(right);
/** Of a key that must be there. */
const OF_KEYS = CELLS.filter(({ operation, scenario }) => scenario.of === undefined && operation !== 'createKey' && operation !== 'importKey');
const ROLE_NAMES = Object.keys(RIGHTS);
/** In the short form a third of them, by turns: every one is asked for by five roles or more. */
const partOf = (role: string, cells: readonly Cell[]): readonly Cell[] =>
  FULL ? cells : cells.filter((_, index) => (index + ROLE_NAMES.indexOf(role)) % 3 === 0);
const UNKNOWN: Keys = { oct: randomUUID(), ec: randomUUID(), ciphertext: 'a..b.c.d', dataKey: 'x', cipher: { value, iv: SOME_URL.slice(0, 16), tag: SOME_URL }, wrapped: value, signature: value, version: '0'.repeat(32) };

describe.each(ROLE_NAMES)('%s', (role) => {
  test('in the whole vault: what it may do with any key of it', async () => {
    const told = await row(role, 'dev', dev, { fresh: (scenario) => may(role, scenario) });
    expect(told).toEqual(expected((scenario) => (may(role, scenario) ? scenario.success : 403)));
  });

  test('in the whole vault: a key that is not there is 404 to whom may do it, and 403 to everybody else', async () => {
    const cells = partOf(role, OF_KEYS);
    const told = await row(role, 'dev', UNKNOWN, { cells });
    expect(told).toEqual(expected((scenario) => (may(role, scenario) ? 404 : 403), cells));
  });

  test('in another vault: nothing, at either door', async () => {
    const cells = partOf(role, CELLS);
    expect(await row(role, 'dev-premium', other, { cells })).toEqual(expected(() => 403, cells));
  });

  test('for one key: that key, and nothing of another', async () => {
    const lists = (scenario: Scenario): boolean => scenario.of === 'listing' && may(role, scenario);
    const some = partOf(role, CELLS);
    const cells = some.filter(({ scenario }) => scenario.fresh === undefined);
    const mine = expected((scenario) => {
      const allowed = scenario.of === undefined ? may(role, scenario) : lists(scenario);
      return allowed ? scenario.success : 403;
    }, cells);
    expect(await row(`key ${role}`, 'dev', dev, { cells })).toEqual(mine);
    const others = await row(`key ${role}`, 'dev', second, { cells: some });
    expect(others).toEqual(expected((scenario) => (lists(scenario) ? scenario.success : 403), some));
    // As one that is not there.
    expect(await row(`key ${role}`, 'dev', UNKNOWN, { cells: some })).toEqual(others);
  });
});

test('a foreign key and an unknown one: the same bytes but for request id and name', async () => {
  const token = await tokenOf('Key Vault Administrator');
  for (const { door, method, operation, scenario } of OF_KEYS) {
    const texts = await Promise.all([other, UNKNOWN].map(async (keys) => {
      const answer = await ask(door, 'dev', token, { method, ...scenario.ask(keys) });
      const plain = answer.text.replaceAll(keys.oct, 'KEY').replaceAll(keys.ec, 'KEY').replaceAll(keys.version, 'VERSION').replaceAll(String(answer.headers['x-request-id']), 'ID');
      return `${answer.status} ${plain}`;
    }));
    expect([operation, texts[0]]).toEqual([operation, texts[1]]);
    expect(texts[0]).toMatch(/^404 /);
  }
});

test('a listing for one key shows that key alone', async () => {
  const token = await tokenOf('key Key Vault Reader');
  const okms = await ask('okms', 'dev', token, { method: 'GET', path: '/servicekey?max=500' });
  const ids = [dev.oct, dev.ec].sort();
  const listed = okms.json as { readonly objects_list?: readonly { readonly id: string }[] };
  expect(JSON.stringify(okms.json)).not.toContain(second.oct);
  expect((listed.objects_list ?? []).map(({ id }) => id).sort()).toEqual(ids);
  const { json } = await ask('keyvault', 'dev', token, { method: 'GET', path: '/keys' });
  expect((json.value as { kid: string }[]).map(({ kid }) => kid.split('/').at(-1)).sort()).toEqual(ids);
});

test('the ciphertext of another vault opens nowhere else', async () => {
  const token = await tokenOf('root');
  const okms = await ask('okms', 'dev', token, { method: 'POST', path: `/servicekey/${dev.oct}/decrypt`, body: { ciphertext: other.ciphertext } });
  expect(okms.status).toBe(400);
  const { value: data, iv, tag } = other.cipher;
  const keyVault = await ask('keyvault', 'dev', token, { method: 'POST', path: `/keys/${dev.oct}/decrypt`, body: { alg: 'A256GCM', value: data, iv, tag } });
  expect(keyVault.status).toBe(400);
});
