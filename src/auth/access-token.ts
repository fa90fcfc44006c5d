/**
 * Access tokens: a bearer's JWT (RFC 7519, RFC 6750) → who it speaks for. The key comes from the issuer's own set and from
 * nowhere else, least of all from the token; the algorithm is fixed per issuer (security S-12, RFC 8725).
 */

import type { KeyObject } from 'node:crypto';

export interface TokenIssuer {
  /** Exact `iss` of its tokens. */
  readonly iss: string;
  /** By which principals are stored: an address may change, this does not. */
  readonly name: string;
  /** Exact `aud`, any of them. */
  readonly audiences: readonly string[];
  /** `kid` → public key; all for the one algorithm. */
  readonly keys: ReadonlyMap<string, KeyObject>;
  readonly algorithm: 'ES256';
}

export interface TokenFacts {
  readonly issuer: string;
  readonly subject: string;
  /** `jti`. */
  readonly id: string;
  readonly notAfterMs: number;
}

/** Characters of the longest token that is looked at. */
const TOKEN_MAX = 8192;
/** Seconds by which clocks may differ. */
const SKEW = 5;
/** Seconds of the longest life of a token. */
export const LIFETIME_MAX = 3600;

/** @returns undefined for whatever is no token of this issuer that holds now; which check failed nobody learns */
export async function readAccessToken(text: string, issuer: TokenIssuer, nowMs: number): Promise<TokenFacts | undefined> {
  if (text.length > TOKEN_MAX) return undefined;
  // Needed by servers only when somebody comes with a token.
  const { jwtVerify } = await import('jose');
  try {
    const { payload } = await jwtVerify(text, ({ kid }) => keyOf(issuer, kid), {
      algorithms: [issuer.algorithm],
      issuer: issuer.iss,
      audience: [...issuer.audiences],
      requiredClaims: ['sub', 'jti', 'exp', 'nbf', 'iat'],
      clockTolerance: SKEW,
      // Also refuses one that was issued in the future.
      maxTokenAge: LIFETIME_MAX,
      currentDate: new Date(nowMs),
    });
    const { sub, jti, exp = 0, iat = 0 } = payload;
    if (!isPrintable(sub) || !isPrintable(jti) || exp - iat > LIFETIME_MAX || exp <= iat) return undefined;
    return { issuer: issuer.name, subject: sub, id: jti, notAfterMs: exp * 1000 };
  } catch {
    return undefined;
  }
}

function keyOf({ keys }: TokenIssuer, kid: string | undefined): KeyObject {
  const key = keys.get(kid ?? '');
  if (key === undefined) throw new Error('unknown kid');
  return key;
}

const NAME_MAX = 256;

/** Of 1 to 256 characters, so that it can stand in the audit. */
export function isPrintable(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= NAME_MAX && /^[^\p{C}]+$/u.test(value);
}
