/**
 * The short form of a test and its full one: the same assertions, on fewer repetitions or for a shorter time. `make
 * test-full` and KMS_TEST_FULL=1 ask for the full one; docs/testing.md lists what differs.
 */

export const FULL = process.env['KMS_TEST_FULL'] === '1';

/** How often, or for how long. */
export function times(short: number, full: number): number {
  return FULL ? full : short;
}

/** Of a table: every `step`-th row in the short form, always with the first and the last. */
export function rows<T>(all: readonly T[], step: number): readonly T[] {
  return FULL ? all : all.filter((_, index) => index % step === 0 || index === all.length - 1);
}
