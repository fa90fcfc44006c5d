/** What the OKMS door's OpenAPI document says of the door as a whole (okms-rest-api §1.1, §4.6). */

import { z } from 'zod';
import type { DoorDescription } from '../openapi.ts';
import { CRYPTOGRAPHY, KEYS, SIGNATURES } from './descriptions.ts';
import { errorBody } from './reply-schema.ts';

const VAULT = {
  default: '00000000-0000-0000-0000-000000000000',
  description: 'Your OKMS id: `okmsId` in `clients/admin.json`, and the common name of your access certificate.',
};

export const okmsDocument: DoorDescription = {
  name: 'okms',
  title: 'OVHcloud KMS REST API',
  text: [
    'Service keys: their life, encryption, data keys and signatures. Every key lives in the HSM and stays there.',
    'Callers prove who they are with an access certificate (mutual TLS) or an access token.',
  ].join(' '),
  servers: [
    { url: '/v1', description: 'The vault of your certificate' },
    { url: '/api/{okmsId}/v1', description: 'The vault by its id', variables: { okmsId: VAULT } },
  ],
  tags: [
    { name: KEYS, description: 'Their life, from creation to destruction.' },
    { name: CRYPTOGRAPHY, description: 'Encryption and data keys, with `oct` keys.' },
    { name: SIGNATURES, description: 'With `RSA` and `EC` keys.' },
  ],
  parameters: { keyId: z.guid().meta({ description: 'The id of the key.' }) },
  errorBody,
  security: {
    mutualTLS: { type: 'mutualTLS', description: 'An access certificate of this KMS.' },
    accessToken: { type: 'http', scheme: 'bearer', description: 'An access token of this KMS; the path must name the vault.' },
  },
};
