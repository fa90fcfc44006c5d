// Documents and pages on both HTTPS ports (okms-rest-api §4.6): who gets what, with which headers, and that a page of
// somebody else cannot use the visitor's certificate.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { auditRecords } from '../support/audit-records.ts';
import { type Answer, type Client, Installation } from '../support/installation.ts';
import { expectRefusal, makeKey, OCT } from './okms/support.ts';

let kms: Installation;
let admin: Client;
let stranger: Client;
let origins: { readonly api: string; readonly public: string };

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
  stranger = kms.client(null);
  origins = { api: `https://localhost:${kms.port}`, public: `https://localhost:${kms.publicPort}` };
});

afterAll(async () => {
  await admin.close();
  await stranger.close();
  await kms.remove();
});

const PORTS = ['api', 'public'] as const;

/** No source but the origin itself, images in style sheets apart. */
const POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'connect-src': "'self'",
  'font-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
};

function policyOf({ headers }: Answer): object {
  const policy = String(headers['content-security-policy']);
  expect(policy).not.toContain('unsafe');
  return Object.fromEntries(policy.split('; ').map((directive) => {
    const [name = '', ...sources] = directive.split(' ');
    return [name, sources.join(' ')];
  }));
}

const LINK = /\[([^\]]+)\]\((https:[^)]+)\)/;

describe('the document', () => {
  test('is the same on both ports, but for the one link, which leads to the page of the other', async () => {
    const [api, open] = await Promise.all(PORTS.map((port) => stranger.get(`${origins[port]}/openapi/okms.json`)));
    expect([api!.status, open!.status]).toEqual([200, 200]);
    expect(api!.headers['content-type']).toMatch(/^application\/json/);
    const links = [api!, open!].map(({ json }) => LINK.exec(json.info.description));
    expect(links.map((link) => link?.slice(1))).toEqual([
      ['the public page', `${origins.public}/swagger/okms/`],
      ['the authenticated page', `${origins.api}/swagger/okms/`],
    ]);
    const [first, second] = [api!, open!].map(({ text }) => text.replace(LINK, ''));
    expect(first).toBe(second);
    expect(api!.text).not.toBe(open!.text);
    for (const link of links) expect((await admin.get(link?.[2] ?? '')).status).toBe(200);
  });

  test('names itself, and servers on the API port under which it works', async () => {
    const { json } = await stranger.get(`${origins.public}/openapi/okms.json`);
    expect(json).toMatchObject({ openapi: expect.stringMatching(/^3\.1\./), info: { title: 'OVHcloud KMS REST API' } });
    const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(json.info.version).toBe(version);
    const bases = (json.servers as { url: string }[]).map(({ url }) => url.replace('{okmsId}', kms.admin.okmsId));
    expect(bases).toEqual([`${origins.api}/v1`, `${origins.api}/api/${kms.admin.okmsId}/v1`]);
    for (const base of bases) expect((await admin.get(`${base}/servicekey`)).status).toBe(200);
    expect(json.components.securitySchemes).toMatchObject({ mutualTLS: { type: 'mutualTLS' }, accessToken: { type: 'http', scheme: 'bearer' } });
    expect(json.security).toEqual([{ mutualTLS: [] }, { accessToken: [] }]);
  });

  test('goes by the host name that the client used, and by nothing that is no host name', async () => {
    const hosts: Readonly<Record<string, string>> = {
      [`dev.localhost:${kms.port}`]: `https://dev.localhost:${kms.port}`,
      '127.0.0.1': 'https://127.0.0.1',
      'localhost:443': 'https://localhost',
      [`[::1]:${kms.port}`]: `https://[::1]:${kms.port}`,
      'evil.example)](https://x': `https://localhost:${kms.port}`,
      '"><script>': `https://localhost:${kms.port}`,
    };
    for (const [host, origin] of Object.entries(hosts)) {
      const json = JSON.parse((await raw(kms.port, '/openapi/okms.json', host)).split('\r\n\r\n')[1] ?? '');
      expect([host, json.servers[0].url]).toEqual([host, `${origin}/v1`]);
      expect(json.info.description).toContain(`](https://${new URL(origin).hostname}:${kms.publicPort}/swagger/okms/)`);
    }
  });
});

