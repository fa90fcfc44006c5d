/**
 * What the OKMS document says of each route, by operation: the schemas its reader and its renderer keep to, and words
 * for people.
 */

import { z } from 'zod';
import type { RouteDescription } from '../door.ts';
import * as reply from './reply-schema.ts';
import {
  createBody,
  dataKeyBody,
  deactivateBody,
  decryptBody,
  decryptDataKeyBody,
  encryptBody,
  keyFormat,
  keyState,
  pageSize,
  renameBody,
  signatureFormat,
  signBody,
  verifyBody,
  randomLength,
  wrappedKeyFormat,
  wrappingAlgorithm,
} from './schema.ts';

/** Tags: where a page shows an operation. */
export const KEYS = 'Keys';
export const CRYPTOGRAPHY = 'Cryptography';
export const SIGNATURES = 'Signatures';

const NO_CONTENT = { status: 204, text: 'Done.' } as const;
const withJwk = z.object({ format: keyFormat.optional().meta({ description: 'Show the public half as JWK.' }) });

export const createKey: RouteDescription = {
  tag: KEYS,
  summary: 'Create or import a key',
  notes: 'The new key is active. `oct` and `RSA` take a `size`, `EC` a `curve`; `keys` holds a JWK to import instead: secret, \
private, or a public key alone. `wrappedKeys` holds one that is wrapped for an RSA key with the usage `unwrapKey`.',
  query: withJwk,
  body: {
    schema: createBody,
    required: true,
    example: { name: 'my first key', type: 'oct', size: 256, operations: ['encrypt', 'decrypt'] },
  },
  success: { status: 201, text: 'The key, stored in the HSM.', body: reply.serviceKey },
  errors: [404, 409, 501],
};

export const listKeys: RouteDescription = {
  tag: KEYS,
  summary: 'List keys',
  notes: 'In order of creation. Without `state`: every key that is not destroyed.',
  query: z.object({
    state: keyState.optional(),
    max: z.int().min(pageSize.min).max(pageSize.max).optional().meta({ description: 'Keys a page; never more than 100 are answered.' }),
    'continuation-token': z.string().optional().meta({ description: '`continuation_token` of the page before.' }),
  }),
  success: { status: 200, text: 'One page.', body: reply.serviceKeyList },
};

export const getKey: RouteDescription = {
  tag: KEYS,
  summary: 'Get a key',
  notes: 'No key leaves the HSM: `wrappingKeyId`, which asks for the key wrapped under another one, is refused.',
  query: withJwk.extend({
    wrappingKeyId: z.guid().optional(),
    wrappedKeyFormat: wrappedKeyFormat.optional(),
    wrappingAlgorithm: wrappingAlgorithm.optional(),
  }),
  success: { status: 200, text: 'The key.', body: reply.serviceKey },
};

export const updateKey: RouteDescription = {
  tag: KEYS,
  summary: 'Rename a key',
  body: { schema: renameBody, required: true, example: { name: 'another name' } },
  success: { status: 200, text: 'The key.', body: reply.serviceKey },
};

export const deleteKey: RouteDescription = {
  tag: KEYS,
  summary: 'Delete a key for ever',
  notes: 'The key must not be active. Its material in the HSM is destroyed; nothing brings it back.',
  success: NO_CONTENT,
};

export const deleteKeyAsGuided: RouteDescription = {
  ...deleteKey,
  operationId: 'deleteKeyAsGuided',
  summary: 'Delete a key, as the guide of 2024 writes it',
  deprecated: true,
};

export const activateKey: RouteDescription = {
  tag: KEYS,
  summary: 'Activate a deactivated or compromised key',
  success: NO_CONTENT,
};

export const deactivateKey: RouteDescription = {
  tag: KEYS,
  summary: 'Deactivate a key',
  notes: 'A key that is not active serves no operation. The reasons of compromise make it `compromised`.',
  body: { schema: deactivateBody, required: false, example: { reason: 'unspecified' } },
  success: NO_CONTENT,
};

export const encrypt: RouteDescription = {
  tag: CRYPTOGRAPHY,
  summary: 'Encrypt up to 4096 bytes',
  body: { schema: encryptBody, required: true, example: { plaintext: 'aGVsbG8=', context: 'order 7' } },
  success: { status: 200, text: 'A compact JWE.', body: reply.encrypted },
  errors: [501],
};

export const decrypt: RouteDescription = {
  tag: CRYPTOGRAPHY,
  summary: 'Decrypt what `encrypt` answered',
  notes: 'Whatever does not fit, key, context or a changed bit: one and the same error.',
  body: { schema: decryptBody, required: true, example: { ciphertext: 'eyJhbGciOiJkaXIi…', context: 'order 7' } },
  success: { status: 200, text: 'The plaintext.', body: reply.decrypted },
  errors: [501],
};

export const createDataKey: RouteDescription = {
  tag: CRYPTOGRAPHY,
  summary: 'Generate a data key',
  notes: 'The key needs the usage `wrapKey`.',
  body: { schema: dataKeyBody, required: true, example: { name: 'my data key', size: 256 } },
  success: { status: 201, text: 'The data key in clear, and under the key as a compact JWE.', body: reply.dataKey },
  errors: [501],
};

export const decryptDataKey: RouteDescription = {
  tag: CRYPTOGRAPHY,
  summary: 'Decrypt a data key',
  notes: 'The key needs the usage `unwrapKey`.',
  body: { schema: decryptDataKeyBody, required: true, example: { key: 'eyJhbGciOiJkaXIi…' } },
  success: { status: 200, text: 'The data key in clear.', body: reply.decryptedDataKey },
  errors: [501],
};

export const sign: RouteDescription = {
  tag: SIGNATURES,
  summary: 'Sign a message or a digest',
  notes: 'ECDSA signatures in `raw` format are r‖s of fixed width (IEEE P1363), not DER. `jws` and `jwt` answer a compact JWS \
of the message, which is hashed here: `isdigest` stays false.',
  query: z.object({ format: signatureFormat.optional() }),
  body: { schema: signBody, required: true, example: { message: 'aGVsbG8=', alg: 'ES256', isdigest: false } },
  success: { status: 200, text: 'The signature.', body: reply.signed },
  errors: [501],
};

export const verify: RouteDescription = {
  tag: SIGNATURES,
  summary: 'Verify a signature',
  notes: 'A signature that does not fit is `false`, not an error. A compact JWS brings its own `alg` and `message`; what is \
said beside it must agree.',
  body: {
    schema: verifyBody,
    required: true,
    example: { signature: 'c2lnbmF0dXJl', message: 'aGVsbG8=', alg: 'ES256' },
  },
  success: { status: 200, text: 'Whether it fits.', body: reply.verified },
  errors: [501],
};

export const getRandom: RouteDescription = {
  tag: CRYPTOGRAPHY,
  summary: 'Random bytes of the HSM',
  query: z.object({
    length: z.int().min(randomLength.min).max(randomLength.max).optional().meta({ description: 'Bytes; 1 without it.' }),
  }),
  success: { status: 200, text: 'The bytes.', body: reply.random },
};
