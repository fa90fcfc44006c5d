/** The wire form of Key Vault answers (azure-keyvault-keys-api §1.1, §2.1), as zod schemas beside those of the requests. */

import { z } from 'zod';

const base64url = z.string().regex(/^[\w-]*$/).meta({ format: 'base64url' });
const seconds = z.int().meta({ description: 'Seconds since the epoch.' });
const keyId = z.url().meta({ examples: ['https://localhost:8443/keys/my-key/0123456789abcdef0123456789abcdef'] });
const tags = z.record(z.string(), z.string()).optional();

const attributes = z.object({
  enabled: z.boolean(),
  nbf: seconds.optional(),
  exp: seconds.optional(),
  created: seconds,
  updated: seconds,
  recoveryLevel: z.enum(['Recoverable', 'Recoverable+Purgeable', 'CustomizedRecoverable', 'CustomizedRecoverable+Purgeable']),
  recoverableDays: z.int().min(7).max(90),
  exportable: z.literal(false),
  hsmPlatform: z.string(),
}).meta({ id: 'KeyAttributes' });

const jsonWebKey = z.object({
  kid: keyId,
  kty: z.enum(['RSA', 'RSA-HSM', 'EC', 'EC-HSM', 'oct-HSM']),
  key_ops: z.array(z.string()),
  n: base64url.optional(),
  e: base64url.optional(),
  crv: z.enum(['P-256', 'P-384', 'P-521', 'P-256K']).optional(),
  x: base64url.optional(),
  y: base64url.optional(),
}).meta({ id: 'JsonWebKey' });

const deletion = { recoveryId: z.url(), deletedDate: seconds, scheduledPurgeDate: seconds };

export const keyBundle = z.object({ key: jsonWebKey, attributes, tags }).meta({ id: 'KeyBundle' });
export const deletedKeyBundle = keyBundle.extend(deletion).meta({ id: 'DeletedKeyBundle' });
const keyItem = z.object({ kid: keyId, attributes, tags }).meta({ id: 'KeyItem' });
const deletedKeyItem = keyItem.extend(deletion).meta({ id: 'DeletedKeyItem' });
const nextLink = z.url().nullable();

export const keyPage = z.object({ value: z.array(keyItem), nextLink }).meta({ id: 'KeyListResult' });
export const deletedKeyPage = z.object({ value: z.array(deletedKeyItem), nextLink }).meta({ id: 'DeletedKeyListResult' });

export const operationResult = z.object({
  kid: keyId,
  value: base64url,
  iv: base64url.optional(),
  tag: base64url.optional(),
  aad: base64url.optional(),
  alg: z.string().optional().meta({ description: 'In a managed HSM.' }),
}).meta({ id: 'KeyOperationResult' });

export const verifyResult = z.object({ value: z.boolean() }).meta({ id: 'KeyVerifyResult' });
export const randomBytes = z.object({ value: base64url }).meta({ id: 'RandomBytes' });

export const errorBody = z.object({
  error: z.object({
    code: z.string().meta({ examples: ['KeyNotFound'] }),
    message: z.string(),
    innererror: z.object({ code: z.string() }).optional(),
  }),
}).meta({ id: 'KeyVaultError' });
