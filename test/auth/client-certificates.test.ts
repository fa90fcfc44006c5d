// Who gets in (okms-rest-api §4.1, design §9): certificates of our access CA and no others, and only into their vault.

import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { type Client, Installation } from '../support/installation.ts';
import { expectRefusal, makeKey, OCT, withoutRequestId } from '../api/okms/support.ts';

let kms: Installation;
let admin: Client;
let id: string;
let forge: string;

interface Names {
  readonly subject: string;
  readonly serial: string;
  readonly caSubject: string;
  /** Subject key identifier of the CA, as openssl prints it. */
  readonly caKeyId: string;
}
let names: Names;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  id = await makeKey(admin, OCT);
  forge = mkdtempSync(join(tmpdir(), 'kms-forge-'));
  writeFileSync(join(forge, 'real-ca.pem'), String(stored('select access_ca from installation')['access_ca']));
  const field = (file: string, what: string): string =>
    openssl('x509', '-in', file, '-noout', `-${what}`, '-nameopt', 'compat').trim().slice(what.length + 1);
  names = {
    subject: field(kms.admin.cert, 'subject'),
    serial: field(kms.admin.cert, 'serial'),
    caSubject: field(join(forge, 'real-ca.pem'), 'subject'),
    caKeyId: keyId(join(forge, 'real-ca.pem')),
  };
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
  rmSync(forge, { recursive: true, force: true });
});

/** The first row. */
function stored(sql: string): Readonly<Record<string, string | number>> {
  const db = new Database(join(kms.home, 'kms.db'), { readonly: true });
  try {
    return db.prepare(sql).get() as Record<string, string | number>;
  } finally {
    db.close();
  }
}

