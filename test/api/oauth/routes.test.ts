// Where there is no built-in issuer, which is so in every installation of kind `prod`, there is no door.

import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import Koa from 'koa';
import { oauth } from '../../../src/api/oauth/routes.ts';
import { builtInIssuer } from '../../../src/auth/built-in-issuer.ts';
import type { Gate } from '../../../src/keys/access.ts';
import type { Installation } from '../../../src/keys/key.ts';

const ID = '3f1c9a52-7d0e-4c1b-9a43-0d5a6c7e8f90';
const publicKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
const PATHS = [`/${ID}/oauth2/v2.0/token`, `/${ID}/discovery/v2.0/keys`, `/${ID}/v2.0/.well-known/openid-configuration`];

/** What an installation of either kind has of the issuer's key. */
function issuerOf(kind: Installation['kind']): ReturnType<typeof builtInIssuer> {
  const installation = { id: ID, kind, internalKeys: [{ name: 'token-issuer', objectId: '', proof: publicKey, publicKey }] };
  return builtInIssuer(installation as unknown as Installation, 'https://localhost:8443', () => Promise.reject(new Error('not asked for')));
}

const servers = new Map<string, Server>();
beforeAll(async () => {
  for (const kind of ['dev', 'prod'] as const) {
    const app = new Koa();
    app.use(oauth({ gate: {} as unknown as Gate, issuer: issuerOf(kind) }, (_ctx, next) => next()));
    const server = app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    servers.set(kind, server);
  }
});
afterAll(() => { for (const server of servers.values()) server.close(); });

const status = async (kind: string, path: string, method = 'GET'): Promise<number> => {
  const { port } = servers.get(kind)?.address() as AddressInfo;
  return (await fetch(`http://127.0.0.1:${port}${path}`, { method })).status;
};

test('prod has no issuer, even with a key for one, and none of its routes', async () => {
  expect(issuerOf('prod')).toBeNull();
  for (const path of PATHS) for (const method of ['GET', 'POST']) expect([path, await status('prod', path, method)]).toEqual([path, 404]);
});

test('dev has them', async () => {
  const [, ...documents] = PATHS;
  for (const path of documents) expect([path, await status('dev', path)]).toEqual([path, 200]);
});

test('the key set holds public halves alone', () => {
  const key = issuerOf('dev')?.publicKey;
  expect(key?.equals(createPublicKey({ key: publicKey, format: 'der', type: 'spki' }))).toBe(true);
  expect(Object.keys(key?.export({ format: 'jwk' }) ?? {}).sort()).toEqual(['crv', 'kty', 'x', 'y']);
});
