// Malformed HTTP over a raw TLS connection (security S-16, S-17): refused and closed, nothing behind it is served, and
// the next connection works.

import { readFileSync } from 'node:fs';
import { connect as connectPlain } from 'node:net';
import { connect } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import type { Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { makeKey, OCT } from './support.ts';

let kms: Installation;
let admin: Client;
let path: string;

serve(async (served) => {
  ({ kms, admin } = served);
  path = `/v1/servicekey/${await makeKey(admin, OCT)}`;
});

const BODY = '{"plaintext":"AAAA"}';
const JSON_TYPE = 'Content-Type: application/json';

/** Sends the bytes with the administrator's certificate. @returns what came until the server closed the connection */
function exchange(bytes: string | Buffer): Promise<string> {
  const [ca, cert, key] = [kms.admin.ca, kms.admin.cert, kms.admin.key].map((file) => readFileSync(file));
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect({ host: '127.0.0.1', port: kms.port, servername: 'localhost', ca: ca!, cert: cert!, key: key! });
    socket.once('secureConnect', () => { socket.write(bytes); });
    socket.on('data', (chunk: Buffer) => { received += chunk.toString('latin1'); });
    socket.once('close', () => { resolve(received); });
    // A reset after the answer is a way to close; before it there is nothing to look at.
    socket.on('error', (error: Error) => { if (received === '') reject(error); });
  });
}

