/**
 * The wire form of OKMS request bodies (okms-rest-api §2), as zod schemas. They describe and check; conversion is in
 * `wire.ts`. Unknown members are ignored, null in an optional member means absent (§1.2).
 */

import { z } from 'zod';

/** Characters as people and JSON Schema count them: code points, not UTF-16 units. */
function characters(min: number, max: number): z.ZodString {
  return z
    .string()
    .refine((text) => inRange(Array.from(text).length, min, max), { error: `expected ${min} to ${max} characters` })
    .meta({ minLength: min, maxLength: max });
}

function inRange(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}

/** 4096 bytes in standard base64. */
const MESSAGE_CHARACTERS = 5464;
const base64Message = z
  .string()
  .min(1)
  .max(MESSAGE_CHARACTERS)
  .meta({ format: 'byte', description: 'Standard base64 with padding; at most 4096 bytes.' });

export const keyType = z.enum(['oct', 'RSA', 'EC']).meta({ id: 'KeyTypes' });
export const curve = z.enum(['P-256', 'P-384', 'P-521']).meta({ id: 'Curves' });
/** secp256k1 can be made through the Key Vault API only, and is shown. */
export const shownCurve = z.enum(['P-256', 'P-384', 'P-521', 'P-256K']).meta({ id: 'ShownCurves' });
export const usage = z
  .enum(['sign', 'verify', 'encrypt', 'decrypt', 'wrapKey', 'unwrapKey'])
  .meta({ id: 'CryptographicUsages' });
/** Values of the queries `format`: of a key, and of a signature. */
export const keyFormat = z.enum(['jwk']).meta({ id: 'KeyFormats' });
export const signatureFormat = z.enum(['raw', 'jws', 'jwt']).meta({ id: 'SignatureFormats' });
/** Keys a page may be asked for. */
export const pageSize = { min: 1, max: 500 } as const;
export const keyState = z.enum([
  'all',
  'pre_active',
  'active',
  'deactivated',
  'compromised',
  'destroyed',
  'destroyed_compromised',
]);
export const revocationReason = z.enum([
  'unspecified',
  'key_compromise',
  'ca_compromise',
  'affiliation_changed',
  'superseded',
  'cessation_of_operation',
  'privilege_withdrawn',
]).meta({ id: 'RevocationReasons' });
export const signatureAlgorithm = z.enum([
  'ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512',
]).meta({ id: 'DigitalSignatureAlgorithms' });
const protectionLevel = z.enum(['SOFTWARE', 'HSM', 'MANAGED_HSM', 'CLOUD_HSM']);
const context = characters(0, 64);
const authenticated = context.meta({ description: 'Additional authenticated data: the same when encrypting and decrypting.' });
const keyName = stored(characters(1, 32));

/** A text that is kept: PostgreSQL has no NUL in texts. */
function stored(text: z.ZodString): z.ZodString {
  return text.refine((value) => !value.includes('\u0000'), { error: 'expected no NUL' });
}

/** 4096 bits in base64url, and some room for leading zeros. */
const INTEGER_CHARACTERS = 700;
const integer = z.string().min(1).max(INTEGER_CHARACTERS).meta({ format: 'base64url' });

export const jwk = z.looseObject({
  kty: keyType,
  kid: z.string().max(1024).nullish().meta({ description: 'A label of the caller; never the id of the key.' }),
  use: z.enum(['sig', 'enc']).nullish(),
  key_ops: z.array(usage).max(32).nullish(),
  alg: z.string().max(64).nullish(),
  crv: curve.nullish(),
  ...Object.fromEntries(['k', 'n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'x', 'y'].map((member) => [member, integer.nullish()])) as
    Record<'k' | 'n' | 'e' | 'd' | 'p' | 'q' | 'dp' | 'dq' | 'qi' | 'x' | 'y', z.ZodOptional<z.ZodNullable<z.ZodString>>>,
}).meta({ id: 'JsonWebKeyRequest' });

export const wrappingAlgorithm = z.enum(['RSA1_5', 'RSA-OAEP', 'RSA-OAEP-256']).meta({ id: 'WrappingAlgorithms' });
export const wrappedKeyFormat = z.enum(['RAW', 'JWK', 'PKCS1', 'PKCS8']).meta({ id: 'KeyFormatTypes' });

export const wrappedKey = z.looseObject({
  keyFormatType: wrappedKeyFormat,
  wrappingKeyId: z.guid().meta({ description: 'An RSA key of this domain with the usage `unwrapKey`.' }),
  ciphertext: z.string().min(1).max(5000).meta({
    format: 'jwe-token',
    description: 'Compact JWE for that key; its content encryption is AES-GCM.',
  }),
}).meta({ id: 'WrappedKeyRequest' });

/** Bytes that may be asked for at once. */
export const randomLength = { min: 1, max: 4096 } as const;

export const createBody = z.looseObject({
  name: keyName,
  context: stored(context).nullish(),
  type: keyType.nullish(),
  size: z.int().nullish(),
  curve: curve.nullish(),
  crv: curve.nullish(),
  operations: z.array(usage).max(32).nullish(),
  id: z.guid().nullish(),
  protectionLevel: protectionLevel.nullish(),
  keys: z.array(jwk).length(1).nullish().meta({ description: 'A key to import, instead of `type`, `size` and `curve`.' }),
  wrappedKeys: z.array(wrappedKey).length(1).nullish().meta({ description: 'A key to import that is wrapped for a key of ours.' }),
  extractable: z.boolean().nullish(),
}).meta({ id: 'CreateImportServiceKeyRequest' });

export const renameBody = z
  .looseObject({ name: keyName.nullish(), extractable: z.boolean().nullish() })
  .meta({ id: 'PatchServiceKeyRequest' });

export const deactivateBody = z
  .looseObject({ reason: revocationReason.nullish() })
  .meta({ id: 'DeactivateServiceKeyRequest' });

export const encryptBody = z
  .looseObject({ plaintext: base64Message, context: authenticated.nullish() })
  .meta({ id: 'EncryptRequest' });

/** 4096 bytes of plaintext make 5622 characters; the published 5464 would refuse our own output (§2.7). */
export const decryptBody = z
  .looseObject({ ciphertext: z.string().min(1).max(8192), context: authenticated.nullish() })
  .meta({ id: 'DecryptRequest' });

export const dataKeyBody = z.looseObject({
  size: z.int().min(64).max(4096).multipleOf(8).meta({ description: 'Bits.' }),
  name: keyName.nullish(),
}).meta({ id: 'GenerateDataKeyRequest' });

export const decryptDataKeyBody = z
  .looseObject({ key: z.string().min(1).max(5000) })
  .meta({ id: 'DecryptDataKeyRequest' });

export const signBody = z.looseObject({
  message: base64Message,
  alg: signatureAlgorithm,
  isdigest: z.boolean().nullish(),
}).meta({ id: 'SignRequest' });

export const verifyBody = z.looseObject({
  /** A JWS around the largest message, by the largest key, has 6,400 characters; the published 5464 would refuse our own. */
  signature: z.string().min(1).max(8192).meta({ description: 'Base64, or a compact JWS, which may leave out its payload.' }),
  message: base64Message.nullish(),
  alg: signatureAlgorithm.nullish(),
  isdigest: z.boolean().nullish(),
}).meta({ id: 'VerifyRequest' });
