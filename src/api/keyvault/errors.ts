/** The Key Vault door's error bodies: `{"error":{"code","message","innererror"}}` (azure-keyvault-keys-api §2). */

import type { Context } from 'koa';
import { type ErrorCode, isTransient, type KmsError, type Reason } from '../../errors.ts';
import type { Vault } from '../../keys/key.ts';
import type { ErrorReply } from '../door.ts';

interface Rendering {
  readonly status: number;
  readonly code: string;
  readonly inner?: string;
}

const BAD: Rendering = { status: 400, code: 'BadParameter' };
const UNAVAILABLE: Rendering = { status: 503, code: 'ServiceUnavailable' };
const FORBIDDEN: Rendering = { status: 403, code: 'Forbidden' };
const CONFLICT: Rendering = { status: 409, code: 'Conflict' };

const RENDERINGS: Readonly<Record<ErrorCode, Rendering>> = {
  'malformed-request': BAD,
  'invalid-field': BAD,
  'too-large': { status: 413, code: 'RequestEntityTooLarge' },
  'decryption-failed': BAD,
  'key-exhausted': BAD,
  unauthenticated: { status: 401, code: 'Unauthorized' },
  forbidden: FORBIDDEN,
  'wrong-usage': { ...FORBIDDEN, inner: 'KeyOperationForbidden' },
  // Of the key as a whole; that of a version is told apart below.
  'wrong-state': CONFLICT,
  conflict: CONFLICT,
  'not-found': { status: 404, code: 'KeyNotFound' },
  'unknown-route': { status: 404, code: 'NotFound' },
  'method-not-allowed': { status: 405, code: 'MethodNotAllowed' },
  'rate-limited': { status: 429, code: 'Throttled' },
  'not-implemented': { status: 501, code: 'NotImplemented' },
  'unsupported-by-token': { status: 501, code: 'NotSupported' },
  'token-unavailable': UNAVAILABLE,
  overloaded: UNAVAILABLE,
  'outcome-unknown': UNAVAILABLE,
  'store-unavailable': UNAVAILABLE,
  'audit-unavailable': UNAVAILABLE,
  'issuer-unavailable': UNAVAILABLE,
  'key-missing': UNAVAILABLE,
  integrity: UNAVAILABLE,
  internal: { status: 500, code: 'InternalServerError' },
};

/** Why a version cannot serve. */
const STATES: Readonly<Partial<Record<Reason, string>>> = {
  inactive: 'KeyDisabled',
  disabled: 'KeyDisabled',
  'not-yet-valid': 'KeyNotYetValid',
  expired: 'KeyExpired',
};

const DEFAULT_RETRY_SECONDS = 2;

export function renderKeyVaultError(error: KmsError, requestId: string, ctx: Context): ErrorReply {
  const vault = ctx.state['vault'] as Vault | undefined;
  const hsm = vault?.flavour === 'managed-hsm';
  const { status, code, inner } = renderingOf(error, hsm);
  const suffix = hsm ? ` (Activity ID: ${requestId})` : '';
  const body = { error: { code, message: `${messageOf(error, ctx)}${suffix}`, ...(inner !== undefined && { innererror: { code: inner } }) } };
  return { status, body, headers: headersOf(error, ctx) };
}

function renderingOf({ code, reason, permission }: KmsError, hsm: boolean): Rendering {
  if (code === 'forbidden' && permission !== undefined) return { ...FORBIDDEN, inner: 'ForbiddenByRbac' };
  if (code === 'conflict' && reason === 'deleted') return { ...CONFLICT, inner: 'ObjectIsDeletedButRecoverable' };
  const inner = code === 'wrong-state' && reason !== undefined ? STATES[reason] : undefined;
  if (inner !== undefined) return { ...FORBIDDEN, inner };
  if (reason === 'key-type') return { ...BAD, inner: 'KeyTypeNotSupported' };
  if (reason === 'curve' && hsm) return { status: 400, code: 'KeyCurveNotSupported' };
  return RENDERINGS[code];
}

/** Fragments that clients look for. What is internal stays internal: the request id leads to the log. */
function messageOf({ code, message, permission }: KmsError, ctx: Context): string {
  const { name = '', version } = (ctx['params'] ?? {}) as Readonly<Record<string, string>>;
  switch (code) {
    case 'internal': return 'internal error';
    case 'unauthenticated': return `AKV10000: ${message}`;
    case 'rate-limited': return `VaultRequestTypeLimitReached: ${message}`;
    case 'forbidden': return permission === undefined ? message : `Caller is not authorized to perform action on resource: ${message}`;
    case 'not-found':
      if (/^\/deletedkeys\//i.test(ctx.path)) return `Deleted Key not found: ${name}`;
      return `A key with (name/id) ${version === undefined ? name : `${name}/${version}`} was not found in this key vault`;
    default: return message;
  }
}

/** @param ctx its state holds the challenge, once the vault is known */
function headersOf(error: KmsError, ctx: Context): Readonly<Record<string, string>> {
  const challenge = ctx.state['challenge'] as string | undefined;
  if (error.code === 'unauthenticated') return challenge === undefined ? {} : { 'WWW-Authenticate': challenge };
  const retry = isTransient(error.code) || error.code === 'rate-limited';
  return retry ? { 'Retry-After': String(error.retryAfter ?? DEFAULT_RETRY_SECONDS) } : {};
}
