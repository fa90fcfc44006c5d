import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Client, Installation } from './support/installation.ts';

let kms: Installation;
let admin: Client;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  admin = kms.client();
});

afterAll(async () => {
  await admin.close();
  await kms.remove();
});

test('a fresh installation makes a key, encrypts and decrypts', async () => {
  const created = await admin.post('/servicekey', { name: 'first', type: 'oct', size: 256 });
  expect(created.status).toBe(201);
  const path = `/servicekey/${created.json.id}`;
  const sealed = await admin.post(`${path}/encrypt`, { plaintext: 'aGVsbG8=' });
  expect(sealed.status).toBe(200);
  const opened = await admin.post(`${path}/decrypt`, { ciphertext: sealed.json.ciphertext });
  expect(opened.json).toEqual({ plaintext: 'aGVsbG8=' });
});

test('readiness is public, keys are not', async () => {
  const stranger = kms.client(null);
  const ready = await stranger.get(`https://localhost:${kms.publicPort}/readyz`);
  expect(ready.json).toMatchObject({ status: 'ready', kind: 'dev' });
  const keys = await stranger.get('/servicekey');
  expect(keys.status).toBe(401);
  await stranger.close();
});

test('SIGTERM drains and exits 0', async () => {
  expect(await kms.stop()).toBe(0);
});
