/**
 * Ends of additional authenticated data that mean something to a format of ours. Families of an imported key hold one
 * value, so a door that hands AAD on as it comes must refuse these, or it would open what another format sealed (design §4).
 */

/** Of data keys. */
export const DATA_KEY_SUFFIX = '~datakey';

const RESERVED: readonly Buffer[] = [Buffer.from(DATA_KEY_SUFFIX, 'latin1')];

export function isReservedAad(aad: Uint8Array): boolean {
  return RESERVED.some((suffix) => aad.length >= suffix.length && suffix.equals(aad.subarray(aad.length - suffix.length)));
}