function openssl(...args: readonly string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function keyId(cert: string): string {
  return openssl('x509', '-in', cert, '-noout', '-ext', 'subjectKeyIdentifier').split('\n')[1]?.trim() ?? '';
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function newKey(name: string): string {
  const file = join(forge, `${name}.key`);
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', file);
  return file;
}

/** As OKMS access certificates look: CN, one critical otherName, clientAuth. */
function extensions(okmsId: string): string {
  const file = join(forge, `${randomUUID()}.cnf`);
  const upn = `critical,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:okms.domain:${okmsId}`;
  const lines = [
    'basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=clientAuth',
    `subjectAltName=${upn}`,
  ];
  writeFileSync(file, ['[v3]', ...lines, ''].join('\n'));
  return file;
}

/** @param chain sent beside the certificate */
function issue(name: string, issuer: Pair | 'self', chain: readonly string[] = []): Pair {
  const [key, cert] = [newKey(name), join(forge, `${name}.pem`)];
  const request = join(forge, `${name}.csr`);
  openssl('req', '-new', '-key', key, '-subj', `/${names.subject.trim()}`.replace('//', '/'), '-out', request);
  const signer = issuer === 'self' ? ['-signkey', key] : ['-CA', issuer.cert, '-CAkey', issuer.key];
  openssl(
    'x509', '-req', '-in', request, ...signer, '-days', '30', '-set_serial', `0x${names.serial}`,
    '-extfile', extensions(kms.admin.okmsId), '-extensions', 'v3', '-out', cert,
  );
  return { cert: [cert, ...chain].map((file) => readFileSync(file, 'utf8')).join(''), key: readFileSync(key, 'utf8') };
}

/** Everything a certificate says is copied from the real CA, its key identifier too; only the key is another. */
function otherCa(): Pair {
  const [key, cert] = [newKey('other-ca'), join(forge, 'other-ca.pem')];
  const subject = `/${names.caSubject.trim().replaceAll(', ', '/').replaceAll(' = ', '=')}`.replace('//', '/');
  const copied = ['keyUsage=critical,keyCertSign,cRLSign', `subjectKeyIdentifier=${names.caKeyId.replaceAll(':', '')}`];
  const options = ['-days', '30', '-out', cert, ...copied.flatMap((extension) => ['-addext', extension])];
  openssl('req', '-new', '-x509', '-key', key, '-subj', subject, ...options);
  const made = openssl('x509', '-in', cert, '-noout', '-subject', '-nameopt', 'compat').trim().slice('subject='.length);
  expect([made, keyId(cert)]).toEqual([names.caSubject, names.caKeyId]);
  return { cert, key };
}

/** Every way in: both generations, reading and writing and a route that does not exist. */
async function expectShutOut(client: Client, word: string): Promise<void> {
  const legacy = `https://localhost:${kms.port}/v1`;
  const encrypt = { plaintext: 'AAAA' };
  for (const path of ['/servicekey', `/servicekey/${id}`, `${legacy}/servicekey`]) {
    expectRefusal(await client.get(path), 'unauthenticated', word);
  }
  for (const path of [`/servicekey/${id}/encrypt`, `${legacy}/servicekey/${id}/encrypt`]) {
    expectRefusal(await client.post(path, encrypt), 'unauthenticated', word);
  }
  expectRefusal(await client.post('/servicekey', { name: 'k', type: 'oct', size: 128 }), 'unauthenticated', word);
  expectRefusal(await client.call('DELETE', `/servicekey/${id}`), 'unauthenticated', word);
  // Who is not known learns nothing about keys, and nothing about what is wrong with the request.
  expectRefusal(await client.get(`/servicekey/${randomUUID()}`), 'unauthenticated', word);
  expectRefusal(await client.post(`/servicekey/${id}/encrypt`, '{broken'), 'unauthenticated', word);
  await client.close();
}

const NOT_OURS = 'not issued by a CA';

describe('401 for', () => {
  test('no certificate', async () => {
    await expectShutOut(kms.client(null), 'a client certificate is required');
  });

  test('a certificate of another CA with the same names, serial number and extensions', async () => {
    const ca = otherCa();
    await expectShutOut(kms.client(issue('forged', ca)), NOT_OURS);
  });

  test('the same, with its CA sent along', async () => {
    const ca = otherCa();
    await expectShutOut(kms.client(issue('forged-chain', ca, [ca.cert])), NOT_OURS);
  });

  test('a self-signed certificate with the same names', async () => {
    await expectShutOut(kms.client(issue('self', 'self')), NOT_OURS);
  });

  test('a certificate signed with the administrator’s own key', async () => {
    const { cert, key } = kms.admin;
    await expectShutOut(kms.client(issue('grandchild', { cert, key }, [cert])), NOT_OURS);
  });

  test('the certificate of the server', async () => {
    const [cert, key] = ['server.pem', 'server.key'].map((name) => readFileSync(join(kms.home, 'tls', name), 'utf8'));
    await expectShutOut(kms.client({ cert: cert!, key: key! }), NOT_OURS);
  });
});

test('text that is no token, or a claim in a header, stands in for no certificate', async () => {
  const stranger = kms.client(null);
  const cert = encodeURIComponent(readFileSync(kms.admin.cert, 'utf8'));
  for (const headers of [
    { authorization: 'Bearer abc' },
    { authorization: 'Basic YWRtaW46YWRtaW4=' },
    { 'x-ssl-cert': cert, 'x-client-cert': cert, 'ssl-client-cert': cert, 'x-forwarded-client-cert': `Cert="${cert}"` },
    { 'x-forwarded-for': '127.0.0.1' },
  ] as Readonly<Record<string, string>>[]) {
    const word = 'authorization' in headers ? 'the access token does not hold' : 'certificate';
    expectRefusal(await stranger.call('GET', '/servicekey', undefined, headers), 'unauthenticated', word);
  }
  await stranger.close();
});

describe('403 for a vault that is not the certificate’s', () => {
  const calls = [
    ['GET', '/servicekey', undefined],
    ['POST', '/servicekey', { name: 'k', type: 'oct', size: 128 }],
    ['GET', '/servicekey/{id}', undefined],
    ['POST', '/servicekey/{id}/encrypt', { plaintext: 'AAAA' }],
    ['DELETE', '/servicekey/{id}', undefined],
  ] as const;

  test.each(calls)('%s %s: the same for one that exists and for one that does not', async (method, path, body) => {
    const foreign = String(stored("select id from vault where name = 'dev-premium'")['id']);
    expect(foreign).not.toBe(kms.admin.okmsId);
    const [existing, random] = await Promise.all([foreign, randomUUID()].map((okmsId) =>
      admin.call(method, `https://localhost:${kms.port}/api/${okmsId}/v1${path.replace('{id}', id)}`, body)));
    expectRefusal(existing!, 'forbidden');
    expectRefusal(random!, 'forbidden');
    expect(withoutRequestId(existing!)).toEqual(withoutRequestId(random!));
  });
});

test('after all of it the key is there, alone, and the administrator is served', async () => {
  const { json } = await admin.get('/servicekey?state=all');
  expect((json.objects_list as { id: string }[]).map((key) => key.id)).toEqual([id]);
  expect(stored('select count(*) as n from key')).toEqual({ n: 1 });
  expect((await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' })).status).toBe(200);
});
