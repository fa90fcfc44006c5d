/** What the tests of the OKMS door share: the errors of okms-rest-api §3 as exact expectations, and keys to work on. */

import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import type { Answer, Client, Installation } from '../../support/installation.ts';

/** Status and error_code of each cause; okms-rest-api §3 gives the arithmetic. */
export const REFUSALS = {
  'malformed-request': { status: 400, code: 50405377 },
  'too-large': { status: 413, code: 50405378 },
  'invalid-field': { status: 400, code: 50536449 },
  'wrong-state': { status: 400, code: 50536450 },
  'wrong-usage': { status: 400, code: 50536451 },
  'decryption-failed': { status: 400, code: 50536452 },
  unauthenticated: { status: 401, code: 50475009 },
  forbidden: { status: 403, code: 50479105 },
  'not-found': { status: 404, code: 50548737 },
  'unknown-route': { status: 404, code: 50417665 },
  'method-not-allowed': { status: 405, code: 50417666 },
  conflict: { status: 409, code: 50569217 },
  'not-implemented': { status: 501, code: 50397185 },
} as const;

export type Cause = keyof typeof REFUSALS;

/** The whole answer: status, headers, every member of the body. @param word what the one message must contain */
export function expectRefusal(answer: Answer, cause: Cause, word = ''): void {
  const { status, code } = REFUSALS[cause];
  expect({ status: answer.status, type: answer.headers['content-type'], body: answer.json ?? answer.text }).toEqual({
    status,
    type: expect.stringMatching(/^application\/json(;|$)/),
    body: {
      error_id: cause,
      error_code: code,
      errors: [expect.stringContaining(word)],
      request_id: answer.headers['x-request-id'],
    },
  });
  expect(answer.headers['x-request-id']).toMatch(/^[\x21-\x7e]{1,64}$/);
}

/** The body without the one member that differs from answer to answer. */
export function withoutRequestId({ json }: Answer): object {
  return { ...json, request_id: undefined };
}

/** @returns the id */
export async function makeKey(client: Client, spec: object): Promise<string> {
  const created = await client.post('/servicekey', { name: 'a key', ...spec });
  expect({ status: created.status, text: created.text }).toEqual({ status: 201, text: expect.any(String) });
  return created.json.id as string;
}

export const OCT = { type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] } as const;
export const RSA = { type: 'RSA', size: 2048 } as const;
export const EC = { type: 'EC', curve: 'P-256' } as const;

export const UNKNOWN_ID = randomUUID();

export function base64(bytes: Uint8Array | string): string {
  return Buffer.from(bytes).toString('base64');
}

/** Runs `work` over `items`, a few at a time, as bounded queues of the server refuse floods. */
export async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>, atOnce = 16): Promise<R[]> {
  const results: R[] = [];
  for (let start = 0; start < items.length; start += atOnce) {
    results.push(...(await Promise.all(items.slice(start, start + atOnce).map(work))));
  }
  return results;
}

/** Objects on the token, as SoftHSM keeps them; not the data objects, of which the servers replace theirs at any time. */
export function objectsOnToken({ home }: Installation): number {
  const tokens = join(home, 'softhsm', 'tokens');
  const files = readdirSync(tokens, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.object'));
  return files.filter((name) => isKeyObject(join(tokens, name))).length;
}

/** After a generation of 8 bytes come attributes by type: the class is 0, of kind 2 (a number), and 0 for data. */
function isKeyObject(file: string): boolean {
  const bytes = readOrNothing(file);
  return bytes.length >= 32 && bytes.readBigUInt64BE(8) === 0n && bytes.readBigUInt64BE(16) === 2n && bytes.readBigUInt64BE(24) !== 0n;
}

function readOrNothing(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}
