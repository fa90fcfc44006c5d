/** The built-in issuer of access tokens: in `dev` installations only, its key in the token (design §9). */

import { createHash, createPublicKey } from 'node:crypto';
import type { Installation, InternalKey } from '../keys/key.ts';
import type { SigningIssuer } from './issue-access-token.ts';
import { issuerOf } from './principal.ts';

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
  const authority = `${endpoint}/${installation.id}`;
  return {
    iss: `${authority}/v2.0`,
    name: issuerOf(installation.id),
    tenant: installation.id,
    authority,
    audiences: [endpoint, `${endpoint}/`],
    keys: new Map([[createHash('sha256').update(key.publicKey).digest('base64url').slice(0, 16), publicKey]]),
    algorithm: 'ES256',
    sign: (bytes) => signWith(key, bytes),
  };
}
