/** Who is calling, independent of how it was proved. Types only. */

export interface Principal {
  readonly method: 'certificate' | 'token';
  /** Who vouches: `urn:kms:<installation>` for our own access CA. Never decided by a bare name. */
  readonly issuer: string;
  readonly subject: string;
  /** The only vault this credential is good for; null when it is bound to none. */
  readonly vaultId: string | null;
  /** Identifies the credential itself: issuer key hash and serial of a certificate, `jti` of a token. */
  readonly credential: string;
}
