/** Names of curves as OpenSSL's JWKs and its ECDH spell them. Only secp256k1 differs (RFC 8812 §3.1). */

import type { Curve } from '../keys/key.ts';

interface Names {
  readonly jwk: string;
  readonly ecdh: string;
}

const NAMES: Readonly<Record<Curve, Names>> = {
  'P-256': { jwk: 'P-256', ecdh: 'prime256v1' },
  'P-384': { jwk: 'P-384', ecdh: 'secp384r1' },
  'P-521': { jwk: 'P-521', ecdh: 'secp521r1' },
  'P-256K': { jwk: 'secp256k1', ecdh: 'secp256k1' },
};

export const CURVES = Object.keys(NAMES) as readonly Curve[];

export function opensslNames(curve: Curve): Names {
  return NAMES[curve];
}

/** @param name ours, or that of a JWK of OpenSSL */
export function curveNamed(name: string | undefined): Curve | undefined {
  return CURVES.find((curve) => curve === name || NAMES[curve].jwk === name);
}
