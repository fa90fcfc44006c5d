/** The import of a JWK (okms-rest-api §2.3): what its members say of usages and algorithm. Pure. */

import type { z } from 'zod';
import { invalidField, KmsError } from '../../errors.ts';
import type { Usage } from '../../keys/key.ts';
import type { ImportSpec } from '../../keys/lifecycle.ts';
import { contentEncryption, fitsSignature } from '../../keys/operations.ts';
import { defaultUsages } from '../../keys/usage.ts';
import type { createBody, jwk as schema } from './schema.ts';
import { chosen, toKeyNames } from './wire.ts';

type CreateBody = z.infer<typeof createBody>;
type Jwk = z.infer<typeof schema>;

const FIELD = 'keys.0';

/** @throws KmsError `invalid-field` naming the member, `not-implemented` for a public key alone */
export function toImportSpec(body: CreateBody, jwk: Jwk): ImportSpec {
  const { kty: kind } = jwk;
  assertAgrees(body, jwk);
  if (jwk['oth'] !== undefined && jwk['oth'] !== null) throw invalidField(`${FIELD}.oth`, 'not supported: expected two primes');
  if (kind !== 'oct' && !isThere(jwk.d)) throw new KmsError('not-implemented', `${FIELD}.d: import of a public key alone is not implemented yet`);
  assertAlgorithmFits(jwk);
  return {
    ...toKeyNames(body),
    kind,
    bits: body.size ?? null,
    usages: usagesOf(body, jwk),
    jwk: members(jwk),
    field: (member) => `${FIELD}.${member}`,
  };
}

/** Members beside `keys` say nothing new, and nothing else. */
function assertAgrees({ type, curve, crv, size }: CreateBody, jwk: Jwk): void {
  if (isThere(type) && type !== jwk.kty) throw invalidField('type', 'expected the type of the imported key');
  const named = curve ?? crv;
  if (isThere(named) && named !== jwk.crv) throw invalidField('curve', 'expected the curve of the imported key');
  if (isThere(size) && jwk.kty === 'EC') throw invalidField('size', 'not accepted for type EC');
}

const BY_USE: Readonly<Record<'enc' | 'sig', readonly Usage[]>> = { enc: ['encrypt', 'decrypt'], sig: ['sign', 'verify'] };

/** `key_ops`, else `operations`, else `use`, else the default. */
function usagesOf({ operations }: CreateBody, { kty: kind, key_ops, use }: Jwk): readonly Usage[] {
  return chosen(`${FIELD}.key_ops`, key_ops, kind)
    ?? chosen('operations', operations, kind)
    ?? chosen(`${FIELD}.use`, isThere(use) ? BY_USE[use] : undefined, kind)
    ?? defaultUsages(kind);
}

const SECRET_ALGORITHMS = /^A(128|192|256)(GCM|GCMKW|KW|CBC)$/;
const RSA_ALGORITHMS = /^(RSA1_5|RSA-OAEP|RSA-OAEP-256)$/;

/** A key that says for which algorithm it is must be able to serve it. */
function assertAlgorithmFits({ kty, crv, alg, k }: Jwk): void {
  if (!isThere(alg)) return;
  const fits = kty === 'oct' ? alg === 'dir' || fitsSize(alg, k) : fitsSignature(alg, kty, crv ?? null) || (kty === 'RSA' && RSA_ALGORITHMS.test(alg));
  if (!fits) throw invalidField(`${FIELD}.alg`, 'does not fit this key');
}

/** By the characters of the key, of which a client may have lost some. */
function fitsSize(alg: string, k: string | null | undefined): boolean {
  const bits = Number(SECRET_ALGORITHMS.exec(alg)?.[1] ?? 0);
  const bytes = Math.floor(((k?.length ?? 0) * 3) / 4);
  return contentEncryption(bits) !== undefined && bytes <= bits / 8 && bytes >= bits / 8 - 2;
}

function members(jwk: Jwk): ImportSpec['jwk'] {
  const entries = Object.entries(jwk).filter(([, value]) => typeof value === 'string');
  return Object.fromEntries(entries);
}

function isThere<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
