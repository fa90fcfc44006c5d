/** What the Key Vault door's OpenAPI document says of the door as a whole (azure-keyvault-keys-api §0). */

import { z } from 'zod';
import type { DoorDescription } from '../openapi.ts';
import { CRYPTOGRAPHY, DELETED, KEYS, LATER } from './descriptions.ts';
import { errorBody } from './reply-schema.ts';
import { ROLES } from './role-descriptions.ts';

export const keyVaultDocument: DoorDescription = {
  name: 'keyvault',
  title: 'Key Vault keys API',
  text: [
    'Keys, their versions, and cryptography with them. Every key lives in the HSM and stays there.',
    'The vault is the one that the host name begins with, else the first. Callers prove who they are with an access token',
    'or an access certificate.',
  ].join(' '),
  servers: [{ url: '', description: 'The vault of this host name' }],
  tags: [
    { name: KEYS, description: 'Their life, from creation to deletion.' },
    { name: DELETED, description: 'Until their scheduled purge.' },
    { name: CRYPTOGRAPHY, description: 'With a version of a key, or with its newest.' },
    { name: ROLES, description: 'Of a managed HSM: who may do what in it.' },
    { name: LATER, description: 'Known, and answered with 501.' },
  ],
  parameters: {
    name: z.string().regex(/^[0-9a-zA-Z-]{1,127}$/).meta({ description: 'Of the key; upper and lower case are the same.' }),
    id: z.uuid().meta({ description: 'Of the role definition or assignment.' }),
    version: z.string().regex(/^[0-9a-f]{32}$/).meta({ description: 'Of the key.' }),
  },
  errorBody,
  security: {
    accessToken: { type: 'http', scheme: 'bearer', description: 'An access token of this KMS.' },
    mutualTLS: { type: 'mutualTLS', description: 'An access certificate of this KMS.' },
  },
};
