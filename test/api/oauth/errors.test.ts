// Every error as a token endpoint shows it (RFC 6749 §5.2).

import { expect, test } from '@jest/globals';
import { renderOauthError } from '../../../src/api/oauth/errors.ts';
import { type ErrorCode, KmsError } from '../../../src/errors.ts';

const TABLE: Readonly<Record<ErrorCode, readonly [status: number, error: string]>> = {
  'malformed-request': [400, 'invalid_request'],
  'invalid-field': [400, 'invalid_request'],
  'too-large': [413, 'invalid_request'],
  'method-not-allowed': [405, 'invalid_request'],
  forbidden: [403, 'invalid_request'],
  unauthenticated: [401, 'invalid_client'],
  'rate-limited': [429, 'temporarily_unavailable'],
  overloaded: [503, 'temporarily_unavailable'],
  'outcome-unknown': [503, 'temporarily_unavailable'],
  'token-unavailable': [503, 'temporarily_unavailable'],
  'store-unavailable': [503, 'temporarily_unavailable'],
  'audit-unavailable': [503, 'temporarily_unavailable'],
  'issuer-unavailable': [503, 'temporarily_unavailable'],
  'key-missing': [503, 'temporarily_unavailable'],
  integrity: [503, 'temporarily_unavailable'],
  internal: [500, 'server_error'],
  // Nothing at this door says so.
  'not-found': [500, 'server_error'],
  'unknown-route': [500, 'server_error'],
  conflict: [500, 'server_error'],
  'wrong-state': [500, 'server_error'],
  'wrong-usage': [500, 'server_error'],
  'decryption-failed': [500, 'server_error'],
  'key-exhausted': [500, 'server_error'],
  'not-implemented': [500, 'server_error'],
  'unsupported-by-token': [500, 'server_error'],
};

test.each(Object.entries(TABLE))('%s', (code, [status, error]) => {
  const reply = renderOauthError(new KmsError(code as ErrorCode, 'what is wrong'));
  expect(reply).toMatchObject({ status, body: { error, error_description: status === 500 ? 'internal error' : 'what is wrong' } });
  expect(reply.headers).toEqual({
    Pragma: 'no-cache',
    ...(status === 401 && { 'WWW-Authenticate': 'Basic realm="token", charset="UTF-8"' }),
    ...(error === 'temporarily_unavailable' && { 'Retry-After': '2' }),
  });
});

test('parameters with an error of their own', () => {
  const errorOf = (field: string): unknown => (renderOauthError(new KmsError('invalid-field', '', { field })).body as { error: string }).error;
  expect(['grant_type', 'scope', 'client_id', 'constructor'].map(errorOf)).toEqual(['unsupported_grant_type', 'invalid_scope', 'invalid_request', 'invalid_request']);
});

test('the time to wait, and a description of the characters that are allowed', () => {
  const { headers, body } = renderOauthError(new KmsError('overloaded', 'a "b" \\ é\n', { retryAfter: 7 }));
  expect(headers['Retry-After']).toBe('7');
  expect(body).toEqual({ error: 'temporarily_unavailable', error_description: "a 'b' ' ''" });
});
