/** Who is calling, independent of how it was proved. */

import type { Holder } from '../keys/key.ts';

export interface Principal {
  readonly method: 'certificate' | 'token';
  /** Who vouches. Never decided by a bare name. */
  readonly issuer: string;
  readonly subject: string;
  /** What else it speaks for: identities of a certificate, groups and roles of a token. Their roles are its roles. */
  readonly memberships: readonly Holder[];
  /** The only vault this credential is good for; null when it is bound to none. */
  readonly vaultId: string | null;
  /** Identifies the credential itself: issuer key hash and serial of a certificate, `jti` of a token. */
  readonly credential: string;
}

/** How the audit names a certificate. */
export function credentialName(issuerKeyHash: string, serial: string): string {
  return `${issuerKeyHash.slice(0, 16)}:${serial}`;
}

/** As many groups as Entra ID puts into a token. */
export const MEMBERSHIPS_MAX = 200;

/** How principals name our own access CA and our own issuer of tokens, which an address may not change. */
export function issuerOf(installationId: string): string {
  return `urn:kms:${installationId}`;
}
