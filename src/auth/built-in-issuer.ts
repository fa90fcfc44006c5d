/** The built-in issuer of access tokens: in `dev` installations only, its key in the token (design §9). */

import { createHash, createPublicKey } from 'node:crypto';
import type { Installation, InternalKey } from '../keys/key.ts';
import { LIFETIME_MAX } from './access-token.ts';
import type { SigningIssuer } from './issue-access-token.ts';
import { issuerOf } from './principal.ts';

/** Seconds by which clocks of this host and its clients may differ. */
const SKEW = 5;

/**
 * @param endpoint origin of the API, without a slash at its end
 * @param signWith ECDSA with SHA-256 by an internal key, in the token; raw r‖s
 * @returns null in `prod`, which has no built-in issuer
 */
export function builtInIssuer(
  installation: Installation,
  endpoint: string,
  signWith: (key: InternalKey, bytes: Uint8Array) => Promise<Uint8Array>,
): SigningIssuer | null {
  const key = installation.internalKeys.find(({ name }) => name === 'token-issuer');
  if (installation.kind !== 'dev' || key?.publicKey == null) return null;
  const publicKey = createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' });
  const kid = createHash('sha256').update(key.publicKey).digest('base64url').slice(0, 16);
  const authority = `${endpoint}/${installation.id}`;
  return {
    iss: `${authority}/v2.0`,
    name: issuerOf(installation.id),
    tenant: installation.id,
    authority,
    audiences: [endpoint, `${endpoint}/`],
    algorithms: ['ES256'],
    kid,
    publicKey,
    keyOf: (header) => (header.kid === kid ? Promise.resolve(publicKey) : Promise.reject(new Error('unknown kid'))),
    rules: { subject: 'sub', id: 'jti', groups: null, roles: null, required: {}, skew: SKEW, lifetimeMax: LIFETIME_MAX },
    sign: (bytes) => signWith(key, bytes),
  };
}
