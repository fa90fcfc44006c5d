// `kms cert` (okms-rest-api §4.1, §4.5): what it issues is of the OKMS shape and gets in; what it revokes does not, at once.

import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { runKms } from '../support/files.ts';
import { type Client, Installation } from '../support/installation.ts';
import { expectRefusal } from '../api/okms/support.ts';

let kms: Installation;
let directory: string;
const clients: Client[] = [];
const ALICE = 'urn:v1:eu:identity:user:nic/alice';

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '1' });
  directory = mkdtempSync(join(tmpdir(), 'kms-certs-'));
  await kms.start();
});

afterAll(async () => {
  for (const client of clients) await client.close();
  await kms.remove();
  rmSync(directory, { recursive: true, force: true });
});

interface Issued {
  readonly id: string;
  readonly certificate: string;
  readonly key?: string;
  readonly p12?: string;
}

async function issue(...args: readonly string[]): Promise<Issued> {
  const { stdout } = await kms.command('cert', 'issue', '--vault', 'dev', '--out', directory, '--output', 'json', ...args);
  return JSON.parse(stdout) as Issued;
}

function clientOf(cert: string, key: string): Client {
  const client = kms.client({ cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') });
  clients.push(client);
  return client;
}

const openssl = (...args: readonly string[]): string => execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
const accessCa = (): string => join(kms.home, 'tls', 'access-ca.pem');

describe('issue', () => {
  test('with a key of its own: the shape of OKMS, the files, and the roles', async () => {
    const { id, certificate, key = '' } = await issue('--subject', 'web', '--role', 'Key Vault Reader', '--days', '30');
    const x509 = new X509Certificate(readFileSync(certificate));
    expect(openssl('verify', '-CAfile', accessCa(), '-purpose', 'sslclient', certificate)).toBe(`${certificate}: OK\n`);
    expect(x509.subject).toBe(`CN=${kms.admin.okmsId}`);
    expect(x509.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(x509.serialNumber.toLowerCase()).toBe(id.replaceAll('-', ''));
    const text = openssl('x509', '-in', certificate, '-noout', '-text');
    expect(text).toMatch(/Subject Alternative Name: critical\s+othername: UPN::okms.domain:[0-9a-f-]{36}/);
    expect(Date.parse(x509.validTo) - Date.parse(x509.validFrom)).toBe(30 * 86_400_000);
    const ovh = ['certificate', 'privatekey'].map((what) => join(directory, `${id}_${what}.pem`));
    expect(ovh.map((path) => readFileSync(path, 'utf8'))).toEqual([readFileSync(certificate, 'utf8'), readFileSync(key, 'utf8')]);
    expect([key, ovh[1]!].map(mode)).toEqual(['600', '600']);
    const client = clientOf(certificate, key);
    expect((await client.get('/servicekey')).status).toBe(200);
    expectRefusal(await client.post('/servicekey', { name: 'k', type: 'oct', size: 256 }), 'forbidden', 'key/create');
  });

  test('RSA, and PKCS#12 that others can open', async () => {
    const password = join(directory, 'password');
    writeFileSync(password, 'a secret of the operator\n');
    const { certificate, key = '', p12 = '' } = await issue('--subject', 'rsa web', '--type', 'rsa', '--p12-password-file', password);
    expect(new X509Certificate(readFileSync(certificate)).publicKey.asymmetricKeyDetails?.modulusLength).toBe(3072);
    const opened = openssl('pkcs12', '-in', p12, '-nodes', '-passin', `file:${password}`);
    expect(opened).toContain(readFileSync(key, 'utf8').trim());
    expect(mode(p12)).toBe('600');
    // Without a role: it is known, and may do nothing.
    expectRefusal(await clientOf(certificate, key).get('/servicekey'), 'forbidden', 'key/get');
  });

  test('for a request: the key stays with whoever made it, and names in it count for nothing', async () => {
    const [key, csr] = [join(directory, 'own.key'), join(directory, 'own.csr')];
    openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-nodes', '-keyout', key, '-subj', '/CN=admin', '-out', csr);
    const before = readdirSync(directory);
    const issued = await issue('--subject', 'ci', '--csr', csr, '--identity', ALICE);
    expect(readdirSync(directory).filter((name) => !before.includes(name)).sort()).toEqual(['ci.pem', `${issued.id}_certificate.pem`].sort());
    const client = clientOf(issued.certificate, key);
    expectRefusal(await client.get('/servicekey'), 'forbidden', 'key/get');
    await kms.command('role', 'assign', '--identity', ALICE, '--role', 'owner', '--vault', 'dev');
    expect((await client.get('/servicekey')).status).toBe(200);
  });

  test.each<[string, string, (() => readonly string[])]>([
    ['no request', '--csr', () => ['--csr', file('x.csr', 'nothing')]],
    ['a request signed by another key', '--csr', () => ['--csr', forged()]],
    ['a request with a weak key', '--csr', () => ['--csr', weak()]],
    ['too many identities', '--identity', () => Array.from({ length: 26 }, (_, n) => ['--identity', `urn:${n}`]).flat()],
    ['an unknown role', '--role', () => ['--role', 'king']],
    ['PKCS#12 without a key', '--p12-password-file', () => ['--csr', file('y.csr', ''), '--p12-password-file', file('pw', 'pw')]],
    ['more than a year', '--days', () => ['--days', '366']],
  ])('refuses %s, and leaves nothing', async (_name, word, args) => {
    const given = args();
    const before = readdirSync(directory);
    const { code, stderr } = await runKms(kms.environment, 'cert', 'issue', '--subject', 'nobody', '--out', directory, ...given);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(word) });
    expect(readdirSync(directory)).toEqual(before);
    expect(subjects()).not.toContain('nobody');
  });

  test('of what was refused, the list knows nothing', async () => {
    const { stdout } = await kms.command('cert', 'list');
    expect(stdout).toContain(' web');
    expect(stdout).not.toContain('nobody');
  });

  test('never overwrites a key', async () => {
    const { code, stderr } = await runKms(kms.environment, 'cert', 'issue', '--subject', 'web', '--out', directory);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('is there already') });
  });
});

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

