/**
 * CKR codes → meaning, decided by operation + code + health (pkcs11-lab §6.5). SoftHSM answers CKR_GENERAL_ERROR for a
 * wrong GCM tag as well as for a lost token directory, so the code alone cannot tell a client's fault from the HSM's:
 * the health kept by the canary decides, and is never probed inline, which would be a timing oracle (security H-5).
 */

import ck from 'pkcs11js';
import { decryptionFailed, type ErrorCode, KmsError } from '../errors.ts';
import { CryptokiError } from './cryptoki-error.ts';
import type { Job } from './job.ts';
import type { Profile } from './profile.ts';

export type CodeClass =
  /** The session is gone or stuck: another one serves, and what is idempotent runs again. */
  | 'session'
  /** The handle is unknown: the object is gone, or the handle is of an earlier epoch. */
  | 'handle'
  /** The token is gone for this process; the canary will say so too. */
  | 'token'
  /** The token has no room or time now. */
  | 'busy'
  /** The data is not what the operation takes. */
  | 'data'
  /** Says nothing by itself: data or token. */
  | 'ambiguous'
  /** The token does not know the mechanism, its parameters, the curve or the function. */
  | 'unsupported'
  /** Only an operator can help. */
  | 'operator'
  /** A template or argument of ours that the module refuses. */
  | 'defect';

/** Codes the binding has no constant for. */
const CURVE_NOT_SUPPORTED = 0x140;
const ACTION_PROHIBITED = 0x1b;

const CODES: Readonly<Record<CodeClass, readonly number[]>> = {
  session: [
    ck.CKR_SESSION_HANDLE_INVALID,
    ck.CKR_SESSION_CLOSED,
    ck.CKR_OPERATION_ACTIVE,
    ck.CKR_OPERATION_NOT_INITIALIZED,
    ck.CKR_DEVICE_ERROR,
  ],
  handle: [
    ck.CKR_OBJECT_HANDLE_INVALID,
    ck.CKR_KEY_HANDLE_INVALID,
    ck.CKR_WRAPPING_KEY_HANDLE_INVALID,
    ck.CKR_UNWRAPPING_KEY_HANDLE_INVALID,
  ],
  token: [
    ck.CKR_CRYPTOKI_NOT_INITIALIZED,
    ck.CKR_DEVICE_REMOVED,
    ck.CKR_TOKEN_NOT_PRESENT,
    ck.CKR_TOKEN_NOT_RECOGNIZED,
    ck.CKR_SLOT_ID_INVALID,
    ck.CKR_USER_NOT_LOGGED_IN,
  ],
  busy: [ck.CKR_SESSION_COUNT, ck.CKR_DEVICE_MEMORY, ck.CKR_HOST_MEMORY],
  data: [
    ck.CKR_ENCRYPTED_DATA_INVALID,
    ck.CKR_ENCRYPTED_DATA_LEN_RANGE,
    ck.CKR_WRAPPED_KEY_INVALID,
    ck.CKR_WRAPPED_KEY_LEN_RANGE,
    ck.CKR_DATA_LEN_RANGE,
    ck.CKR_DATA_INVALID,
    ck.CKR_SIGNATURE_INVALID,
    ck.CKR_SIGNATURE_LEN_RANGE,
    ck.CKR_KEY_SIZE_RANGE,
  ],
  ambiguous: [ck.CKR_GENERAL_ERROR, ck.CKR_FUNCTION_FAILED],
  unsupported: [
    ck.CKR_MECHANISM_INVALID,
    ck.CKR_MECHANISM_PARAM_INVALID,
    ck.CKR_FUNCTION_NOT_SUPPORTED,
    ck.CKR_DOMAIN_PARAMS_INVALID,
    CURVE_NOT_SUPPORTED,
  ],
  operator: [
    ck.CKR_PIN_INCORRECT,
    ck.CKR_PIN_LOCKED,
    ck.CKR_PIN_EXPIRED,
    ck.CKR_USER_PIN_NOT_INITIALIZED,
    ck.CKR_USER_TYPE_INVALID,
    ck.CKR_TOKEN_WRITE_PROTECTED,
  ],
  defect: [
    ck.CKR_ARGUMENTS_BAD,
    ck.CKR_TEMPLATE_INCOMPLETE,
    ck.CKR_TEMPLATE_INCONSISTENT,
    ck.CKR_ATTRIBUTE_READ_ONLY,
    ck.CKR_ATTRIBUTE_SENSITIVE,
    ck.CKR_ATTRIBUTE_TYPE_INVALID,
    ck.CKR_ATTRIBUTE_VALUE_INVALID,
    ck.CKR_KEY_FUNCTION_NOT_PERMITTED,
    ck.CKR_KEY_TYPE_INCONSISTENT,
    ck.CKR_BUFFER_TOO_SMALL,
    ACTION_PROHIBITED,
  ],
};

