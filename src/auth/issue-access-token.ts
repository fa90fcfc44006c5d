/**
 * Issuing access tokens (RFC 7519). The signing key stays where it is (in the token): this module builds what is to be
 * signed and puts the signature in.
 */

import { type KeyObject, randomUUID } from 'node:crypto';
import type { TokenIssuer } from './access-token.ts';

/** An issuer that can issue. */
export interface SigningIssuer extends TokenIssuer {
  /** Names its one key, of ECDSA P-256. */
  readonly kid: string;
  readonly publicKey: KeyObject;
  /** The installation's id; `tid` of its tokens. */
  readonly tenant: string;
  /** URL below which its endpoints are. */
  readonly authority: string;
  /** ECDSA with SHA-256 over `bytes`; raw r‖s, 64 bytes. */
  readonly sign: (bytes: Uint8Array) => Promise<Uint8Array>;
}

export interface Grant {
  readonly subject: string;
  /** One of the issuer's. */
  readonly audience: string;
  /** Seconds. */
  readonly lifetime: number;
}

export interface IssuedToken {
  /** Compact JWS. */
  readonly text: string;
  /** What the audit says of it. */
  readonly facts: { readonly subject: string; readonly jti: string; readonly exp: number };
}

export async function issueAccessToken(issuer: SigningIssuer, { subject, audience, lifetime }: Grant, nowMs: number): Promise<IssuedToken> {
  const { iss, tenant, kid } = issuer;
  const [now, jti] = [Math.floor(nowMs / 1000), randomUUID()];
  const exp = now + lifetime;
  const claims = { iss, aud: audience, sub: subject, tid: tenant, jti, iat: now, nbf: now, exp };
  const signed = `${part({ alg: 'ES256', typ: 'JWT', kid })}.${part(claims)}`;
  const signature = await issuer.sign(Buffer.from(signed, 'ascii'));
  return { text: `${signed}.${Buffer.from(signature).toString('base64url')}`, facts: { subject, jti, exp } };
}

function part(members: object): string {
  return Buffer.from(JSON.stringify(members), 'utf8').toString('base64url');
}

/** How clients of Entra ID name a resource as a whole in a scope. */
const ALL_OF = '/.default';

/** @returns undefined for a scope that is not the whole of one of the issuer's resources */
export function audienceOf({ audiences }: TokenIssuer, scope: string): string | undefined {
  return audiences.find((audience) => `${audience}${ALL_OF}` === scope);
}
