/** What clients learn of the issuer: its metadata (OpenID Connect Discovery §3, RFC 8414 §2) and its keys (RFC 7517 §5). Pure. */

import type { SigningIssuer } from '../../auth/issue-access-token.ts';

/** Below the authority, where Entra ID has them. */
export const PATHS = {
  token: '/oauth2/v2.0/token',
  authorize: '/oauth2/v2.0/authorize',
  keys: '/discovery/v2.0/keys',
  metadata: '/v2.0/.well-known/openid-configuration',
} as const;

export function metadataOf({ iss, authority, algorithms }: SigningIssuer): object {
  return {
    issuer: iss,
    token_endpoint: `${authority}${PATHS.token}`,
    jwks_uri: `${authority}${PATHS.keys}`,
    // MSAL refuses metadata without it. Nobody signs in here, so nothing is served there.
    authorization_endpoint: `${authority}${PATHS.authorize}`,
    grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['client_secret_post', 'client_secret_basic'],
    response_types_supported: [],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: algorithms,
  };
}

export function keySetOf({ kid, publicKey, algorithms: [alg] }: SigningIssuer): object {
  return { keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }] };
}
