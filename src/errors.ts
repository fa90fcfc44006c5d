/**
 * The one error class and its closed list of codes. Lower folders throw meanings; the doors pick status and text.
 * Messages are written for the caller: they name the field and what was expected, and never hold a secret.
 */

/** What went wrong, independent of any wire. Decide by code, never by message. */
export type ErrorCode =
  | 'malformed-request' // the body is not acceptable JSON, or its media type is not JSON
  | 'invalid-field' // a field, parameter or path segment has a value outside its rule
  | 'too-large' // the body is over the limit of the route
  | 'unauthenticated' // no credential, or one that does not hold
  | 'forbidden' // the principal lacks the permission, or belongs to another vault
  | 'not-found' // no such key for this caller
  | 'unknown-route'
  | 'method-not-allowed'
  | 'conflict' // the id or name is taken, or the row changed under us
  | 'wrong-state' // the key's state forbids the operation
  | 'wrong-usage' // the key lacks the usage the operation needs
  | 'decryption-failed' // every failed decryption and unwrap, whatever the reason
  | 'key-exhausted' // the key reached its limit of protect operations
  | 'rate-limited'
  | 'not-implemented' // a documented operation that this release does not have
  | 'unsupported-by-token' // the HSM cannot do it
  | 'overloaded' // a bounded queue is full
  | 'outcome-unknown' // a token call passed its deadline
  | 'token-unavailable'
  | 'store-unavailable'
  | 'audit-unavailable'
  | 'issuer-unavailable' // the keys of an issuer of access tokens cannot be had
  | 'key-missing' // the row is there, the token object is not
  | 'integrity' // a row, object or proof does not fit the others
  | 'internal';

/**
 * Why, where doors tell reasons of one code apart. `inactive`: the key itself; `disabled`, `not-yet-valid`, `expired`: the
 * version; `deleted`: softly; `key-type`, `curve`: not one that there is.
 */
export type Reason = 'inactive' | 'disabled' | 'not-yet-valid' | 'expired' | 'deleted' | 'key-type' | 'curve';

export interface ErrorDetails {
  /** Name of the request member at fault, as the wire spells it. */
  readonly field?: string;
  readonly reason?: Reason;
  /** The permission that is missing, of a `forbidden`. */
  readonly permission?: string;
  /** Which check failed, for the audit alone: no door shows it. */
  readonly rule?: string;
  /** Seconds after which a retry makes sense; doors send it as Retry-After. */
  readonly retryAfter?: number;
  readonly cause?: unknown;
}

export class KmsError extends Error {
  override readonly name = 'KmsError';
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly reason: Reason | undefined;
  readonly permission: string | undefined;
  readonly rule: string | undefined;
  readonly retryAfter: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.field = details.field;
    this.reason = details.reason;
    this.permission = details.permission;
    this.rule = details.rule;
    this.retryAfter = details.retryAfter;
  }
}

/** A value the caller sent is outside its rule: 400 at every door. */
export function invalidField(field: string, expected: string, reason?: Reason): KmsError {
  return new KmsError('invalid-field', `${field}: ${expected}`, { field, ...(reason !== undefined && { reason }) });
}

/** The one error of every failed decryption and unwrap: no caller may learn which check failed. */
export function decryptionFailed(): KmsError {
  return new KmsError('decryption-failed', 'the data cannot be decrypted with this key');
}

/** Codes for which a later retry can succeed without the caller changing anything. */
const TRANSIENT: ReadonlySet<ErrorCode> = new Set([
  'overloaded',
  'outcome-unknown',
  'token-unavailable',
  'store-unavailable',
  'audit-unavailable',
  'issuer-unavailable',
  'key-missing',
  'integrity',
]);

export function isTransient(code: ErrorCode): boolean {
  return TRANSIENT.has(code);
}

/** Turns anything thrown into a KmsError; what is unknown is `internal` and keeps its cause for the log. */
export function asKmsError(thrown: unknown): KmsError {
  if (thrown instanceof KmsError) return thrown;
  return new KmsError('internal', 'internal error', { cause: thrown });
}
