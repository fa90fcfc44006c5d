/** `kms init --dev`: what it leaves behind, once, twice, and interrupted (design §10). */

import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { type Ended, pathsBelow, runKms, snapshot } from '../support/files.ts';
import { Installation } from '../support/installation.ts';

/** Runs openssl; a failure is shown with its own message. */
function openssl(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`openssl ${args[0] ?? ''}: ${stderr}`);
  return stdout;
}

const mode = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);
const DAY_MS = 86_400_000;

/** What init leaves in a home that it makes itself; no test changes it. */
let above: string;
let firstHome: string;
/** Calls of the tools that init may use. */
let seen: string;
let made: Ended;

beforeAll(async () => {
  above = mkdtempSync(join(tmpdir(), 'kms-test-'));
  [firstHome, seen] = [join(above, 'new'), join(above, 'seen')];
  const tools = join(above, 'tools');
  recordTools(tools, seen);
  made = await runKms({ KMS_HOME: firstHome, PATH: `${tools}:${process.env['PATH'] ?? ''}` }, 'init', '--dev');
});

afterAll(() => {
  rmSync(above, { recursive: true, force: true });
});

let top: string;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'kms-test-'));
});

afterEach(() => {
  rmSync(top, { recursive: true, force: true });
});

describe('an installation', () => {
  let kms: Installation;
  const file = (...parts: readonly string[]): string => join(kms.home, ...parts);

  beforeAll(async () => {
    kms = await Installation.fresh();
  });

  afterAll(async () => {
    await kms.remove();
  });

  test('has what the operating contract names', () => {
    const paths = new Set(pathsBelow(kms.home));
    const wanted = [
      'kms.yaml', 'kms.db', 'okms.yaml', 'audit', 'softhsm/softhsm2.conf', 'softhsm/user.pin', 'softhsm/so.pin', 'softhsm/tokens',
      'tls/ca.pem', 'clients/admin.pem', 'clients/admin.key', 'clients/admin.p12', 'clients/admin.json',
    ];
    expect(wanted.filter((path) => !paths.has(path))).toEqual([]);
    // Nothing of an unfinished run.
    expect([...paths].filter((path) => /\.(?:new|draft|lock|pending)$/.test(path) && !path.startsWith('softhsm/tokens/'))).toEqual([]);
  });

  test('the client files say where to go', () => {
    const { okmsId, vaultName, endpoint, vaultUrl, ca, cert, key } = kms.admin;
    expect(okmsId).toMatch(/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    expect({ vaultName, endpoint, vaultUrl }).toEqual({
      vaultName: 'dev', endpoint: `https://localhost:${kms.port}`, vaultUrl: `https://localhost:${kms.port}`,
    });
    expect([ca, cert, key].filter((path) => !existsSync(path))).toEqual([]);
    expect(parse(readFileSync(file('okms.yaml'), 'utf8'))).toEqual({
      version: 1, profile: 'default', default: { http: { endpoint, ca, auth: { type: 'mtls', cert, key, okmsId } } },
    });
  });

  test('softhsm2.conf is the template with the directory put in', () => {
    const template = readFileSync('softhsm2.conf', 'utf8');
    expect(template).toContain('directories.tokendir = @TOKENDIR@');
    expect(readFileSync(file('softhsm', 'softhsm2.conf'), 'utf8')).toBe(template.replaceAll('@TOKENDIR@', file('softhsm', 'tokens')));
  });

  test('a second init leaves every file as it was, except the client configurations', async () => {
    const configurations = ['clients/admin.json', 'okms.yaml'];
    const before = snapshot(kms.home, configurations);
    const { stderr } = await kms.command('init', '--dev');
    expect(stderr).toContain('is there already');
    expect(snapshot(kms.home, configurations)).toEqual(before);
    expect(Object.keys(before).length).toBeGreaterThan(30);
  });

  test('the configurations follow a changed port', async () => {
    const before = kms.admin;
    const other = await runKms({ ...kms.environment, KMS_PORT: '23456' }, 'init', '--dev');
    expect(other.code).toBe(0);
    expect(kms.admin).toEqual({ ...before, endpoint: 'https://localhost:23456', vaultUrl: 'https://localhost:23456' });
    await kms.command('init', '--dev');
    expect(kms.admin).toEqual(before);
  });

  describe('the PKCS#12 file', () => {
    test('opens with the password of the contract and holds certificate and key', () => {
      const pem = openssl('pkcs12', '-in', file('clients', 'admin.p12'), '-passin', 'pass:changeit', '-nodes');
      const certificates = [...pem.matchAll(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)].map(([text]) => new X509Certificate(text));
      const own = new X509Certificate(readFileSync(file('clients', 'admin.pem')));
      expect(certificates.map(({ fingerprint256 }) => fingerprint256)).toContain(own.fingerprint256);
      const key = createPrivateKey(/-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/.exec(pem)?.[0] ?? '');
      expect(own.checkPrivateKey(key)).toBe(true);
      expect(own.checkPrivateKey(createPrivateKey(readFileSync(file('clients', 'admin.key'))))).toBe(true);
    });

    test('does not open with another', () => {
      const args = ['pkcs12', '-in', file('clients', 'admin.p12'), '-passin', 'pass:changeme', '-nodes'];
      expect(spawnSync('openssl', args, { encoding: 'utf8' })).toMatchObject({ stdout: '', status: 1 });
    });
  });

  describe('the administrator certificate', () => {
    const text = (): string => openssl('x509', '-in', file('clients', 'admin.pem'), '-noout', '-text', '-nameopt', 'RFC2253');

    test('is X.509 v3 with the OKMS id as its only name', () => {
      expect(text()).toMatch(/^ {8}Version: 3 \(0x2\)$/m);
      expect(text()).toContain(`Subject: CN=${kms.admin.okmsId}\n`);
      expect(text()).toMatch(/Issuer: .*CN=CCMUsersCA/);
    });

    test('is for client authentication and nothing else', () => {
      const usage = /X509v3 Extended Key Usage:[^\n]*\n\s+([^\n]+)\n/.exec(text())?.[1];
      expect(usage).toBe('TLS Web Client Authentication');
      expect(text()).toMatch(/X509v3 Basic Constraints: critical\n\s+CA:FALSE/);
    });

    test('has one critical otherName with the OKMS domain', () => {
      const parsed = openssl('asn1parse', '-in', file('clients', 'admin.pem'));
      const [, dump] = /X509v3 Subject Alternative Name\n[^\n]*BOOLEAN +:255\n[^\n]*OCTET STRING +\[HEX DUMP\]:([0-9A-F]+)/.exec(parsed) ?? [];
      const value = Buffer.from(`okms.domain:${kms.admin.okmsId}`, 'utf8');
      // GeneralNames { otherName [0] { 1.3.6.1.4.1.311.20.2.3, [0] UTF8String } }, all lengths below 128.
      const utf8 = Buffer.concat([Buffer.from([0x0c, value.length]), value]);
      const oid = Buffer.from('060a2b060104018237140203', 'hex');
      const other = Buffer.concat([oid, Buffer.from([0xa0, utf8.length]), utf8]);
      const wanted = Buffer.concat([Buffer.from([0x30, other.length + 2, 0xa0, other.length]), other]);
      expect(dump?.toLowerCase()).toBe(wanted.toString('hex'));
    });

    test('has a serial number of 128 bits', () => {
      expect(openssl('x509', '-in', file('clients', 'admin.pem'), '-noout', '-serial')).toMatch(/^serial=[0-9A-F]{32}\n$/);
    });

    test('is valid now, and for 365 days at most', () => {
      const { validFrom, validTo } = new X509Certificate(readFileSync(file('clients', 'admin.pem')));
      const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
      expect(from).toBeLessThanOrEqual(Date.now());
      expect(to).toBeGreaterThan(Date.now() + 364 * DAY_MS);
      expect((to - from) / DAY_MS).toBeLessThanOrEqual(365);
    });

    test('is signed by the access CA, which is not the CA of the server', () => {
      const own = new X509Certificate(readFileSync(file('clients', 'admin.pem')));
      const access = new X509Certificate(readFileSync(file('tls', 'access-ca.pem')));
      const server = new X509Certificate(readFileSync(file('tls', 'ca.pem')));
      expect(own.verify(access.publicKey)).toBe(true);
      expect(own.verify(server.publicKey)).toBe(false);
    });
  });

  test('the server certificate names every host of the contract, and no other', () => {
    const text = openssl('x509', '-in', file('tls', 'server.pem'), '-noout', '-ext', 'subjectAltName');
    const names = text.split('\n').slice(1).join('').split(',').map((name) => name.trim()).sort();
    expect(names).toEqual([
      'DNS:dev-premium.localhost', 'DNS:dev.localhost', 'DNS:localhost', 'IP Address:0:0:0:0:0:0:0:1', 'IP Address:127.0.0.1',
    ]);
    expect(openssl('verify', '-CAfile', file('tls', 'ca.pem'), '-purpose', 'sslserver', file('tls', 'server.pem'))).toContain(': OK');
    const key = createPublicKey(createPrivateKey(readFileSync(file('tls', 'server.key'))));
    expect(new X509Certificate(readFileSync(file('tls', 'server.pem'))).publicKey.equals(key)).toBe(true);
  });
});

describe('secrets', () => {
  test('PIN files are for reading by the owner, keys and state for the owner', () => {
    expect(made).toMatchObject({ code: 0 });
    expect(mode(firstHome)).toBe('700');
    for (const name of ['softhsm/user.pin', 'softhsm/so.pin']) expect([name, mode(join(firstHome, name))]).toEqual([name, '400']);
    for (const name of ['clients/admin.key', 'clients/admin.p12', 'tls/server.key', 'kms.db', 'kms.yaml']) {
      expect([name, mode(join(firstHome, name))]).toEqual([name, '600']);
    }
    const open = pathsBelow(firstHome).filter((path) => (lstatSync(join(firstHome, path)).mode & 0o077) !== 0);
    expect(open).toEqual(['audit/audit-key.pem', 'clients/admin.pem', 'tls/access-ca.pem', 'tls/ca.pem', 'tls/server.pem']);
  });

  test('PINs are random, and stand in no argument list, environment or output', () => {
    expect(made.code).toBe(0);
    const pins = ['user.pin', 'so.pin'].map((name) => readFileSync(join(firstHome, 'softhsm', name), 'utf8'));
    for (const pin of pins) expect(pin).toMatch(/^[\w-]{24}$/);
    expect(pins[0]).not.toBe(pins[1]);
    const calls = readFileSync(seen, 'utf8');
    // The recorder was called: openssl makes the PKCS#12 file.
    expect(calls).toContain('openssl pkcs12');
    for (const pin of pins) expect(`${calls}${made.stdout}${made.stderr}`).not.toContain(pin);
    expect(calls).not.toContain('changeit');
  });

  test('no file but the PIN files holds a PIN', () => {
    expect(made.code).toBe(0);
    const pins = ['user.pin', 'so.pin'].map((name) => readFileSync(join(firstHome, 'softhsm', name)));
    const holding = pathsBelow(firstHome)
      .filter((path) => lstatSync(join(firstHome, path)).isFile())
      .filter((path) => pins.some((pin) => readFileSync(join(firstHome, path)).includes(pin)));
    expect(holding).toEqual(['softhsm/so.pin', 'softhsm/user.pin']);
  });

  test('are for the owner even in a home that others may enter, and under a loose umask', async () => {
    const home = join(top, 'shared');
    mkdirSync(home);
    chmodSync(home, 0o755);
    const command = `umask 000; exec "$0" "$@"`;
    const run = spawnSync('sh', ['-c', command, process.execPath, 'dist/cli/main.js', 'init', '--dev'], {
      env: { PATH: process.env['PATH'], KMS_HOME: home }, encoding: 'utf8',
    });
    expect(run.status).toBe(0);
    for (const name of ['softhsm/user.pin', 'softhsm/so.pin']) expect([name, mode(join(home, name))]).toEqual([name, '400']);
    for (const name of ['clients/admin.key', 'clients/admin.p12', 'tls/server.key', 'kms.db']) {
      expect([name, mode(join(home, name))]).toEqual([name, '600']);
    }
    for (const name of ['softhsm', 'softhsm/tokens', 'clients', 'tls', 'audit']) expect([name, mode(join(home, name))]).toEqual([name, '700']);
  });

  test('PINs stand in no argument list or environment of a running server', async () => {
    const kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
    try {
      await kms.start();
      const pin = readFileSync(join(kms.home, 'softhsm', 'user.pin'));
      const processes = [kms.pid, ...kms.serverProcesses()];
      expect(processes.length).toBe(3);
      for (const pid of processes) {
        expect(readFileSync(`/proc/${pid}/cmdline`).includes('node')).toBe(true);
        expect(readFileSync(`/proc/${pid}/cmdline`).includes(pin)).toBe(false);
        expect(readFileSync(`/proc/${pid}/environ`).includes(kms.home)).toBe(true);
        expect(readFileSync(`/proc/${pid}/environ`).includes(pin)).toBe(false);
      }
      expect(kms.output).not.toContain(pin.toString());
    } finally {
      await kms.remove();
    }
  });
});

/** Puts recorders of arguments and environment in front of the tools that init may call. */
function recordTools(directory: string, seen: string): void {
  mkdirSync(directory);
  for (const tool of ['openssl', 'softhsm2-util', 'pkcs11-tool']) {
    const path = spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).stdout.trim();
    writeFileSync(join(directory, tool), `#!/bin/sh\necho "${tool} $*" >>'${seen}'\nenv >>'${seen}'\nexec ${path} "$@"\n`, { mode: 0o755 });
  }
}

