// Roles by command and by file, limits, and why something was refused (security S-15, S-29; design §9).

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { asBearer, baseOf, issueToken } from '../support/bearer.ts';
import { runKms } from '../support/files.ts';
import type { Answer, Client, Installation } from '../support/installation.ts';
import { serve } from '../support/served.ts';
import { eventually } from '../support/wait.ts';
import { expectRefusal, OCT } from '../api/okms/support.ts';

let kms: Installation;
let admin: Client;
let base: string;

serve(async (served) => {
  ({ kms, admin } = served);
  base = await baseOf(kms, 'dev');
}, { KMS_SERVER_PROCESSES: '1', KMS_LIMITS_READ_RATE: '2' });

const tokens = new Map<string, string>();
async function tokenOf(subject: string): Promise<string> {
  if (!tokens.has(subject)) tokens.set(subject, await issueToken(kms, '--subject', subject));
  return tokens.get(subject)!;
}
/** As this subject of access tokens. */
async function as(subject: string, ...[method, path, body]: Parameters<Client['call']>): Promise<Answer> {
  return asBearer(admin, await tokenOf(subject), method, `${base}${path}`, body);
}
const random = (subject: string): Promise<Answer> => as(subject, 'GET', '/random?length=8');
const failed = async (...args: readonly string[]): Promise<string> => {
  const { code, stderr } = await runKms(kms.environment, ...args);
  expect(code).not.toBe(0);
  return stderr;
};

/** Everything that `kms role list` reads, without the price of the command. */
function rolesAndAssignments(): readonly unknown[] {
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  try {
    return ['custom_role', 'assignment'].flatMap((table) => db.prepare(`select * from ${table} order by id`).all());
  } finally {
    db.close();
  }
}

describe('kms role', () => {
  test('assign and remove are effective at once; the last owner stays', async () => {
    expectRefusal(await random('ann'), 'forbidden', 'random/get');
    const { stdout: id } = await kms.command('role', 'assign', '--token', 'ann', '--role', 'Key Vault Crypto User');
    expect((await random('ann')).status).toBe(200);
    expect((await kms.command('role', 'list')).stdout).toMatch(new RegExp(`^${id.trim()} token ann \\(urn:kms:.*\\): key-vault-crypto-user in dev$`, 'm'));
    await kms.command('role', 'remove', id.trim());
    expectRefusal(await random('ann'), 'forbidden', 'random/get');
    const [owner = ''] = /^\S+(?= certificate admin .*: owner in every vault$)/m.exec((await kms.command('role', 'list')).stdout) ?? [];
    expect(await failed('role', 'remove', owner)).toContain('nobody would be owner');
    expect(await failed('role', 'remove', id.trim())).toContain('there is no assignment');
  });

  test('a role of our own, by any spelling, changed while it is in use', async () => {
    await kms.command('role', 'define', 'Dice', '--permission', 'okms:apikms:random/get');
    await kms.command('role', 'assign', '--token', 'dan', '--role', 'dice', '--every-vault');
    expect((await random('dan')).status).toBe(200);
    await kms.command('role', 'define', 'dice', '--permission', 'Microsoft.KeyVault/vaults/keys/read');
    expectRefusal(await random('dan'), 'forbidden', 'random/get');
    expect((await as('dan', 'GET', '/servicekey')).status).toBe(200);
    expect(await failed('role', 'forget', 'Dice')).toContain('somebody has this role');
    expect(await failed('role', 'define', 'Owner', '--permission', 'key/get')).toContain('built-in');
    expect(await failed('role', 'define', 'x', '--permission', 'key/fly')).toContain('no permission key/fly');
  });

  test('bad input is named, and nothing is assigned', async () => {
    const [before, listed] = [rolesAndAssignments(), (await kms.command('role', 'list')).stdout];
    expect(await failed('role', 'assign', '--role', 'owner')).toContain('expected one of token');
    expect(await failed('role', 'assign', '--role', 'owner', '--token', 'a', '--group', 'b')).toContain('expected one of token');
    expect(await failed('role', 'assign', '--role', 'king', '--token', 'a')).toContain('there is no role king');
    expect(await failed('role', 'assign', '--role', 'owner', '--token', 'a', '--vault', 'nowhere')).toContain('there is no vault nowhere');
    expect(await failed('role', 'assign', '--role', 'owner', '--token', 'a', '--key', 'nothing')).toContain('has no key nothing');
    expect(await failed('role', 'assign', '--role', 'owner', '--token', 'a', '--issuer', 'nobody')).toContain('nothing is configured');
    expect(rolesAndAssignments()).toEqual(before);
    expect((await kms.command('role', 'list')).stdout).toBe(listed);
  });
});

