/** Members of an EC JWK (RFC 7518 §6.2): fixed lengths, and a private scalar that belongs to its point (SEC 1 §3.2.2). */

import { createECDH, type JsonWebKey } from 'node:crypto';
import { wipe } from '../bytes.ts';
import { invalidField } from '../errors.ts';
import type { Curve } from '../keys/key.ts';
import { coordinateBytes } from './algorithms.ts';
import { curveNamed, CURVES, opensslNames } from './curve-names.ts';
import { decode, type Field, type JwkMembers, paddedTo } from './jwk.ts';

interface EcMembers {
  readonly curve: Curve;
  readonly members: JsonWebKey;
}

/** Lengths only: whoever makes a key of it learns whether the point is on the curve. @throws KmsError `invalid-field` */
export function readEcPoint(jwk: JwkMembers, field: Field): EcMembers & { readonly point: Buffer } {
  const curve = curveNamed(jwk.crv);
  if (curve === undefined) throw invalidField(field('crv'), `expected one of ${CURVES.join(', ')}`);
  const [x, y] = [coordinate(curve, jwk, 'x', field), coordinate(curve, jwk, 'y', field)];
  const members = { crv: opensslNames(curve).jwk, x: x.toString('base64url'), y: y.toString('base64url') };
  return { curve, members, point: Buffer.concat([Buffer.from([0x04]), x, y]) };
}

function coordinate(curve: Curve, jwk: JwkMembers, member: 'x' | 'y' | 'd', field: Field): Buffer {
  return paddedTo(decode(jwk[member], member, field), coordinateBytes(curve), member, field);
}

/** @throws KmsError `invalid-field` */
export function readEcMembers(jwk: JwkMembers, field: Field): EcMembers {
  const { curve, members, point } = readEcPoint(jwk, field);
  const d = coordinate(curve, jwk, 'd', field);
  try {
    if (!pointOf(curve, d)?.equals(point)) {
      throw invalidField(field('d'), 'expected the private value of this point: d, x and y do not fit');
    }
    return { curve, members: { ...members, d: d.toString('base64url') } };
  } finally {
    wipe(d);
  }
}

/** 04‖x‖y, or undefined for a scalar that is 0 or not below the order. */
function pointOf(curve: Curve, d: Buffer): Buffer | undefined {
  const pair = createECDH(opensslNames(curve).ecdh);
  try {
    pair.setPrivateKey(d);
    return pair.getPublicKey();
  } catch {
    return undefined;
  }
}
