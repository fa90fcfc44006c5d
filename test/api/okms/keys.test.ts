// Creating and reading one key of every kind: the exact key object (okms-rest-api §2.1) and its public JWK (§2.5).

import { createPublicKey, type JsonWebKey } from 'node:crypto';
import { beforeAll, describe, expect, test } from '@jest/globals';
import type { Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal } from './support.ts';

let admin: Client;

serve((served) => { ({ admin } = served); });

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

interface Kind {
  readonly what: string;
  readonly spec: { readonly type: string; readonly size?: number; readonly curve?: string };
  readonly class: string;
  readonly operations: readonly string[];
  /** What node:crypto says of the public half; undefined for a secret key. */
  readonly details?: object;
  /** Bytes of one coordinate. */
  readonly coordinate?: number;
}

const oct = (size: number): Kind => ({
  what: `oct ${size}`,
  spec: { type: 'oct', size },
  class: 'SECRET_KEY',
  operations: ['encrypt', 'decrypt'],
});
const rsa = (size: number): Kind => ({
  what: `RSA ${size}`,
  spec: { type: 'RSA', size },
  class: 'KEY_PAIR',
  operations: ['sign', 'verify'],
  details: { modulusLength: size, publicExponent: 65537n },
});
const ec = (curve: string, namedCurve: string, coordinate: number): Kind => ({
  what: `EC ${curve}`,
  spec: { type: 'EC', curve },
  class: 'KEY_PAIR',
  operations: ['sign', 'verify'],
  details: { namedCurve },
  coordinate,
});
const KINDS: readonly Kind[] = [
  ...[128, 192, 256].map(oct),
  ...[2048, 3072, 4096].map(rsa),
  ec('P-256', 'prime256v1', 32),
  ec('P-384', 'secp384r1', 48),
  ec('P-521', 'secp521r1', 66),
];

/** Bytes of a member that must be canonical base64url without padding. */
function bytesOf(member: string): Buffer {
  expect(member).toMatch(/^[A-Za-z0-9_-]+$/);
  return Buffer.from(member, 'base64url');
}

describe.each(KINDS)('$what', (kind) => {
  // One key for the tests of its kind, as RSA 4096 takes seconds to make.
  let created: Awaited<ReturnType<Client['call']>>;
  beforeAll(async () => {
    created = await admin.post('/servicekey?format=jwk', { name: 'Clé №1', ...kind.spec });
  });

  test('create with format=jwk answers 201 with the whole key object', () => {
    expect(created.status).toBe(201);
    expect(created.headers['content-type']).toMatch(/^application\/json(;|$)/);
    const { keys, ...rest } = created.json;
    expect(rest).toEqual({
      id: expect.stringMatching(UUID),
      name: 'Clé №1',
      class: kind.class,
      protectionLevel: 'HSM',
      operations: kind.operations,
      ...kind.spec,
      attributes: {
        state: 'active',
        original_creation_date: expect.stringMatching(RFC3339),
        activation_date: created.json.attributes.original_creation_date,
        extractable: false,
        never_extractable: true,
        sensitive: true,
        always_sensitive: true,
      },
    });
    expect(keys).toHaveLength(1);
  });

  test('get shows the same object without keys; with format=jwk the same object with keys', async () => {
    const { keys: _keys, ...rest } = created.json;
    const plain = await admin.get(`/servicekey/${created.json.id}`);
    expect({ status: plain.status, json: plain.json }).toEqual({ status: 200, json: rest });
    const exported = await admin.get(`/servicekey/${created.json.id}?format=jwk`);
    expect({ status: exported.status, json: exported.json }).toEqual({ status: 200, json: created.json });
  });

  test('the JWK names the key and holds a public half that node:crypto accepts, or nothing at all', () => {
    const [jwk] = created.json.keys;
    const { id } = created.json;
    expect(jwk).toMatchObject({ kid: id, kty: kind.spec.type, key_ops: kind.operations });
    const members = { oct: [], RSA: ['n', 'e'], EC: ['crv', 'x', 'y'] }[kind.spec.type] ?? [];
    expect(Object.keys(jwk as object).toSorted()).toEqual(['kid', 'kty', 'key_ops', ...members].toSorted());
    if (kind.details === undefined) return;
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
    expect(key.asymmetricKeyDetails).toEqual(kind.details);
    if (kind.coordinate === undefined) {
      expect(jwk.e).toBe('AQAB');
      expect(bytesOf(jwk.n as string)).toHaveLength((kind.spec.size ?? 0) / 8);
    } else {
      expect(jwk.crv).toBe(kind.spec.curve);
      expect([bytesOf(jwk.x as string).length, bytesOf(jwk.y as string).length]).toEqual([kind.coordinate, kind.coordinate]);
    }
  });
});

test('create without format carries no keys', async () => {
  const created = await admin.post('/servicekey', { name: 'plain', type: 'EC', curve: 'P-256' });
  expect(created.status).toBe(201);
  expect(created.json).not.toHaveProperty('keys');
});

test('the dates are those of the clock', async () => {
  const before = Date.now();
  const { json } = await admin.post('/servicekey', { name: 'dated', type: 'oct', size: 128 });
  const made = Date.parse(json.attributes.original_creation_date as string);
  expect(made).toBeGreaterThanOrEqual(before);
  expect(made).toBeLessThanOrEqual(Date.now());
});

test('two keys of one kind share neither id nor public key', async () => {
  const spec = { name: 'twin', type: 'EC', curve: 'P-256' };
  const [a, b] = await Promise.all([0, 1].map(() => admin.post('/servicekey?format=jwk', spec)));
  expect(a?.json.id).not.toBe(b?.json.id);
  expect(a?.json.keys[0].x).not.toBe(b?.json.keys[0].x);
});

test.each(['jwks', 'JWK', ''])('format=%j is refused on create and on get', async (format) => {
  const created = await admin.post(`/servicekey?format=${format}`, { name: 'no', type: 'oct', size: 128 });
  expectRefusal(created, 'invalid-field', 'format');
  const { json } = await admin.post('/servicekey', { name: 'yes', type: 'oct', size: 128 });
  expectRefusal(await admin.get(`/servicekey/${json.id}?format=${format}`), 'invalid-field', 'format');
});
