/**
 * What the Key Vault document says of each route, by operation: the schemas its reader and its renderer keep to, and words
 * for people.
 */

import { z } from 'zod';
import { ENCRYPTION_NAMES, SIGNATURE_NAMES } from '../../keys/cryptography.ts';
import type { RequestBody, RouteDescription } from '../door.ts';
import * as reply from './reply-schema.ts';
import * as schema from './schema.ts';
import { apiVersion } from './versions.ts';

/** Tags: where a page shows an operation. */
export const KEYS = 'Keys';
export const DELETED = 'Deleted keys';
export const CRYPTOGRAPHY = 'Cryptography';
export const LATER = 'Not in this release';

const versioned = z.object({ 'api-version': apiVersion });
const paged = versioned.extend({
  maxresults: z.int().min(1).max(25).optional().meta({ description: 'Items a page.' }),
  $skiptoken: z.string().optional().meta({ description: 'Of the `nextLink` of the page before.' }),
});

type Success = RouteDescription['success'];

const KEY: Success = { status: 200, text: 'The key.', body: reply.keyBundle };
const DELETED_KEY: Success = { status: 200, text: 'The deleted key.', body: reply.deletedKeyBundle };
const RESULT: Success = { status: 200, text: 'The result.', body: reply.operationResult };

function body(of: z.ZodType, example: RequestBody['example']): RequestBody {
  return { schema: of, required: true, example };
}

function describe(tag: string, summary: string, success: Success, more: Partial<RouteDescription> = {}): RouteDescription {
  return { tag, summary, success, query: versioned, ...more };
}

export const getKeys = describe(KEYS, 'List keys', { status: 200, text: 'One page, by name.', body: reply.keyPage }, { query: paged });
export const getKeyVersions = describe(
  KEYS, 'List the versions of a key', { status: 200, text: 'One page, by version.', body: reply.keyPage }, { query: paged },
);
export const getKey = describe(KEYS, 'Get a key', KEY, { notes: 'The public half and the attributes; without a version, of the newest.' });

export const createKey = describe(KEYS, 'Create a key, or a new version of it', KEY, {
  notes: 'Type, size and curve of a name are fixed by its first version.',
  body: body(schema.createBody, { kty: 'RSA-HSM', key_size: 2048, tags: { purpose: 'first try' } }),
  errors: [409, 501],
});
export const importKey = describe(KEYS, 'Import a key, or a new version of it', KEY, {
  notes: 'The private or secret key is unwrapped into the HSM. `key_ops` stand inside `key`.',
  body: body(schema.importBody, { key: { kty: 'oct-HSM', k: 'AAECAwQFBgcICQoLDA0ODw', key_ops: ['encrypt', 'decrypt'] } }),
  errors: [409, 501],
});
export const rotateKey = describe(KEYS, 'Rotate a key', KEY, {
  notes: 'A new version with the type, operations and tags of the newest.', errors: [409],
});
export const updateKey = describe(KEYS, 'Change attributes, operations or tags', KEY, {
  notes: 'Of one version; what is absent stays. Operations can be narrowed, and widened again to those the version was made for.',
  body: body(schema.updateBody, { attributes: { enabled: true }, tags: { purpose: 'second try' } }),
  errors: [409],
});
export const deleteKey = describe(KEYS, 'Delete a key', DELETED_KEY, {
  notes: 'All its versions. It can be recovered until its scheduled purge.',
});
export const getDeletedKeys = describe(
  DELETED, 'List deleted keys', { status: 200, text: 'One page, by name.', body: reply.deletedKeyPage }, { query: paged },
);
export const getDeletedKey = describe(DELETED, 'Get a deleted key', DELETED_KEY);
export const recoverDeletedKey = describe(DELETED, 'Recover a deleted key', KEY, { notes: 'As it was before its deletion.' });
export const purgeDeletedKey = describe(DELETED, 'Purge a deleted key', { status: 204, text: 'Destroyed; there is no way back.' });

const CIPHERS = `Algorithms: ${ENCRYPTION_NAMES.join(', ')}.`;
const cipher = (example: RequestBody['example']): Partial<RouteDescription> =>
  ({ notes: CIPHERS, body: body(schema.operationBody, example), errors: [429, 501] });

export const encrypt = describe(CRYPTOGRAPHY, 'Encrypt', RESULT, cipher({ alg: 'A256GCM', value: 'aGVsbG8' }));
export const decrypt = describe(CRYPTOGRAPHY, 'Decrypt', RESULT, cipher({ alg: 'RSA-OAEP-256', value: 'AAAA' }));
export const wrapKey = describe(CRYPTOGRAPHY, 'Wrap a key', RESULT, {
  ...cipher({ alg: 'A256KW', value: 'AAECAwQFBgcICQoLDA0ODw' }), operationId: 'wrapKey',
});
export const unwrapKey = describe(CRYPTOGRAPHY, 'Unwrap a key', RESULT, {
  ...cipher({ alg: 'A256KW', value: 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYX' }), operationId: 'unwrapKey',
});

const DIGEST = 'LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ';
const SIGNERS = `\`value\` is a digest; of HMAC the message, of RSNULL what is to be padded. Algorithms: ${SIGNATURE_NAMES.join(', ')}.`;

export const sign = describe(CRYPTOGRAPHY, 'Sign a digest', RESULT, {
  notes: SIGNERS, body: body(schema.signBody, { alg: 'ES256', value: DIGEST }), errors: [501],
});
export const verify = describe(CRYPTOGRAPHY, 'Verify a signature', { status: 200, text: 'Whether it holds.', body: reply.verifyResult }, {
  notes: SIGNERS, body: body(schema.verifyBody, { alg: 'ES256', digest: DIGEST, value: 'AAAA' }), errors: [501],
});
export const getRandomBytes = describe(
  CRYPTOGRAPHY, 'Random bytes of the HSM', { status: 200, text: 'The bytes.', body: reply.randomBytes },
  { notes: 'In a managed HSM.', body: body(schema.randomBody, { count: 32 }), errors: [404] },
);

const NOTHING: Success = { status: 200, text: 'Not answered in this release.' };
const later = (summary: string, more: Partial<RouteDescription> = {}): RouteDescription => describe(LATER, summary, NOTHING, { errors: [501], ...more });

export const getKeyRotationPolicy = later('Get the rotation policy of a key');
export const updateKeyRotationPolicy = later('Set the rotation policy of a key', { body: body(schema.rotationPolicyBody, { lifetimeActions: [] }) });
export const getKeyAttestation = later('Get a key with its attestation');
export const backupKey = later('Back up a key');
export const restoreKey = later('Restore a key', { body: body(schema.restoreBody, { value: 'AAAA' }) });
export const release = later('Release a key', { body: body(schema.releaseBody, { target: 'eyJ' }) });
