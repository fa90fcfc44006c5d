/** The import of a key (okms-rest-api §2.3, §2.11): what its members say of usages and algorithm. */

import type { z } from 'zod';
import { wipe } from '../../bytes.ts';
import { invalidField } from '../../errors.ts';
import { type BareFormat, isPublicJwk, type JwkMembers, readBare, readJwk } from '../../keys/imported.ts';
import type { Usage } from '../../keys/key.ts';
import type { Imported, ImportSpec } from '../../keys/birth.ts';
import { contentEncryption, fitsSignature } from '../../keys/operations.ts';
import type { TransportKeys } from '../../keys/transport.ts';
import { defaultUsages } from '../../keys/usage.ts';
import { readMembers } from '../read.ts';
import { parseStrictObject } from '../strict-json.ts';
import { readWrapped } from './jwe.ts';
import { type createBody, curve, jwk as schema, type wrappedKey } from './schema.ts';
import { chosen, toKeyNames } from './wire.ts';

type CreateBody = z.infer<typeof createBody>;
type Jwk = z.infer<typeof schema>;

/** @returns undefined when the body asks for no import @throws KmsError `invalid-field` naming the member */
export function toImportSpec(body: CreateBody, transport: TransportKeys): ImportSpec | undefined {
  const [jwk] = body.keys ?? [];
  const [wrapped] = body.wrappedKeys ?? [];
  if (jwk !== undefined && wrapped !== undefined) throw invalidField('wrappedKeys', 'not accepted beside keys');
  const names = { ...toKeyNames(body), bits: body.size ?? null };
  if (jwk !== undefined) return { ...names, ...fromJwk(body, jwk, 'keys.0') };
  return wrapped === undefined ? undefined : { ...names, secret: true, open: fromWrapped(body, wrapped, transport) };
}

/** @param at where the JWK is @throws KmsError `invalid-field` for what can be seen without looking at the material */
function fromJwk(body: CreateBody, jwk: Jwk, at: string): Pick<ImportSpec, 'secret'> & { readonly open: () => Promise<Imported> } {
  const { kty: kind } = jwk;
  const field = (member: string): string => `${at}.${member}`;
  assertAgrees(body, jwk);
  if (jwk['oth'] !== undefined && jwk['oth'] !== null) throw invalidField(field('oth'), 'not supported: expected two primes');
  assertAlgorithmFits(jwk, field);
  const given = members(jwk);
  const publicOnly = isPublicJwk(kind, given, field);
  const usages = usagesOf(body, jwk, publicOnly, field);
  return { secret: !publicOnly, open: async () => ({ clear: await readJwk(kind, given, field), usages }) };
}

/** What comes out is a key in the clear, and is imported as one (design §5). */
function fromWrapped(body: CreateBody, { wrappingKeyId, ciphertext, keyFormatType }: z.infer<typeof wrappedKey>, transport: TransportKeys): ImportSpec['open'] {
  const at = 'wrappedKeys.0.ciphertext';
  const wrapped = readWrapped(ciphertext, at);
  return async (call) => {
    const content = await transport.open(call, wrappingKeyId.toLowerCase(), wrapped);
    try {
      return keyFormatType === 'JWK' ? await readInner(body, content, at) : await readOther(body, keyFormatType, content, at);
    } finally {
      wipe(content);
    }
  };
}

function readInner(body: CreateBody, content: Uint8Array, at: string): Promise<Imported> {
  const jwk = parseStrictObject(content);
  if (jwk === undefined) throw invalidField(at, 'expected a JWK inside');
  return fromJwk(body, readMembers(schema, jwk, at), at).open();
}

async function readOther(body: CreateBody, format: BareFormat, content: Uint8Array, at: string): Promise<Imported> {
  const clear = await readBare(format, content, at);
  try {
    if (clear.curve === 'P-256K') throw invalidField(at, `expected a key on one of ${curve.options.join(', ')}`);
    assertAgrees(body, { kty: clear.kind, crv: clear.curve });
    return { clear, usages: chosen('operations', body.operations, clear.kind) ?? defaultUsages(clear.kind) };
  } catch (error) {
    if (clear.material !== null) wipe(clear.material);
    throw error;
  }
}

/** Members beside the key say nothing new, and nothing else. */
function assertAgrees({ type, curve, crv, size }: CreateBody, key: Pick<Jwk, 'kty' | 'crv'>): void {
  if (isThere(type) && type !== key.kty) throw invalidField('type', 'expected the type of the imported key');
  const named = curve ?? crv;
  if (isThere(named) && named !== key.crv) throw invalidField('curve', 'expected the curve of the imported key');
  if (isThere(size) && key.kty === 'EC') throw invalidField('size', 'not accepted for type EC');
}

/** RFC 7517 §4.2. What a key pair encrypts is other keys. */
function meant(use: 'enc' | 'sig', kind: Jwk['kty'], publicOnly: boolean): readonly Usage[] {
  if (use === 'sig') return publicOnly ? ['verify'] : ['sign', 'verify'];
  if (kind === 'oct') return ['encrypt', 'decrypt'];
  return publicOnly ? ['wrapKey'] : ['wrapKey', 'unwrapKey'];
}

/** `key_ops`, else `operations`, else `use`, else the default. */
function usagesOf(
  { operations }: CreateBody,
  { kty: kind, key_ops, use }: Jwk,
  publicOnly: boolean,
  field: (member: string) => string,
): readonly Usage[] {
  return chosen(field('key_ops'), key_ops, kind, publicOnly)
    ?? chosen('operations', operations, kind, publicOnly)
    ?? chosen(field('use'), isThere(use) ? meant(use, kind, publicOnly) : undefined, kind, publicOnly)
    ?? defaultUsages(kind, publicOnly);
}

const SECRET_ALGORITHMS = /^A(128|192|256)(GCM|GCMKW|KW|CBC)$/;
const RSA_ALGORITHMS = /^(RSA1_5|RSA-OAEP|RSA-OAEP-256)$/;

/** A key that says for which algorithm it is must be able to serve it. */
function assertAlgorithmFits({ kty, crv, alg, k }: Jwk, field: (member: string) => string): void {
  if (!isThere(alg)) return;
  const fits = kty === 'oct' ? alg === 'dir' || fitsSize(alg, k) : fitsSignature(alg, kty, crv ?? null) || (kty === 'RSA' && RSA_ALGORITHMS.test(alg));
  if (!fits) throw invalidField(field('alg'), 'does not fit this key');
}

/** By the characters of the key, of which a client may have lost some. */
function fitsSize(alg: string, k: string | null | undefined): boolean {
  const bits = Number(SECRET_ALGORITHMS.exec(alg)?.[1] ?? 0);
  const bytes = Math.floor(((k?.length ?? 0) * 3) / 4);
  return contentEncryption(bits) !== undefined && bytes <= bits / 8 && bytes >= bits / 8 - 2;
}

function members(jwk: Jwk): JwkMembers {
  const entries = Object.entries(jwk).filter(([, value]) => typeof value === 'string');
  return Object.fromEntries(entries);
}

function isThere<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