const CLASSES: ReadonlyMap<number, CodeClass> = new Map(
  (Object.entries(CODES) as [CodeClass, readonly number[]][]).flatMap(([name, codes]) =>
    codes.map((code) => [code, name] as const)),
);

/** A code nobody listed says nothing. */
export function classify(code: number, { codes }: Profile): CodeClass {
  if (codes.busy.includes(code)) return 'busy';
  if (codes.sessionLost.includes(code)) return 'session';
  if (codes.tokenLost.includes(code)) return 'token';
  if (codes.badData.includes(code)) return 'data';
  return CLASSES.get(code) ?? 'ambiguous';
}

/** Somebody destroyed the object, or the handle is of an earlier epoch. */
export function isHandleGone(error: unknown, profile: Profile): boolean {
  return error instanceof CryptokiError && classify(error.code, profile) === 'handle';
}

/** Session or token failed: the call says nothing of the object it was about. */
export function isOfTheToken(error: unknown, profile: Profile): boolean {
  return error instanceof CryptokiError && OF_THE_TOKEN.has(classify(error.code, profile));
}

/** The module's answer about the object itself, which is there: it does not have, or not give, what was asked for. */
export function isOfTheObject(error: unknown, profile: Profile): boolean {
  return error instanceof CryptokiError && !isOfTheToken(error, profile) && !isHandleGone(error, profile);
}

const OF_THE_TOKEN: ReadonlySet<CodeClass> = new Set(['session', 'token', 'busy']);

/** What operations make of bad data: decryption gives the one uniform error, other input a named one. */
const BAD_DATA: ReadonlyMap<Job['op'], () => KmsError> = new Map([
  ['decrypt', decryptionFailed],
  ['unwrapBytes', decryptionFailed],
  ['unwrapThrowAway', decryptionFailed],
  ['wrapBytes', () => new KmsError('invalid-field', 'value: expected a length that key wrap allows', { field: 'value' })],
  ['import', () => new KmsError('invalid-field', 'the key material cannot be imported')],
  ['importPublic', () => new KmsError('invalid-field', 'the key material cannot be imported')],
]);

/** SoftHSM refuses an OAEP hash it does not know as a bad argument. */
export function isUnsupported(code: number): boolean {
  return CLASSES.get(code) === 'unsupported' || code === ck.CKR_ARGUMENTS_BAD;
}

export function tokenUnavailable(cause?: unknown): KmsError {
  return new KmsError('token-unavailable', 'the HSM is not available', { retryAfter: 2, cause });
}

const MEANINGS: Readonly<Record<Exclude<CodeClass, 'data' | 'ambiguous'>, { code: ErrorCode; message: string }>> = {
  session: { code: 'token-unavailable', message: 'the HSM is not available' },
  handle: { code: 'key-missing', message: 'the HSM does not show the object of this key' },
  token: { code: 'token-unavailable', message: 'the HSM is not available' },
  busy: { code: 'overloaded', message: 'the HSM has no room for this now' },
  unsupported: { code: 'unsupported-by-token', message: 'not supported by this HSM' },
  operator: { code: 'token-unavailable', message: 'the HSM needs its operator' },
  defect: { code: 'internal', message: 'the HSM refused a request of ours' },
};

/** @param healthy what the canary last said */
export function toKmsError(op: Job['op'], code: number, call: string, profile: Profile, healthy: boolean): KmsError {
  const cause = new Error(`${call}: CKR 0x${code.toString(16)}`);
  if (!healthy) return tokenUnavailable(cause);
  const kind = classify(code, profile);
  if (kind === 'data' || kind === 'ambiguous') return BAD_DATA.get(op)?.() ?? tokenUnavailable(cause);
  const { code: meaning, message } = MEANINGS[kind];
  return new KmsError(meaning, message, { retryAfter: 2, cause });
}