describe('kms policy apply', () => {
  const OWNER = '  - { certificate: admin, role: owner, vault: "*" }\n';
  const file = (content: string): string => {
    const path = join(kms.home, 'policy.yaml');
    writeFileSync(path, content);
    return path;
  };

  test('shows what changes, makes it so, and then has nothing to do', async () => {
    const key = (await as('owner-of-dev', 'GET', '/servicekey')).status;
    expect(key).toBe(403);
    const path = file(`roles:\n  - { name: Dice, permissions: ['okms:apikms:random/*'] }\nassignments:\n${OWNER}  - { token: eve, role: dice, vault: dev }\naccessPolicies:\n  - { token: fred, vault: dev, keys: [List] }\n`);
    const dry = await kms.command('policy', 'apply', '--dry-run', path);
    expect(dry.stdout).toMatch(/^~ role Dice: random\/get$/m);
    expect(dry.stdout).toMatch(/^\+ \S+ token eve \(.*\): Dice in dev$/m);
    expect(dry.stdout).toMatch(/^- \S+ token dan \(.*\): Dice in every vault$/m);
    expect(await failed('policy', 'apply', path)).toContain('nobody confirmed');
    expect((await random('eve')).status).toBe(403);
    await kms.command('policy', 'apply', '--yes', path);
    expect((await random('eve')).status).toBe(200);
    expect((await random('dan')).status).toBe(403);
    // An access policy tells listing and getting apart.
    const url = `https://localhost:${kms.port}/keys`;
    const kv = async (rest: string): Promise<number> => (await asBearer(admin, await tokenOf('fred'), 'GET', `${url}${rest}?api-version=7.6`)).status;
    expect([await kv(''), await kv('/nothing')]).toEqual([200, 403]);
    expect((await kms.command('policy', 'apply', '--yes', path)).stdout).toBe('nothing to change\n');
  });

  test.each<[string, string, string]>([
    ['no owner', 'assignments: []', 'nobody would be owner'],
    ['an unknown member', 'asignments: []', 'asignments'],
    ['no YAML', '{', 'expected YAML'],
    ['an unknown role', `assignments:\n${OWNER}  - { token: a, role: king, vault: dev }`, 'there is no role king'],
    ['an unknown vault', `assignments:\n${OWNER}  - { token: a, role: owner, vault: nowhere }`, 'there is no vault nowhere'],
    ['two holders', `assignments:\n${OWNER}  - { token: a, group: b, role: owner, vault: dev }`, 'expected one of'],
    ['an unknown permission of an access policy', `assignments:\n${OWNER}accessPolicies:\n  - { token: a, vault: dev, keys: [fly] }`, 'knows no permission fly'],
  ])('refuses %s, and changes nothing', async (_name, content, word) => {
    const before = rolesAndAssignments();
    expect(before.length).toBeGreaterThan(1);
    expect(await failed('policy', 'apply', '--yes', file(content))).toContain(word);
    expect(rolesAndAssignments()).toEqual(before);
  });
});

