/**
 * The wire form of Key Vault request bodies (azure-keyvault-keys-api §1.1), as zod schemas. They describe and check;
 * conversion is in `wire.ts`. Unknown members are ignored, null in an optional member means absent.
 */

import { z } from 'zod';

/** Seconds: what a JavaScript date can hold; clients send wrapped and negative ones (§0.5). */
const SECONDS_MAX = 8_640_000_000_000;
const intDate = z.int().min(-SECONDS_MAX).max(SECONDS_MAX).meta({ description: 'Seconds since the epoch.' });

/** Characters of the largest value: 48 KiB in base64url. */
const VALUE_CHARACTERS = 65_536;
/** Pattern of both alphabets; decoding is stricter. */
const binary = z.string().max(VALUE_CHARACTERS).regex(/^[\w+/-]*={0,2}$/, { error: 'expected base64url' })
  .meta({ format: 'base64url', description: 'base64url without padding; base64 is understood too.' });

const text = z.string().max(256).refine((value) => !value.includes('\u0000'), { error: 'expected no NUL' });
const TAGS_MAX = 15;
const tags = z.record(text, text)
  .refine((map) => Object.keys(map).length <= TAGS_MAX, { error: `expected at most ${TAGS_MAX} tags` })
  .meta({ description: 'At most 15; names and values of at most 256 characters.' });

export const attributes = z.looseObject({
  enabled: z.boolean().nullish(),
  nbf: intDate.nullish(),
  exp: intDate.nullish(),
  exportable: z.boolean().nullish(),
}).meta({ id: 'KeyAttributesRequest' });

const keyOperation = z.enum(['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey', 'import', 'export'])
  .meta({ id: 'JsonWebKeyOperation' });
const keyOperations = z.array(keyOperation).max(32);
/** Kept for the issue of release: never ignored. */
const releasePolicy = z.unknown();

export const createBody = z.looseObject({
  kty: z.string().max(32).meta({ description: 'RSA, EC or oct, each also with -HSM.' }),
  key_size: z.int().nullish().meta({ description: 'Bits; of RSA and oct keys.' }),
  public_exponent: z.int().nullish(),
  crv: z.string().max(32).nullish().meta({ description: 'P-256, P-384, P-521 or P-256K.' }),
  key_ops: keyOperations.nullish(),
  attributes: attributes.nullish(),
  tags: tags.nullish(),
  release_policy: releasePolicy.nullish(),
}).meta({ id: 'KeyCreateParameters' });

const MEMBERS = ['n', 'e', 'd', 'dp', 'dq', 'qi', 'p', 'q', 'k', 'x', 'y'] as const;

export const importBody = z.looseObject({
  Hsm: z.boolean().nullish(),
  key: z.looseObject({
    kty: z.string().max(32),
    crv: z.string().max(32).nullish(),
    key_ops: keyOperations.nullish(),
    key_hsm: z.string().nullish(),
    ...(Object.fromEntries(MEMBERS.map((member) => [member, binary.max(1024).nullish()])) as
      Record<(typeof MEMBERS)[number], z.ZodOptional<z.ZodNullable<typeof binary>>>),
  }).meta({ id: 'JsonWebKeyImport' }),
  attributes: attributes.nullish(),
  tags: tags.nullish(),
  release_policy: releasePolicy.nullish(),
}).meta({ id: 'KeyImportParameters' });

export const updateBody = z.looseObject({
  key_ops: keyOperations.nullish(),
  attributes: attributes.nullish(),
  tags: tags.nullish(),
  release_policy: releasePolicy.nullish(),
}).meta({ id: 'KeyUpdateParameters' });

const alg = z.string().max(64);

export const operationBody = z.looseObject({
  alg, value: binary, iv: binary.max(1024).nullish(), aad: binary.nullish(), tag: binary.max(64).nullish(),
}).meta({ id: 'KeyOperationsParameters' });

export const signBody = z.looseObject({ alg, value: binary }).meta({ id: 'KeySignParameters' });
export const verifyBody = z.looseObject({ alg, digest: binary, value: binary }).meta({ id: 'KeyVerifyParameters' });
export const RANDOM_BYTES = { min: 1, max: 128 } as const;
export const randomBody = z.looseObject({ count: z.int().min(RANDOM_BYTES.min).max(RANDOM_BYTES.max) }).meta({ id: 'GetRandomBytesRequest' });
export const restoreBody = z.looseObject({ value: binary }).meta({ id: 'KeyRestoreParameters' });
export const releaseBody = z.looseObject({
  target: z.string().min(1), nonce: z.string().nullish(), enc: z.string().nullish(),
}).meta({ id: 'KeyReleaseParameters' });
export const rotationPolicyBody = z.looseObject({
  lifetimeActions: z.array(z.unknown()).nullish(), attributes: z.unknown().nullish(),
}).meta({ id: 'KeyRotationPolicyRequest' });
