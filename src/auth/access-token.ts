/**
 * Access tokens: a bearer's JWT (RFC 7519, RFC 6750) → who it speaks for. The key comes from the issuer's own set and from
 * nowhere else, least of all from the token; the algorithms are fixed per issuer (security S-12, RFC 8725).
 */

import type { KeyObject } from 'node:crypto';
import type * as Jose from 'jose';
import { asKmsError, KmsError } from '../errors.ts';
import type { Holder } from '../keys/key.ts';
import { MEMBERSHIPS_MAX } from './principal.ts';

/** Signatures that can be checked with a public key; there is no other kind here. */
export type TokenAlgorithm = `${'ES' | 'RS' | 'PS'}${256 | 384 | 512}` | 'EdDSA';

export interface TokenHeader {
  readonly alg: string;
  readonly kid: string;
}

export interface TokenIssuer {
  /** Exact `iss` of its tokens. */
  readonly iss: string;
  /** By which principals are stored: an address may change, this does not. */
  readonly name: string;
  /** Exact `aud`, any of them. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly TokenAlgorithm[];
  /** Of its own set. Rejects with KmsError `issuer-unavailable` when the set cannot be had, and otherwise for an unknown key. */
  readonly keyOf: (header: TokenHeader) => Promise<KeyObject | CryptoKey>;
  readonly rules: TokenRules;
}

export interface TokenRules {
  /** Claim that names the subject. */
  readonly subject: string;
  /** Claim that names the token; tokens without it have no name in the audit. */
  readonly id: string | null;
  /** Claims with lists of names; null where they are not looked at. */
  readonly groups: string | null;
  readonly roles: string | null;
  /** Claims that must have exactly this value. */
  readonly required: Readonly<Record<string, string>>;
  /** Seconds by which clocks may differ. */
  readonly skew: number;
  /** Seconds of the longest life of a token; null for any. */
  readonly lifetimeMax: number | null;
}

export interface TokenFacts {
  readonly issuer: string;
  readonly subject: string;
  readonly memberships: readonly Holder[];
  /** Name of the token; empty for one without. */
  readonly id: string;
  readonly notAfterMs: number;
}

/** Characters of the longest token that is looked at. */
const TOKEN_MAX = 8192;
/** Seconds of the longest life of a token of the built-in issuer. */
export const LIFETIME_MAX = 3600;

/**
 * @throws KmsError `unauthenticated` for whatever is no token of one of these issuers that holds now: the caller does not
 * learn which check failed, `rule` tells the audit; `issuer-unavailable`
 */
export async function readAccessToken(text: string, issuers: readonly TokenIssuer[], nowMs: number): Promise<TokenFacts> {
  if (text.length > TOKEN_MAX) throw refused('token-too-long');
  const issuer = await issuerOfToken(text, issuers);
  if (issuer === undefined) throw refused('token-issuer');
  return factsOf(await verified(text, issuer, nowMs), issuer);
}

/** Needed by servers only when somebody comes with a token. */
const jose = (): Promise<typeof Jose> => import('jose');

async function issuerOfToken(text: string, issuers: readonly TokenIssuer[]): Promise<TokenIssuer | undefined> {
  try {
    const { iss } = (await jose()).decodeJwt(text);
    return issuers.find((candidate) => candidate.iss === iss);
  } catch {
    return undefined;
  }
}

type Claims = Readonly<Record<string, unknown>>;

async function verified(text: string, issuer: TokenIssuer, nowMs: number): Promise<Claims> {
  const { skew, lifetimeMax } = issuer.rules;
  try {
    const { payload } = await (await jose()).jwtVerify(text, ({ alg, kid }) => keyOf(issuer, alg, kid), {
      algorithms: [...issuer.algorithms],
      issuer: issuer.iss,
      audience: [...issuer.audiences],
      requiredClaims: requiredClaims(issuer.rules),
      clockTolerance: skew,
      // Also refuses one that was issued in the future.
      ...(lifetimeMax !== null && { maxTokenAge: lifetimeMax }),
      currentDate: new Date(nowMs),
    });
    return payload;
  } catch (error) {
    if (asKmsError(error).code === 'issuer-unavailable') throw error;
    throw refused(ruleOf(error));
  }
}

function requiredClaims({ subject, id, required, lifetimeMax }: TokenRules): string[] {
  return [subject, 'exp', 'nbf', ...(id === null ? [] : [id]), ...(lifetimeMax === null ? [] : ['iat']), ...Object.keys(required)];
}

async function keyOf(issuer: TokenIssuer, alg: string, kid: string | undefined): Promise<KeyObject | CryptoKey> {
  if (typeof kid !== 'string') throw new Error('no kid');
  return issuer.keyOf({ alg, kid });
}

function factsOf(payload: Claims, { name, rules }: TokenIssuer): TokenFacts {
  const { subject: subjectClaim, id: idClaim, required, lifetimeMax } = rules;
  const [subject, id] = [payload[subjectClaim], idClaim === null ? '' : payload[idClaim]];
  const { exp = 0, iat = 0 } = payload as { exp?: number; iat?: number };
  if (!isPrintable(subject) || (idClaim !== null && !isPrintable(id))) throw refused('token-subject');
  for (const [claim, value] of Object.entries(required)) if (payload[claim] !== value) throw refused(`token-claim-${claim}`);
  if (lifetimeMax !== null && (exp - iat > lifetimeMax || exp <= iat)) throw refused('token-lifetime');
  return { issuer: name, subject, memberships: membershipsOf(payload, name, rules), id: id as string, notAfterMs: exp * 1000 };
}

/** A token that names more, or names nothing can be made of, is refused: leaving some out would change what the rest means. */
function membershipsOf(payload: Claims, issuer: string, { groups, roles }: TokenRules): readonly Holder[] {
  const named = (claim: string | null, method: Holder['method']): readonly Holder[] => {
    const values: unknown = claim === null ? [] : (payload[claim] ?? []);
    const list: readonly unknown[] = Array.isArray(values) ? values : [values];
    if (!list.every(isPrintable)) throw refused(`token-claim-${claim ?? ''}`);
    return list.map((subject) => ({ method, issuer, subject }));
  };
  const all = [...named(groups, 'group'), ...named(roles, 'app-role')];
  if (all.length > MEMBERSHIPS_MAX) throw refused('token-too-many-groups');
  return all;
}

/** Of the errors of jose, its code, and the claim where one is at fault. */
function ruleOf(error: unknown): string {
  const { code, claim } = error as { readonly code?: unknown; readonly claim?: unknown };
  const known = typeof code === 'string' && /^ERR_[A-Z_]{1,60}$/.test(code) ? code.slice(4).toLowerCase().replaceAll('_', '-') : 'key';
  return `token-${known}${typeof claim === 'string' && /^\w{1,32}$/.test(claim) ? `-${claim}` : ''}`;
}

/** The same words, whatever is wrong. */
function refused(rule: string): KmsError {
  return new KmsError('unauthenticated', 'the access token does not hold', { rule });
}

const NAME_MAX = 256;

/** Of 1 to 256 characters, so that it can stand in the audit. */
export function isPrintable(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= NAME_MAX && /^[^\p{C}]+$/u.test(value);
}
