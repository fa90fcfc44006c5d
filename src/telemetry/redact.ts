/**
 * Makes values fit for the log: plain data only, secret members hidden by name at any depth, errors without what
 * libraries hang on them. pino's own `redact` reaches one level per wildcard, so it cannot keep this promise.
 */

import { types } from 'node:util';

import { KmsError } from '../errors.ts';

const REDACTED = '[redacted]';

/** Names compared in lower case without dash and underscore. Members of a JWK that hold key material are among them. */
const SECRET_NAMES: ReadonlySet<string> = new Set([
  ...['pin', 'userpin', 'sopin', 'password', 'passphrase', 'secret', 'clientsecret', 'sharedsecret'],
  ...['authorization', 'proxyauthorization', 'cookie', 'setcookie', 'accesstoken', 'bearer', 'jwt', 'credentials'],
  ...['body', 'rawbody', 'payload', 'plaintext', 'ciphertext', 'value', 'context', 'aad'],
  ...['digest', 'signature', 'iv', 'tag'],
  ...['keymaterial', 'material', 'privatekey', 'secretkey', 'datakey', 'wrappedkey', 'jwk', 'blob', 'seed'],
  ...['k', 'd', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'keyhsm'],
]);

/** Compact JWS and JWE: an access token or a ciphertext, wherever it stands. */
const COMPACT_JOSE = /eyJ[\w-]*(?:\.[\w-]*){2,4}/g;

const DEPTH_MAX = 6;
const TEXT_MAX = 2048;

/** A copy of `fields` that may be logged; an error in their place becomes the member `err`. */
export function redactFields(fields: object): Record<string, unknown> {
  return isError(fields) ? { err: describeError(fields) } : redactMembers(fields, 0);
}

function redactMembers(members: object, depth: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).map(([name, value]) => [name, isSecret(name) ? REDACTED : redactValue(value, depth + 1)]),
  );
}

function isSecret(name: string): boolean {
  return SECRET_NAMES.has(name.toLowerCase().replaceAll(/[-_]/g, ''));
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Date || value instanceof URL) return redactText(value.toString());
  if (isError(value)) return describeError(value);
  if (ArrayBuffer.isView(value)) return `[${String(value.byteLength)} bytes]`;
  if (depth > DEPTH_MAX) return '[deep]';
  if (Array.isArray(value)) return value.map((item) => redactValue(item, depth + 1));
  return isPlain(value) ? redactMembers(value, depth) : `[${value.constructor.name}]`;
}

/** A request, socket or key object shows only its kind: nobody reviewed what its members hold. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Errors of another realm, such as those Node itself throws inside a test sandbox, are no `instanceof Error`. */
function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value);
}

/** Without tokens and ciphertexts in compact form, and at most 2,048 characters. */
export function redactText(text: string): string {
  const safe = text.includes('eyJ') ? text.replaceAll(COMPACT_JOSE, REDACTED) : text;
  return safe.length > TEXT_MAX ? `${safe.slice(0, TEXT_MAX)}…` : safe;
}

interface ErrorDescription {
  readonly type: string;
  readonly code?: string | number | undefined;
  readonly field?: string | undefined;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly cause?: { readonly name: string; readonly code?: string | number | undefined; readonly message: string };
}

/**
 * The members of an error that may be logged, and no other. The stack is there for `internal` and unknown errors only;
 * it is the one of the cause, if there is one, because that is where it happened.
 */
function describeError(error: Error): ErrorDescription {
  const cause = isError(error.cause) ? error.cause : undefined;
  const unexpected = !(error instanceof KmsError) || error.code === 'internal';
  return {
    type: error.name,
    code: codeOf(error),
    field: error instanceof KmsError ? error.field : undefined,
    message: messageOf(error),
    ...(unexpected && { stack: framesOf(cause ?? error) }),
    ...(cause && { cause: { name: cause.name, code: codeOf(cause), message: messageOf(cause) } }),
  };
}

function codeOf(error: Error): string | number | undefined {
  const code: unknown = 'code' in error ? error.code : undefined;
  return typeof code === 'string' || typeof code === 'number' ? code : undefined;
}

/** Our own messages hold no secret. JSON.parse quotes its input, and Node quotes the argument it received. */
function messageOf(error: Error): string {
  if (error instanceof KmsError) return redactText(error.message);
  if (error.name === 'SyntaxError') return REDACTED;
  return redactText(error.message.replace(/ Received .*$/s, ''));
}

/** The first lines of a stack repeat the message. */
function framesOf(error: Error): string | undefined {
  return error.stack
    ?.split('\n')
    .filter((line) => /^ {4}at /.test(line))
    .join('\n');
}
