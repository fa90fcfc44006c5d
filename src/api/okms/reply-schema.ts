/**
 * The wire form of OKMS answers (okms-rest-api §2, §3), as zod schemas beside those of the requests. Closed: a member
 * that is not here is not answered.
 */

import { z } from 'zod';
import { keyState, keyType, shownCurve, usage } from './schema.ts';

const base64 = z.base64().meta({ format: 'byte', examples: ['aGVsbG8='] });
/** Not `z.base64url()`: Swagger UI fails on a `contentEncoding` of that name. */
const base64url = z.string().regex(/^[\w-]+$/).meta({ format: 'base64url', examples: ['AQAB'] });
const date = z.iso.datetime();

/** Five parts, the second empty: compact JWE with direct encryption. */
const jwe = z
  .string()
  .regex(/^[\w-]+\.\.[\w-]{16}\.[\w-]*\.[\w-]{22}$/)
  .meta({ format: 'jwe-token', examples: ['eyJhbGciOiJkaXIi…'] });

/** Whoever may see a key sees its public half; of an `oct` key nothing but its type. */
const publicJwk = z
  .strictObject({
    kid: z.guid().meta({ description: 'The id of the key.' }),
    kty: keyType,
    key_ops: z.array(usage),
    n: base64url.optional(),
    e: base64url.optional(),
    crv: shownCurve.optional(),
    x: base64url.optional(),
    y: base64url.optional(),
  })
  .meta({ id: 'JsonWebKeyResponse' });

const keyAttributes = z
  .strictObject({
    state: keyState.exclude(['all']),
    original_creation_date: date,
    activation_date: date.optional(),
    deactivation_date: date.optional(),
    compromise_date: date.optional(),
    scheduled_destruction: date.optional().meta({ description: 'Until then it can be recovered through the Key Vault API.' }),
    extractable: z.boolean(),
    never_extractable: z.boolean(),
    sensitive: z.boolean(),
    always_sensitive: z.boolean(),
  })
  .meta({ id: 'ServiceKeyAttributes' });

const metadata = {
  id: z.guid(),
  name: z.string(),
  type: keyType,
  class: z.enum(['SECRET_KEY', 'PUBLIC_KEY', 'KEY_PAIR']),
  protectionLevel: z.enum(['HSM']),
  operations: z.array(usage),
  size: z.int().optional().meta({ description: 'Bits; of oct and RSA keys.' }),
  curve: shownCurve.optional(),
  attributes: keyAttributes,
};

export const serviceKey = z
  .strictObject({
    ...metadata,
    keys: z.array(publicJwk).length(1).optional().meta({ description: 'With `format=jwk`: the public half.' }),
  })
  .meta({ id: 'GetServiceKeyResponse' });

export type ServiceKey = z.infer<typeof serviceKey>;

export const serviceKeyList = z
  .strictObject({
    objects_list: z.array(z.strictObject(metadata).meta({ id: 'ServiceKeyListItem' })),
    is_truncated: z.boolean(),
    continuation_token: z.string().meta({ description: 'For the next page; empty on the last.' }),
  })
  .meta({ id: 'ListServiceKeysResponse' });

export const encrypted = z.strictObject({ ciphertext: jwe }).meta({ id: 'EncryptResponse' });
export const decrypted = z.strictObject({ plaintext: base64 }).meta({ id: 'DecryptResponse' });
export const dataKey = z.strictObject({ key: jwe, plaintext: base64 }).meta({ id: 'GenerateDataKeyResponse' });
export const decryptedDataKey = z.strictObject({ plaintext: base64 }).meta({ id: 'DecryptDataKeyResponse' });
export const signed = z
  .strictObject({ signature: z.string().meta({ format: 'signature', description: '`raw`: base64; else compact JWS.' }) })
  .meta({ id: 'SignResponse' });
export const verified = z.strictObject({ result: z.boolean() }).meta({ id: 'VerifyResponse' });

export const random = z.strictObject({ bytes: base64 }).meta({ id: 'GetRandomResponse' });

export const errorBody = z
  .strictObject({
    error_id: z.string().meta({ description: 'Short stable symbol of the cause, such as `wrong-state`.' }),
    error_code: z.int().min(0).max(2_147_483_647),
    errors: z.array(z.string()).min(1),
    request_id: z.string().meta({ description: 'Also in the header `X-Request-Id`.' }),
  })
  .meta({ id: 'ErrorResponse' });