function statuses(received: string): readonly number[] {
  return [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
}

function jsonOf(received: string): { error_id?: string } {
  return JSON.parse(received.slice(received.indexOf('\r\n\r\n') + 4)) as { error_id?: string };
}

/** `{path}` is that of a key. */
function filled(text: string): string {
  return text.replaceAll('{path}', path);
}

function post(headers: readonly string[], body: string, lineEnd = '\r\n'): string {
  return [`POST {path}/encrypt HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join(lineEnd) + body;
}

const SMUGGLED = `GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n`;
const CHUNKED = `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`;

test('what is sent here is served when it is well formed, with a length and in chunks', async () => {
  const length = post([JSON_TYPE, `Content-Length: ${BODY.length}`, 'Connection: close'], BODY);
  expect(statuses(await exchange(filled(length)))).toEqual([200]);
  const chunked = post([JSON_TYPE, 'Transfer-Encoding: chunked', 'Connection: close'], CHUNKED);
  expect(statuses(await exchange(filled(chunked)))).toEqual([200]);
  const two = `GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n${SMUGGLED.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')}`;
  expect(statuses(await exchange(two))).toEqual([200, 200]);
});

interface Bad {
  readonly what: string;
  readonly bytes: string;
  readonly status: number;
}
const bad = (what: string, bytes: string, status = 400): Bad => ({ what, bytes, status });
const LENGTH = `Content-Length: ${BODY.length}`;

const CORPUS: readonly Bad[] = [
  bad('Content-Length and Transfer-Encoding', post([JSON_TYPE, LENGTH, 'Transfer-Encoding: chunked'], CHUNKED)),
  bad('Transfer-Encoding and Content-Length', post([JSON_TYPE, 'Transfer-Encoding: chunked', 'Content-Length: 4'], CHUNKED)),
  bad('two equal lengths', post([JSON_TYPE, LENGTH, LENGTH], BODY)),
  bad('two different lengths', post([JSON_TYPE, LENGTH, 'Content-Length: 3'], BODY)),
  bad('a list of lengths', post([JSON_TYPE, `${LENGTH}, ${BODY.length}`], BODY)),
  bad('a signed length', post([JSON_TYPE, `Content-Length: +${BODY.length}`], BODY)),
  bad('a negative length', post([JSON_TYPE, 'Content-Length: -1'], BODY)),
  bad('a hexadecimal length', post([JSON_TYPE, 'Content-Length: 0x14'], BODY)),
  bad('a length beyond 64 bits', post([JSON_TYPE, `Content-Length: ${'9'.repeat(30)}`], BODY)),
  bad('an empty length', post([JSON_TYPE, 'Content-Length:'], BODY)),
  bad('an unknown transfer coding', post([JSON_TYPE, 'Transfer-Encoding: xchunked'], CHUNKED)),
  bad('chunked before another coding', post([JSON_TYPE, 'Transfer-Encoding: chunked, identity'], CHUNKED)),
  bad('Transfer-Encoding hidden by a tab', post([JSON_TYPE, 'Transfer-Encoding\t: chunked'], CHUNKED)),
  bad('bare LF', post([JSON_TYPE, LENGTH], BODY, '\n')),
  bad('one bare LF between headers', post([`${JSON_TYPE}\n${LENGTH}`], BODY)),
  bad('a bare CR in a header', post([JSON_TYPE, LENGTH, 'X-A: a\rX-B: b'], BODY)),
  bad('a folded header', post([JSON_TYPE, LENGTH, 'X-A: a\r\n b'], BODY)),
  bad('a space before the colon', post([JSON_TYPE, 'Content-Length : 20'], BODY)),
  bad('a space in a header name', post([JSON_TYPE, LENGTH, 'X A: a'], BODY)),
  bad('a NUL in a header value', post([JSON_TYPE, LENGTH, 'X-A: a\u0000b'], BODY)),
  bad('a header without a colon', post([JSON_TYPE, LENGTH, 'X-A'], BODY)),
  bad('no Host', `GET {path} HTTP/1.1\r\n\r\n`),
  bad('an unknown method', `FETCH {path} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  bad('a method in lower case', `get {path} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  bad('a space in the path', `GET {path} x HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  bad('a NUL in the path', `GET {path}\u0000 HTTP/1.1\r\nHost: localhost\r\n\r\n`),
  bad('HTTP/2 in the request line', `GET {path} HTTP/2.0\r\nHost: localhost\r\n\r\n`),
  bad('HTTP/1.2', `GET {path} HTTP/1.2\r\nHost: localhost\r\n\r\n`),
  bad('no version', `GET {path}\r\n\r\n`),
  bad('no HTTP at all', `\u0016\u0003\u0001\u0000\u0000\r\n\r\n`),
  bad('a chunk size that is no number', post([JSON_TYPE, 'Transfer-Encoding: chunked'], `zz\r\n${BODY}\r\n0\r\n\r\n`)),
  bad('a chunk size beyond 64 bits', post([JSON_TYPE, 'Transfer-Encoding: chunked'], `${'f'.repeat(20)}\r\n${BODY}`)),
  bad('a signed chunk size', post([JSON_TYPE, 'Transfer-Encoding: chunked'], `+14\r\n${BODY}\r\n0\r\n\r\n`)),
  bad('a chunk longer than it says', post([JSON_TYPE, 'Transfer-Encoding: chunked'], `3\r\n${BODY}\r\n0\r\n\r\n`)),
  bad('a chunk that ends in a bare LF', post([JSON_TYPE, 'Transfer-Encoding: chunked'], `14\n${BODY}\n0\n\n`)),
  bad('a header of 17 KiB', post([JSON_TYPE, LENGTH, `X-A: ${'a'.repeat(17_408)}`], BODY), 431),
  bad('many headers of 17 KiB together', post(Array.from({ length: 40 }, (_, i) => `X-${i}: ${'a'.repeat(440)}`), ''), 431),
  bad('a path of 17 KiB', `GET /${'a'.repeat(17_408)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, 431),
];

// The Key Vault door is behind the same parser; the corpus shows that it stays so.
describe.each(['okms', 'keyvault'])('at the %s door: refused, closed, and nothing behind it served', (door) => {
  test.each(CORPUS)('$what', async ({ bytes, status }) => {
    const target = door === 'okms' ? bytes : bytes.replaceAll('{path}', '/keys/some-key').replaceAll('/encrypt HTTP', '/encrypt?api-version=7.6 HTTP');
    const received = await exchange(Buffer.from(filled(target) + SMUGGLED, 'latin1'));
    expect(statuses(received)).toEqual([status]);
    const fresh = await exchange(filled(post([JSON_TYPE, LENGTH, 'Connection: close'], BODY)));
    expect(statuses(fresh)).toEqual([200]);
  });
});

describe('paths that no client library sends', () => {
  test.each([
    '/v1/servicekey/%2e%2e/servicekey', '/v1/servicekey/../servicekey', '/v1/./servicekey', '/v1/servicekey/%2E',
    '/v1/servicekey/..', '/v1%2fservicekey', '/v1/servicekey%5c', '/v1\\servicekey', '/v1/servicekey/%00',
  ])('%s is refused with a JSON body', async (target) => {
    const received = await exchange(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    expect(statuses(received)).toEqual([400]);
    expect(jsonOf(received)).toMatchObject({ error_id: 'malformed-request', error_code: 50405377 });
  });

  test.each(['/v1//servicekey', '/v1/servicekey//'])('%s is tolerated', async (target) => {
    expect(statuses(await exchange(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`))).toEqual([200]);
  });
});

test('a body in chunks of more than 64 KiB is 413 with a JSON body', async () => {
  const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
  const request = post([JSON_TYPE, 'Transfer-Encoding: chunked', 'Connection: close'], `${chunk.repeat(17)}0\r\n\r\n`);
  const received = await exchange(filled(request));
  expect(statuses(received)).toEqual([413]);
  expect(received).toContain('"error_code":50405378');
});

test('a header past the hundredth is not silently dropped: the request is refused or the header counts', async () => {
  const many = Array.from({ length: 120 }, (_, i) => `X-${i}: a`);
  const request = post([JSON_TYPE, LENGTH, 'Connection: close', ...many, 'Content-Encoding: gzip'], BODY);
  const [status = 0] = statuses(await exchange(filled(request)));
  expect([400, 431]).toContain(status);
});

test('plain HTTP on the TLS port is closed without an answer', async () => {
  const received = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connectPlain({ host: '127.0.0.1', port: kms.port }, () => { socket.write(SMUGGLED); });
    socket.on('data', (chunk: Buffer) => { text += chunk.toString('latin1'); });
    socket.on('error', () => { socket.destroy(); });
    socket.once('close', () => { resolve(text); });
  });
  expect(statuses(received)).toEqual([]);
  expect((await admin.get('/servicekey')).status).toBe(200);
});