describe('another home', () => {
  test('in the same directory never touches the token of the first', async () => {
    expect(made.code).toBe(0);
    const two = join(above, 'two');
    const before = snapshot(firstHome);
    // As a shell would have it that worked with the first.
    const environment = { KMS_HOME: two, SOFTHSM2_CONF: join(firstHome, 'softhsm', 'softhsm2.conf') };
    expect((await runKms(environment, 'init', '--dev')).code).toBe(0);
    expect((await runKms(environment, 'doctor')).code).toBe(0);
    expect(snapshot(firstHome)).toEqual(before);
    expect(pathsBelow(join(two, 'softhsm', 'tokens')).length).toBeGreaterThan(10);
  });
});

describe('a mistake', () => {
  test('init without --dev says what is possible', async () => {
    const { code, stderr } = await runKms({ KMS_HOME: join(top, 'home') }, 'init');
    expect(code).toBe(2);
    expect(stderr).toContain('--dev');
    expect(existsSync(join(top, 'home'))).toBe(false);
  });

  test('a profile that is not valid is named, with what is wrong in it', async () => {
    const profile = join(top, 'bad.yaml');
    writeFileSync(profile, readFileSync('hsm-config/softhsm-2.6.1.yaml', 'utf8').replace(/^maxRandom:.*$/m, 'maxRandom: 1'));
    const { code, stderr } = await runKms({ KMS_HOME: join(top, 'home'), KMS_HSM_PROFILE: profile }, 'init', '--dev');
    expect(code).toBe(1);
    expect(stderr).toContain(profile);
    expect(stderr).toContain('maxRandom');
  });

  test('a module that cannot be loaded is said to be the reason', async () => {
    const profile = join(top, 'absent.yaml');
    writeFileSync(profile, readFileSync('hsm-config/softhsm-2.6.1.yaml', 'utf8').replace(/^module:.*$/m, `module: ${top}/absent.so`));
    const { code, stderr } = await runKms({ KMS_HOME: join(top, 'home'), KMS_HSM_PROFILE: profile }, 'init', '--dev');
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/absent\.so|module/);
  });
});
