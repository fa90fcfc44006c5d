/**
 * CKR codes → meaning, decided by operation + code + health. SoftHSM answers CKR_GENERAL_ERROR for a wrong GCM tag as
 * well as for a lost token directory, so the code alone cannot tell a client's fault from the HSM's: the health kept
 * by the canary decides, and is never probed inline, which would be a timing oracle (security H-5).
 */

import ck from 'pkcs11js';
import { decryptionFailed, KmsError } from '../errors.ts';
import type { Job } from './job.ts';

/** Operations on data that a client made: their data errors are the client's. */
const OPENS_CLIENT_DATA: ReadonlySet<Job['op']> = new Set(['decrypt', 'unwrapThrowAway']);

/** Data that does not open under this key. The last two are ambiguous and count only on a healthy token. */
const DOES_NOT_OPEN: ReadonlySet<number> = new Set([
  ck.CKR_ENCRYPTED_DATA_INVALID,
  ck.CKR_ENCRYPTED_DATA_LEN_RANGE,
  ck.CKR_WRAPPED_KEY_INVALID,
  ck.CKR_WRAPPED_KEY_LEN_RANGE,
  ck.CKR_DATA_LEN_RANGE,
  ck.CKR_DATA_INVALID,
  ck.CKR_GENERAL_ERROR,
  ck.CKR_FUNCTION_FAILED,
]);

/** The handle is unknown: the object is gone, or the handle is of an earlier epoch. */
const HANDLE_UNKNOWN: ReadonlySet<number> = new Set([
  ck.CKR_OBJECT_HANDLE_INVALID,
  ck.CKR_KEY_HANDLE_INVALID,
  ck.CKR_WRAPPING_KEY_HANDLE_INVALID,
  ck.CKR_UNWRAPPING_KEY_HANDLE_INVALID,
]);

/** The token cannot do it, whatever the key. */
const NOT_SUPPORTED: ReadonlySet<number> = new Set([
  ck.CKR_MECHANISM_INVALID,
  ck.CKR_MECHANISM_PARAM_INVALID,
  ck.CKR_FUNCTION_NOT_SUPPORTED,
  ck.CKR_DOMAIN_PARAMS_INVALID,
]);

export function isUnknownHandle(code: number): boolean {
  return HANDLE_UNKNOWN.has(code);
}

export function tokenUnavailable(cause?: unknown): KmsError {
  return new KmsError('token-unavailable', 'the HSM is not available', { retryAfter: 2, cause });
}

/** @param healthy what the canary last said */
export function toKmsError(op: Job['op'], code: number, call: string, healthy: boolean): KmsError {
  const cause = new Error(`${call}: CKR 0x${code.toString(16)}`);
  if (!healthy) return tokenUnavailable(cause);
  if (OPENS_CLIENT_DATA.has(op) && DOES_NOT_OPEN.has(code)) return decryptionFailed();
  if (NOT_SUPPORTED.has(code)) return new KmsError('unsupported-by-token', 'not supported by this HSM', { cause });
  return tokenUnavailable(cause);
}
