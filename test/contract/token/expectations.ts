/** How failures must look, and bytes to work on. */

import { expect } from '@jest/globals';
import type { KmsError } from '../../../src/errors.ts';
import { decryptionFailed } from '../../support/built.ts';

/** Everything a caller or a log could tell two failures apart by. */
function visible(error: KmsError): object {
  const { name, code, message, field, retryAfter, cause } = error;
  return { name, code, message, field, retryAfter, cause };
}

export async function failureOf(run: Promise<unknown>): Promise<KmsError> {
  return run.then(
    (value) => { throw new Error(`expected a failure, got ${String(value)}`); },
    (error: unknown) => error as KmsError,
  );
}

/** One and the same error for every reason. */
export async function expectUniform(run: Promise<unknown>): Promise<void> {
  expect(visible(await failureOf(run))).toEqual(visible(decryptionFailed()));
}

export function flipped(bytes: Uint8Array, index: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[index]! ^= 1;
  return copy;
}

/** Multiples of `step` from `from` to `to`. */
export function lengths(from: number, to: number, step: number): readonly number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step);
}