describe('limits', () => {
  test('of one caller and one class: 429 with the time to wait, nobody else concerned, over after it', async () => {
    await kms.command('role', 'assign', '--token', 'greedy', '--role', 'owner');
    await as('greedy', 'GET', '/servicekey');
    const limited: Answer[] = [];
    // A slow machine asks for less in a second than is allowed.
    await eventually('more than ten are refused', async () => {
      const answers = await Promise.all(Array.from({ length: 30 }, () => as('greedy', 'GET', '/servicekey')));
      limited.push(...answers.filter(({ status }) => status === 429));
      return limited.length > 10;
    });
    for (const { json, headers } of limited) {
      expect({ id: json.error_id, retry: headers['retry-after'] }).toEqual({ id: 'rate-limited', retry: '1' });
    }
    expect((await random('greedy')).status).toBe(200);
    expect((await admin.get('/servicekey')).status).toBe(200);
    await eventually('the caller is served again', async () => (await as('greedy', 'GET', '/servicekey')).status === 200);
  });

  test('of keys in a vault: 429, until one is gone or the quota is raised', async () => {
    await kms.command('vault', 'create', 'small', '--flavour', 'premium', '--backup', 'never', '--key-quota', '2');
    await kms.command('role', 'assign', '--token', 'greedy', '--role', 'owner', '--vault', 'small');
    const small = await baseOf(kms, 'small');
    const make = async (): Promise<Answer> => asBearer(admin, await tokenOf('greedy'), 'POST', `${small}/servicekey`, { name: 'k', ...OCT });
    // The administrator's certificate is of another vault.
    const bare = kms.client(null);
    const create = async (): Promise<Answer> => asBearer(bare, await tokenOf('greedy'), 'POST', `${small}/servicekey`, { name: 'k', ...OCT });
    expect((await make()).status).toBe(403);
    expect([(await create()).status, (await create()).status]).toEqual([201, 201]);
    const third = await create();
    expect({ status: third.status, id: third.json.error_id, retry: third.headers['retry-after'] }).toEqual({ status: 429, id: 'rate-limited', retry: '10' });
    expect(third.json.errors[0]).toContain('2 keys');
    await kms.command('vault', 'update', 'small', '--key-quota', 'none');
    expect((await create()).status).toBe(201);
    expect(await failed('vault', 'update', 'small', '--key-quota', '0')).toContain('--key-quota');
    await bare.close();
  });
});

describe('kms explain', () => {
  const explain = async (answer: Answer): Promise<string> => (await kms.command('explain', String(answer.headers['x-request-id']))).stdout;

  test('a missing permission: which, what would give it, and what the caller has', async () => {
    await kms.command('role', 'assign', '--token', 'hugo', '--role', 'key-vault-reader');
    const answer = await random('hugo');
    expect(answer.status).toBe(403);
    const text = await explain(answer);
    expect(text).toContain('random.get by token hugo');
    expect(text).toContain('refused, forbidden');
    expect(text).toContain('because: nobody gave the caller a role with random/get there');
    expect(text).toMatch(/would be allowed by: .*key-vault-crypto-user/);
    expect(text).toContain('roles now: key-vault-reader');
  });

  test('who was not let in, and why, which the answer does not say', async () => {
    const bare = kms.client(null);
    const none = await bare.get(`${base}/servicekey`);
    expect(await explain(none)).toContain('because: it came without client certificate and access token');
    // Of refusals of one source in one second the audit has the first alone.
    await sleep(1100);
    const bad = await bare.call('GET', `${base}/servicekey`, undefined, { authorization: 'Bearer a.b.c' });
    expect(bad.json.errors).toEqual(['the access token does not hold']);
    expect(await explain(bad)).toContain('of an issuer that is not configured');
    await bare.close();
  });

  test('what succeeded, and what nobody asked', async () => {
    expect(await explain(await admin.get('/random?length=8'))).toMatch(/random.get by certificate admin .*: success\n$/);
    expect(await failed('explain', 'nobody')).toContain('has no request nobody');
  });
});
