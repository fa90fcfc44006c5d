/** The built-in issuer of access tokens: in `dev` installations only, its key in the token (design §9). */

import { createHash, createPublicKey } from 'node:crypto';
import type { Installation } from '../keys/key.ts';
import type { TokenIssuer } from './access-token.ts';
import { issuerOf } from './principal.ts';

/**
 * @param endpoint origin of the API, without a slash at its end
 * @returns null in `prod`, which has no built-in issuer
 */
export function builtInIssuer(installation: Installation, endpoint: string): TokenIssuer | null {
  const key = installation.internalKeys.find(({ name }) => name === 'token-issuer');
  if (installation.kind !== 'dev' || key?.publicKey == null) return null;
  const publicKey = createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' });
  return {
    iss: `${endpoint}/${installation.id}/v2.0`,
    name: issuerOf(installation.id),
    audiences: [endpoint, `${endpoint}/`],
    keys: new Map([[createHash('sha256').update(key.publicKey).digest('base64url').slice(0, 16), publicKey]]),
    algorithm: 'ES256',
  };
}
