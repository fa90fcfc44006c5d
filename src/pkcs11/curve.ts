/** EC_PARAMS and EC_POINT: named curves and points, as modules want them. */

import type { Curve } from './job.ts';

/** ECParameters as named curves, DER (RFC 5480 §2.1.1.1, SEC 2). */
const OIDS: Readonly<Record<Curve, string>> = {
  'P-256': '06082a8648ce3d030107',
  'P-384': '06052b81040022',
  'P-521': '06052b81040023',
  'P-256K': '06052b8104000a',
};

export function curveParameters(curve: Curve): Buffer {
  return Buffer.from(OIDS[curve], 'hex');
}

/**
 * @param point uncompressed, 04‖x‖y; at most 133 bytes
 * @returns a DER OCTET STRING of it: the tag, one or two bytes of length, the point (X.690 §8.1.3, §8.7)
 */
export function derPoint(point: Uint8Array): Buffer {
  const length = point.length < 0x80 ? [point.length] : [0x81, point.length];
  return Buffer.concat([Buffer.from([0x04, ...length]), point]);
}
