/** Typed readers for bodies, queries and path parameters: the only place that touches unknown values. */

import type { z } from 'zod';
import { decodeBase64 } from '../bytes.ts';
import { invalidField, KmsError } from '../errors.ts';

/** @throws KmsError `invalid-field` naming the first member at fault and what was expected, never its value */
export function readBodyAs<S extends z.ZodType>(schema: S, body: unknown): z.infer<S> {
  if (body === undefined) throw new KmsError('malformed-request', 'expected a JSON object as body');
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new KmsError('malformed-request', 'expected a JSON object as body');
  }
  return readMembers(schema, body);
}

/** @param at where the value is, for errors @throws KmsError `invalid-field`, as `readBodyAs` does */
export function readMembers<S extends z.ZodType>(schema: S, value: unknown, at?: string): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = [...(at === undefined ? [] : [at]), ...(issue?.path ?? [])].map(String).join('.');
  throw invalidField(path === '' ? 'body' : path, lowerFirst(issue?.message ?? 'not valid'));
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** Standard base64 with padding, canonical. @throws KmsError `invalid-field` */
export function readBase64(field: string, text: string): Buffer {
  const bytes = decodeBase64(text);
  if (bytes === undefined) throw invalidField(field, 'expected standard base64 with padding');
  return bytes;
}

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Canonical form; upper case is accepted. @throws KmsError `invalid-field` */
export function readUuid(field: string, text: string | undefined): string {
  const lower = text?.toLowerCase();
  if (lower === undefined || !UUID.test(lower)) throw invalidField(field, 'expected a UUID');
  return lower;
}

/** @throws KmsError `invalid-field` */
export function readInteger(field: string, text: string | undefined, range: {
  readonly min: number;
  readonly max: number;
  readonly fallback: number;
}): number {
  if (text === undefined) return range.fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= range.min && value <= range.max) return value;
  throw invalidField(field, `expected an integer from ${range.min} to ${range.max}`);
}

/** @throws KmsError `invalid-field` naming the accepted values */
export function readChoice<const T extends string>(
  field: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (text === undefined) return undefined;
  const choice = choices.find((candidate) => candidate === text);
  if (choice === undefined) throw invalidField(field, `expected one of ${choices.join(', ')}`);
  return choice;
}
