// Connections (security S-13, S-17): bounded in number and age, and none for those who do not speak.

import { readFileSync } from 'node:fs';
import { connect as connectPlain, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Client, Installation } from '../support/installation.ts';

const MAX = 10;
let kms: Installation;
let admin: Client;
const sockets: Socket[] = [];

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '1', KMS_SERVER_CONNECTIONS_MAX: String(MAX), KMS_SERVER_CONNECTION_SECONDS: '3' });
  await kms.start();
  admin = kms.client();
});

afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  await admin.close();
  await kms.remove();
});

/** @returns undefined when it was closed before it was secure */
function open(): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: kms.port, servername: 'localhost', ca: readFileSync(kms.admin.ca) });
    sockets.push(socket);
    socket.once('secureConnect', () => { resolve(socket); });
    socket.once('close', () => { resolve(undefined); });
    socket.on('error', () => undefined);
  });
}

/** Resolves with what came until the other side closed. */
function untilClosed(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => { text += chunk.toString('latin1'); });
  socket.on('error', () => undefined);
  return new Promise((resolve) => { socket.once('close', () => { resolve(text); }); });
}

async function answers(ask: () => Promise<number>): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    if ((await ask().catch(() => 0)) === 200) return;
    await sleep(100);
  }
  throw new Error('no answer');
}

test('above the limit they are closed at once, those that are open go on, and one that leaves makes room', async () => {
  expect((await admin.get('/servicekey')).status).toBe(200);
  const opened = (await Promise.all(Array.from({ length: 4 * MAX }, open))).filter((socket) => socket !== undefined);
  const alive = opened.filter(({ destroyed }) => !destroyed);
  expect(alive.length).toBeGreaterThan(0);
  expect(alive.length).toBeLessThan(MAX);
  expect((await admin.get('/servicekey')).status).toBe(200);
  const refused = kms.client();
  await expect(refused.get('/servicekey')).rejects.toThrow();
  // The other port has a limit of its own: whoever asks how we are is answered.
  await answers(async () => (await refused.get(`https://localhost:${kms.publicPort}/readyz`)).status);
  for (const socket of alive) socket.destroy();
  await answers(async () => (await refused.get('/servicekey')).status);
  await refused.close();
});

test('handshakes that fail, or never begin, leave nothing behind: more of them than the limit keep nobody out', async () => {
  for (let round = 0; round < 4; round += 1) {
    const ends = Array.from({ length: MAX - 2 }, (_, n) => new Promise<void>((gone) => {
      const socket = connectPlain({ host: '127.0.0.1', port: kms.port }, () => {
        if (n % 3 === 0) socket.destroy();
        else if (n % 3 === 1) socket.end();
        else socket.write('no TLS at all, and long enough to be looked at by whoever expects a record of it\r\n');
      });
      socket.on('error', () => undefined);
      socket.on('data', () => undefined);
      socket.once('close', () => { gone(); });
    }));
    await Promise.all(ends);
  }
  // Every place but that of the administrator can be taken.
  const opened = (await Promise.all(Array.from({ length: MAX - 2 }, open))).filter((socket) => socket !== undefined);
  expect(opened).toHaveLength(MAX - 2);
  for (const socket of opened) socket.destroy();
});

test('one that is old is closed with its next answer', async () => {
  const socket = (await open())!;
  const closed = untilClosed(socket);
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await sleep(3500);
  expect(socket.destroyed).toBe(false);
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
  const [first = '', second = ''] = (await closed).split(/(?=HTTP\/1\.1 200)/);
  expect(first).toMatch(/^Connection: keep-alive\r$/im);
  expect(second).toMatch(/^Connection: close\r$/im);
});

test('who says nothing, or says it slowly, is sent away', async () => {
  const plain = connectPlain({ host: '127.0.0.1', port: kms.port });
  const [silent, header, body] = [(await open())!, (await open())!, (await open())!];
  const ends = [plain, silent, header, body].map(untilClosed);
  header.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n');
  body.write('POST /v1/servicekey HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n');
  const drip = setInterval(() => {
    if (!header.destroyed) header.write('X-A: a\r\n');
    if (!body.destroyed) body.write(' ');
  }, 1000);
  const told = await Promise.all(ends);
  clearInterval(drip);
  expect(told.slice(0, 2)).toEqual(['', expect.stringMatching(/^$|408/)]);
  for (const text of told.slice(2)) expect(text).toMatch(/^$|^HTTP\/1\.1 (?:401|408) /);
  await answers(async () => (await admin.get('/servicekey')).status);
}, 90_000);
