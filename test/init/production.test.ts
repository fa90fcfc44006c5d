/** Installations of kind `prod` (design §9): told in a file, nothing of development in them, and none of their secrets from us. */

import { execFileSync } from 'node:child_process';
import { randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { OCT } from '../api/okms/support.ts';
import { runKms, spawnKms } from '../support/files.ts';
import { rows } from '../support/form.ts';
import { type Client, Installation } from '../support/installation.ts';
import { readStore } from '../support/store-rows.ts';
import { TokenViewer } from '../support/token-viewer.ts';

/** Writes both PINs, as an operator would. */
function writePins(directory: string): { readonly pinFile: string; readonly soPinFile: string } {
  const [pinFile, soPinFile] = [join(directory, 'user.pin'), join(directory, 'so.pin')];
  for (const path of [pinFile, soPinFile]) writeFileSync(path, randomBytes(18).toString('base64url'), { mode: 0o400 });
  return { pinFile, soPinFile };
}

const VAULT = { name: 'payments', flavour: 'premium', backup: 'never', purgeProtection: true } as const;
const HSM = { profile: 'softhsm-2.6.1', tokenLabel: 'prod-token' } as const;
const plan = (directory: string): object => ({ hsm: { ...HSM, ...writePins(directory) }, vault: VAULT, administrator: { subject: 'root', days: 90 } });

describe('from a file', () => {
  let kms: Installation;
  let admin: Client;

  beforeAll(async () => {
    kms = await Installation.production(plan, { KMS_SERVER_ADDRESSES: '127.0.0.1,127.0.0.2' });
    await kms.start();
    admin = kms.client();
  });

  afterAll(async () => {
    await admin.close();
    await kms.remove();
  });

  test('serves the administrator, and says what it is', async () => {
    expect((await admin.post('/servicekey', { name: 'k', ...OCT })).status).toBe(201);
    expect(kms.output).toMatch(/^ready .* kind=prod$/m);
    expect((await admin.get(`https://localhost:${kms.publicPort}/readyz`)).json).toMatchObject({ kind: 'prod' });
    const vaults = JSON.parse((await kms.command('vault', 'list', '--output', 'json')).stdout) as object[];
    expect(vaults).toMatchObject([{ ...VAULT, cbc: false, rsa15: false, rsnull: false, softDeleteDays: 90 }]);
    expect((await kms.command('role', 'list')).stdout).toMatch(/^\S+ certificate root \(urn:kms:.*\): owner in every vault\n$/);
    expect((await kms.command('doctor')).stdout).toMatch(/^all is well$/m);
    const again = await runKms(kms.environment, 'init', '--from', join(kms.home, 'plan.yaml'));
    expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: expect.stringContaining('is there already') });
  });

  test('has no issuer of tokens: no key, no route, no command', async () => {
    const { installation, internal } = readStore(kms.home);
    expect([...internal.keys()].sort()).toEqual(['access-ca', 'audit', 'canary', 'import', 'integrity', 'server-ca']);
    TokenViewer.look(kms.home, (viewer) => {
      const labels = viewer.login(kms.home).objects().map(({ label }) => label);
      expect(labels.filter((label) => label.includes('token-issuer'))).toEqual([]);
    });
    const origin = `https://localhost:${kms.port}/${installation}`;
    for (const path of ['/v2.0/.well-known/openid-configuration', '/discovery/v2.0/keys']) expect((await admin.get(origin + path)).status).toBe(404);
    expect((await admin.post(`${origin}/oauth2/v2.0/token`, {})).status).toBe(404);
    for (const args of [['token', 'issue', '--subject', 'a'], ['token', 'client', 'add', '--subject', 'a'], ['token', 'client', 'list']]) {
      const { code, stderr } = await runKms(kms.environment, ...args);
      expect({ code, stderr }).toEqual({ code: expect.any(Number), stderr: expect.stringContaining('not a development set-up') });
      expect(code).not.toBe(0);
    }
  });

  test('has no known password, and no file that others can read', () => {
    expect(existsSync(join(kms.home, 'clients', 'admin.p12'))).toBe(false);
    for (const path of ['kms.yaml', 'clients/admin.key', 'tls/server.key', 'clients/admin.json']) {
      expect([path, (statSync(join(kms.home, path)).mode & 0o077).toString(8)]).toEqual([path, '0']);
    }
    expect(readFileSync(join(kms.home, 'kms.yaml'), 'utf8')).not.toContain(readFileSync(join(kms.home, 'softhsm', 'user.pin'), 'utf8'));
  });

  test('is not taken for a development set-up', async () => {
    const { code, stderr } = await runKms(kms.environment, 'init', '--dev');
    expect({ code, stderr }).toEqual({ code: expect.any(Number), stderr: expect.stringContaining('of kind prod, not dev') });
    expect(code).not.toBe(0);
    expect((await admin.get('/servicekey')).status).toBe(200);
  });
});