/** Of all that was ever issued, without the price of a command. */
function subjects(): readonly string[] {
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  try {
    const found = db.prepare('select subject from credential').all() as readonly { readonly subject: string }[];
    expect(found.length).toBeGreaterThan(1);
    return found.map(({ subject }) => subject);
  } finally {
    db.close();
  }
}

function forged(): string {
  const path = join(directory, 'forged.csr');
  openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(directory, 'f.key'), '-subj', '/CN=a', '-outform', 'DER', '-out', path);
  const der = readFileSync(path);
  der[der.length - 1]! ^= 1;
  writeFileSync(path, `-----BEGIN CERTIFICATE REQUEST-----\n${der.toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE REQUEST-----\n`);
  return path;
}

function weak(): string {
  const path = join(directory, 'weak.csr');
  openssl('req', '-new', '-newkey', 'rsa:1024', '-nodes', '-keyout', join(directory, 'w.key'), '-subj', '/CN=a', '-out', path);
  return path;
}

describe('revoke', () => {
  test('is effective on open connections, on resumed sessions and on new ones, and stands in the CRL', async () => {
    const { id, certificate, key = '' } = await issue('--subject', 'leaver', '--role', 'owner');
    const client = clientOf(certificate, key);
    expect((await client.get('/servicekey')).status).toBe(200);
    const session = await sessionOf(certificate, key);
    await kms.command('cert', 'revoke', id);
    expectRefusal(await client.get('/servicekey'), 'unauthenticated', 'revoked');
    expect(await statusOver(certificate, key, session)).toEqual({ resumed: true, status: 401 });
    expectRefusal(await clientOf(certificate, key).get('/servicekey'), 'unauthenticated', 'revoked');
    const crl = file('list.crl', (await kms.command('cert', 'crl')).stdout);
    expect(openssl('crl', '-in', crl, '-noout', '-text', '-CAfile', accessCa())).toContain(id.replaceAll('-', '').toUpperCase());
    expect(() => openssl('verify', '-crl_check', '-CRLfile', crl, '-CAfile', accessCa(), certificate)).toThrow(/revoked/);
    expect((await kms.command('cert', 'list')).stdout).toMatch(new RegExp(`^${id} leaver, revoked `, 'm'));
    const again = await runKms(kms.environment, 'cert', 'revoke', id);
    expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 1, stderr: expect.stringContaining('is revoked') });
  });

  test('issue and revocation are in the audit', () => {
    const events = kms.auditText().map((line) => JSON.parse(line) as { event: string; detail?: { subject?: string } });
    for (const event of ['certificate.issue', 'certificate.revoke']) {
      expect(events.filter((of) => of.event === event && of.detail?.subject === 'leaver')).toHaveLength(1);
    }
  });
});

function open(certificate: string, key: string, session?: Buffer): TLSSocket {
  const [cert, privateKey, ca] = [certificate, key, kms.admin.ca].map((path) => readFileSync(path));
  return connect({ host: '127.0.0.1', port: kms.port, servername: 'localhost', ca: ca!, cert: cert!, key: privateKey!, ...(session && { session }) });
}

function sessionOf(certificate: string, key: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = open(certificate, key);
    socket.once('session', (session: Buffer) => { resolve(session); socket.end(); });
    socket.once('secureConnect', () => { socket.write(request()); });
    socket.once('error', reject);
  });
}

const request = (): string => 'GET /v1/servicekey HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

function statusOver(certificate: string, key: string, session: Buffer): Promise<{ readonly resumed: boolean; readonly status: number }> {
  return new Promise((resolve, reject) => {
    let [received, resumed] = ['', false];
    const socket = open(certificate, key, session);
    socket.once('secureConnect', () => {
      resumed = socket.isSessionReused();
      socket.write(request());
    });
    socket.on('data', (chunk: Buffer) => { received += chunk.toString('latin1'); });
    socket.once('close', () => { resolve({ resumed, status: Number(received.slice(9, 12)) }); });
    socket.once('error', reject);
  });
}

test('nothing of a private key is anywhere but in its files', () => {
  const told = kms.output + kms.auditText().join('\n');
  for (const name of readdirSync(directory).filter((each) => each.endsWith('.key'))) {
    const lines = readFileSync(join(directory, name), 'utf8').split('\n').filter((line) => line.length > 40);
    for (const line of lines) expect(told.includes(line)).toBe(false);
  }
  expect(existsSync(join(directory, 'ci.key'))).toBe(false);
});