describe.each(PORTS)('the %s port', (port) => {
  test('has the page, under a policy without exceptions, never cached', async () => {
    for (const path of ['/swagger/okms/', '/swagger/okms']) {
      const page = await admin.get(`${origins[port]}${path}`);
      expect(page.status).toBe(200);
      expect(page.headers).toMatchObject({
        'content-type': 'text/html; charset=utf-8',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
      });
      expect(policyOf(page)).toEqual(POLICY);
      expect(page.text).toContain(`data-try="${String(port === 'api')}"`);
      expect(page.text).not.toMatch(/<script>|<style|style=|\son\w+=/);
    }
  });

  test.each([
    ['swagger-ui.css', 'text/css; charset=utf-8', true],
    ['swagger-ui-bundle.js', 'text/javascript; charset=utf-8', true],
    ['favicon-32x32.png', 'image/png', true],
    ['page.css', 'text/css; charset=utf-8', false],
    ['init.js', 'text/javascript; charset=utf-8', false],
  ])('has %s as %s, to be kept for a while', async (name, type, fromPackage) => {
    const url = `${origins[port]}/swagger/assets/${name}`;
    const answer = await stranger.get(url);
    expect(answer.headers).toMatchObject({ 'content-type': type, 'cache-control': 'public, max-age=3600', 'x-content-type-options': 'nosniff' });
    const file = fromPackage ? createRequire(import.meta.url).resolve(`swagger-ui-dist/${name}`) : `web/swagger/${name}`;
    expect(answer.text).toBe(readFileSync(file).toString('utf8'));
    const etag = String(answer.headers['etag']);
    const again = await stranger.call('GET', url, undefined, { 'if-none-match': etag });
    expect([again.status, again.text]).toEqual([304, '']);
    expect((await stranger.call('GET', url, undefined, { 'if-none-match': '"other"' })).status).toBe(200);
  });

  test.each([
    '/swagger/assets/../../../package.json',
    '/swagger/assets/..%2f..%2fpackage.json',
    '/swagger/assets/%2e%2e/page.html',
    '/swagger/assets/....//package.json',
    '/swagger/assets//etc/passwd',
    '/swagger/assets/swagger-ui-bundle.js.map',
    '/swagger/assets/constructor',
    '/swagger/assets/',
    '/swagger/page.html',
    '/openapi/../package.json',
    '/openapi/__proto__.json',
  ])('has nothing at %s', async (path) => {
    const answer = await raw(port === 'api' ? kms.port : kms.publicPort, path);
    expect(answer).toMatch(/^HTTP\/1\.1 40[04] /);
    expect(answer).toContain('application/json');
    expect(answer).not.toMatch(/"dependencies"|root:x|<html/);
  });

  test('is for reading: other methods are 405', async () => {
    for (const path of ['/swagger/okms/', '/openapi/okms.json', '/swagger/assets/init.js']) {
      expectRefusal(await admin.post(`${origins[port]}${path}`, {}), 'method-not-allowed');
    }
  });
});

/** As the bytes say, without a client's tidying of paths. @returns the whole answer */
function raw(port: number, path: string, host = 'localhost'): Promise<string> {
  return new Promise((done, failed) => {
    let received = '';
    const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca: readFileSync(kms.admin.ca) });
    socket.once('secureConnect', () => { socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`); });
    socket.on('data', (chunk: Buffer) => { received += chunk.toString('latin1'); });
    socket.once('close', () => { done(received); });
    socket.once('error', failed);
  });
}

describe('a visitor of the authenticated page without a certificate', () => {
  test('is told what to do, and where to read without one; the refusal is in the audit', async () => {
    const answer = await stranger.call('GET', `${origins.api}/swagger/okms/`, undefined, { 'x-request-id': 'no-certificate' });
    expect(answer.status).toBe(401);
    expect(answer.headers).toMatchObject({ 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
    expect(policyOf(answer)).toEqual(POLICY);
    expect(answer.text).toContain('a client certificate is required');
    expect(answer.text).toContain(`href="${origins.public}/swagger/okms/"`);
    expect(answer.text).not.toContain('swagger-ui-bundle');
    const records = auditRecords(kms).filter(({ requestId }) => requestId === 'no-certificate');
    expect(records).toMatchObject([{ event: 'request.refused', result: 'refused', reason: 'unauthenticated' }]);
  });

  test('nor with one that we did not issue', async () => {
    const [cert, key] = ['server.pem', 'server.key'].map((name) => readFileSync(`${kms.home}/tls/${name}`, 'utf8'));
    const foreign = kms.client({ cert: cert!, key: key! });
    const answer = await foreign.get(`${origins.api}/swagger/okms/`);
    expect([answer.status, answer.headers['content-type']]).toEqual([401, 'text/html; charset=utf-8']);
    expect(answer.text).toContain('not issued by a CA');
    await foreign.close();
  });
});

describe('a page of somebody else, in a browser that holds the certificate,', () => {
  const foreign: Readonly<Record<string, string>>[] = [
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' },
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'http://localhost:8443' },
    { 'sec-fetch-site': 'same-origin', origin: 'https://evil.example' },
  ];

  test.each(foreign)('can call nothing: %j', async (headers) => {
    const id = await makeKey(admin, OCT);
    const simple = { ...headers, 'content-type': 'text/plain; x=json' };
    expectRefusal(await admin.call('POST', `/servicekey/${id}/deactivate`, undefined, headers), 'forbidden', 'elsewhere');
    expectRefusal(await admin.call('POST', '/servicekey', '{"name":"forged","type":"oct","size":128}', simple), 'forbidden');
    expectRefusal(await admin.call('GET', '/servicekey', undefined, headers), 'forbidden');
    expect((await admin.get(`/servicekey/${id}`)).json.attributes.state).toBe('active');
    const listed = (await admin.get('/servicekey')).json.objects_list as { name: string }[];
    expect(listed.filter(({ name }) => name === 'forged')).toEqual([]);
  });

  test.each([
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' },
    { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
    {},
  ] as Readonly<Record<string, string>>[])('what our own page asks, or the person, is served: %j', async (headers) => {
    const own = Object.keys(headers).length === 0 ? { origin: origins.api } : headers;
    expect((await admin.call('GET', '/servicekey', undefined, own)).status).toBe(200);
  });
});