describe('in a home of its own', () => {
  let home: string;

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    mkdirSync(join(home, 'softhsm'));
  });

  afterEach(() => { rmSync(home, { recursive: true, force: true }); });

  const init = async (content: object | string): ReturnType<typeof runKms> => {
    const file = join(home, 'plan.yaml');
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
    return runKms({ KMS_HOME: home }, 'init', '--from', file);
  };

  test('nobody to ask: what is needed is named, and nothing is made', async () => {
    const { code, stderr } = await runKms({ KMS_HOME: home }, 'init');
    expect(code).toBe(2);
    for (const word of ['hsm.profile', 'hsm.tokenLabel', 'hsm.pinFile', 'vault.name', 'vault.flavour', 'vault.backup', '--dev']) expect(stderr).toContain(word);
    expect(existsSync(join(home, 'kms.yaml'))).toBe(false);
  });

  test.each(rows<[string, string, (pins: ReturnType<typeof writePins>) => object | string]>([
    ['no YAML', '--from', () => '{'],
    ['nothing in it', 'hsm', () => ''],
    ['an unknown member', 'vaults', (pins) => ({ hsm: { ...HSM, ...pins }, vault: VAULT, vaults: [] })],
    ['a PIN file that is not there', 'hsm.pinFile', (pins) => ({ hsm: { ...HSM, ...pins, pinFile: '/nowhere' }, vault: VAULT })],
    ['a PIN itself', 'pin', (pins) => ({ hsm: { ...HSM, ...pins, pin: '1234' }, vault: VAULT })],
    ['no vault', 'vault', (pins) => ({ hsm: { ...HSM, ...pins } })],
    ['a vault without a backup rule', 'backup', (pins) => ({ hsm: { ...HSM, ...pins }, vault: { ...VAULT, backup: undefined } })],
    ['a bad name of a vault', 'NAME', (pins) => ({ hsm: { ...HSM, ...pins }, vault: { ...VAULT, name: 'A_B' } })],
    ['a password in the address of the store', 'password', (pins) => ({ hsm: { ...HSM, ...pins }, vault: VAULT, store: { url: 'postgres://u:p@h/d' } })],
    ['no request for a certificate', 'administrator.csr', (pins) => ({ hsm: { ...HSM, ...pins }, vault: VAULT, administrator: { csr: pins.pinFile } })],
    ['PKCS#12 without a key', 'p12PasswordFile', (pins) => ({ hsm: { ...HSM, ...pins }, vault: VAULT, administrator: { csr: pins.pinFile, p12PasswordFile: pins.pinFile } })],
  ], 2))('%s is refused by name, and nothing is made', async (_name, word, content) => {
    const { code, stderr } = await init(content(writePins(join(home, 'softhsm'))));
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(word) });
    expect(existsSync(join(home, 'kms.yaml'))).toBe(false);
    expect(existsSync(join(home, 'kms.db'))).toBe(false);
  });

  test('killed in between, it goes on with the same token', async () => {
    const begun = JSON.stringify(plan(join(home, 'softhsm')));
    writeFileSync(join(home, 'plan.yaml'), begun);
    const child = spawnKms({ KMS_HOME: home }, 'init', '--from', join(home, 'plan.yaml'));
    const end = new Promise((done) => child.once('close', done));
    child.stderr?.on('data', (chunk: Buffer) => { if (chunk.toString().includes('audit: generating')) child.kill('SIGKILL'); });
    await end;
    const other = await init({ hsm: { ...HSM, tokenLabel: 'another', pinFile: join(home, 'softhsm/user.pin'), soPinFile: join(home, 'softhsm/so.pin') }, vault: VAULT });
    expect(other.stderr).toContain('was making the token prod-token');
    writeFileSync(join(home, 'plan.yaml'), begun);
    const dev = await runKms({ KMS_HOME: home }, 'init', '--dev');
    expect(dev).toMatchObject({ stderr: expect.stringContaining('of kind prod, not dev') });
    expect((await runKms({ KMS_HOME: home }, 'init', '--from', join(home, 'plan.yaml'))).code).toBe(0);
    TokenViewer.look(home, (viewer) => { expect(viewer.tokens()).toHaveLength(1); });
    expect(readStore(home).internal.size).toBe(6);
  });

  test('a token that is there is used, without the PIN of its security officer; the key of the request stays where it is', async () => {
    const directory = join(home, 'softhsm');
    const { pinFile, soPinFile } = writePins(directory);
    mkdirSync(join(directory, 'elsewhere'));
    writeFileSync(join(home, 'conf'), `directories.tokendir = ${join(directory, 'elsewhere')}\nobjectstore.backend = file\n`);
    const pins = ['--so-pin', readFileSync(soPinFile, 'utf8'), '--pin', readFileSync(pinFile, 'utf8')];
    execFileSync('softhsm2-util', ['--init-token', '--free', '--label', 'theirs', ...pins], { env: { ...process.env, SOFTHSM2_CONF: join(home, 'conf') }, stdio: 'ignore' });
    rmSync(soPinFile);
    const [key, csr] = [join(home, 'own.key'), join(home, 'own.csr')];
    execFileSync('openssl', ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-subj', '/CN=x', '-out', csr], { stdio: 'ignore' });
    const hsm = { ...HSM, tokenLabel: 'theirs', pinFile, tokenDirectory: join(directory, 'elsewhere') };
    // What was wrong with the file can be put right.
    const wrong = { ...hsm, tokenLabel: 'nobodys' };
    expect(await init({ hsm: wrong, vault: VAULT, administrator: { csr } })).toMatchObject({ code: 5, stderr: expect.stringContaining('nobodys') });
    expect(await init({ hsm, vault: VAULT, server: { names: ['kms.internal'] }, administrator: { csr } })).toMatchObject({ code: 0 });
    expect(new X509Certificate(readFileSync(join(home, 'tls', 'server.pem'))).subjectAltName).toContain('DNS:kms.internal');
    expect(existsSync(join(home, 'clients', 'admin.key'))).toBe(false);
    const verified = execFileSync('openssl', ['verify', '-CAfile', join(home, 'tls', 'access-ca.pem'), join(home, 'clients', 'admin.pem')], { encoding: 'utf8' });
    expect(verified).toMatch(/: OK\n$/);
  });
});
