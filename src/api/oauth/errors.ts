/** KmsError → status and error body of a token endpoint (RFC 6749 §5.2). The only place that picks them. */

import { type ErrorCode, isTransient, type KmsError } from '../../errors.ts';
import type { ErrorReply } from '../door.ts';

interface Rendering {
  readonly status: number;
  readonly error: string;
}

/** What is not here is no mistake of the client: two errors of RFC 6749 §4.1.2.1 serve for that. */
const RENDERINGS: Partial<Record<ErrorCode, Rendering>> = {
  'malformed-request': { status: 400, error: 'invalid_request' },
  'invalid-field': { status: 400, error: 'invalid_request' },
  'too-large': { status: 413, error: 'invalid_request' },
  'method-not-allowed': { status: 405, error: 'invalid_request' },
  forbidden: { status: 403, error: 'invalid_request' },
  unauthenticated: { status: 401, error: 'invalid_client' },
  'rate-limited': { status: 429, error: 'temporarily_unavailable' },
};
const UNAVAILABLE: Rendering = { status: 503, error: 'temporarily_unavailable' };
const INTERNAL: Rendering = { status: 500, error: 'server_error' };

/** Parameters whose wrong values have an error of their own. */
const FIELDS: ReadonlyMap<string, string> = new Map([['grant_type', 'unsupported_grant_type'], ['scope', 'invalid_scope']]);

const DEFAULT_RETRY_SECONDS = 2;

export function renderOauthError(error: KmsError): ErrorReply {
  const { code, field = '', message, retryAfter = DEFAULT_RETRY_SECONDS } = error;
  const { status, error: name } = RENDERINGS[code] ?? (isTransient(code) ? UNAVAILABLE : INTERNAL);
  const body = {
    error: code === 'invalid-field' ? (FIELDS.get(field) ?? name) : name,
    // Without what §5.2 does not allow in a description.
    error_description: status === 500 ? 'internal error' : message.replace(/[^\x20-\x7e]|["\\]/g, "'"),
  };
  const retry = name === UNAVAILABLE.error ? { 'Retry-After': String(retryAfter) } : {};
  return { status, body, headers: { Pragma: 'no-cache', ...challenge(status), ...retry } };
}

/** Every 401 names a way to authenticate (RFC 9110 §15.5.2). */
function challenge(status: number): Readonly<Record<string, string>> {
  return status === 401 ? { 'WWW-Authenticate': 'Basic realm="token", charset="UTF-8"' } : {};
}
