/** The handle cache, in orders of events that a token shows rarely. */

import { expect, test } from '@jest/globals';
import { HandleCache } from '../../src/pkcs11/handles.ts';

const KEY = { objectId: '11'.repeat(16), part: 'secret' } as const;
const listed = (handle: bigint): { handle: bigint; objectId: string; part: 'secret' } => ({ ...KEY, handle });

/** A listing as the token gives it: of what it holds, only what is not known is described. */
function list(cache: HandleCache, ...held: readonly bigint[]): void {
  const { known } = cache;
  cache.update(held.filter((handle) => !known.has(handle)).map(listed), new Set(held));
}

test('a second object with the id is noticed, and no choice is made', () => {
  const cache = new HandleCache();
  list(cache, 1n);
  cache.markProven(KEY);
  list(cache, 1n, 2n);
  expect(cache.isDuplicate(KEY)).toBe(true);
  expect(cache.handle(KEY)).toBeUndefined();
  expect(cache.isProven(KEY)).toBe(false);
});

test.each([[1n, 2n], [2n, 1n]])('when the object with handle %d goes, the other one serves after it has proved itself', (gone, left) => {
  const cache = new HandleCache();
  list(cache, 1n, 2n);
  list(cache, left);
  expect(cache.isDuplicate(KEY)).toBe(false);
  expect(cache.handle(KEY)).toBe(left);
  expect(cache.isProven(KEY)).toBe(false);
  expect(cache.known.has(gone)).toBe(false);
});

test('two objects are still two after their id was forgotten', () => {
  const cache = new HandleCache();
  list(cache, 1n);
  list(cache, 1n, 2n);
  cache.forget(KEY);
  expect(cache.handle(KEY)).toBeUndefined();
  list(cache, 1n, 2n);
  expect(cache.isDuplicate(KEY)).toBe(true);
});

test('an object made while a listing that saw it was under way is one object', () => {
  const cache = new HandleCache();
  const seen = listed(1n);
  cache.add(KEY, 1n);
  cache.update([seen], new Set([1n]));
  expect(cache.isDuplicate(KEY)).toBe(false);
  expect(cache.handle(KEY)).toBe(1n);
});

test('an object made while a listing that did not see it was under way is shown by the next one', () => {
  const cache = new HandleCache();
  cache.add(KEY, 1n);
  cache.update([], new Set());
  expect(cache.handle(KEY)).toBeUndefined();
  list(cache, 1n);
  expect(cache.handle(KEY)).toBe(1n);
});

test('a handle that names another object after the first is gone leads to the new one', () => {
  const cache = new HandleCache();
  list(cache, 1n);
  cache.markProven(KEY);
  cache.forget(KEY);
  list(cache, 1n);
  expect(cache.handle(KEY)).toBe(1n);
  expect(cache.isProven(KEY)).toBe(false);
});
