/** KmsError → status and error body of the OKMS REST API (okms-rest-api §3). The only place that picks them. */

import { type ErrorCode, isTransient, type KmsError } from '../../errors.ts';
import type { ErrorReply } from '../door.ts';

/** error_code = major << 24 | minor << 16 | category << 12 | cause. Major 3 is REST. */
const REST = 3 << 24;
const GENERAL = REST | (1 << 16);
const AUTHENTICATION = REST | (2 << 16);
const SERVICE_KEYS = REST | (3 << 16);

const CATEGORY = {
  unspecified: 0 << 12,
  internal: 1 << 12,
  argument: 2 << 12,
  authentication: 3 << 12,
  authorization: 4 << 12,
  notFound: 5 << 12,
  unavailable: 7 << 12,
  tooMany: 9 << 12,
  conflict: 10 << 12,
} as const;

interface Rendering {
  readonly status: number;
  readonly errorCode: number;
}

const RENDERINGS: Readonly<Record<ErrorCode, Rendering>> = {
  'malformed-request': { status: 400, errorCode: GENERAL | CATEGORY.argument | 1 },
  'too-large': { status: 413, errorCode: GENERAL | CATEGORY.argument | 2 },
  'invalid-field': { status: 400, errorCode: SERVICE_KEYS | CATEGORY.argument | 1 },
  'wrong-state': { status: 400, errorCode: SERVICE_KEYS | CATEGORY.argument | 2 },
  'wrong-usage': { status: 400, errorCode: SERVICE_KEYS | CATEGORY.argument | 3 },
  'decryption-failed': { status: 400, errorCode: SERVICE_KEYS | CATEGORY.argument | 4 },
  'key-exhausted': { status: 400, errorCode: SERVICE_KEYS | CATEGORY.argument | 5 },
  unauthenticated: { status: 401, errorCode: AUTHENTICATION | CATEGORY.authentication | 1 },
  forbidden: { status: 403, errorCode: AUTHENTICATION | CATEGORY.authorization | 1 },
  'not-found': { status: 404, errorCode: SERVICE_KEYS | CATEGORY.notFound | 1 },
  'unknown-route': { status: 404, errorCode: GENERAL | CATEGORY.notFound | 1 },
  'method-not-allowed': { status: 405, errorCode: GENERAL | CATEGORY.notFound | 2 },
  conflict: { status: 409, errorCode: SERVICE_KEYS | CATEGORY.conflict | 1 },
  'rate-limited': { status: 429, errorCode: GENERAL | CATEGORY.tooMany | 1 },
  'not-implemented': { status: 501, errorCode: GENERAL | CATEGORY.unspecified | 1 },
  'unsupported-by-token': { status: 501, errorCode: SERVICE_KEYS | CATEGORY.unspecified | 1 },
  'token-unavailable': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 1 },
  overloaded: { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 2 },
  'outcome-unknown': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 3 },
  'store-unavailable': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 4 },
  'audit-unavailable': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 5 },
  'key-missing': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 6 },
  integrity: { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 7 },
  'issuer-unavailable': { status: 503, errorCode: GENERAL | CATEGORY.unavailable | 8 },
  internal: { status: 500, errorCode: GENERAL | CATEGORY.internal | 1 },
};

const DEFAULT_RETRY_SECONDS = 2;

export function renderOkmsError(error: KmsError, requestId: string): ErrorReply {
  const { status, errorCode } = RENDERINGS[error.code];
  const body = {
    error_id: error.code,
    error_code: errorCode,
    // What is internal stays internal: the request id leads to the log.
    errors: [error.code === 'internal' ? 'internal error' : error.message],
    request_id: requestId,
  };
  const retry = isTransient(error.code) || error.code === 'rate-limited';
  const headers = retry ? { 'Retry-After': String(error.retryAfter ?? DEFAULT_RETRY_SECONDS) } : {};
  return { status, body, headers };
}
