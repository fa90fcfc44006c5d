/** Members of an RSA JWK (RFC 7518 §6.3), checked as SP 800-56B §6.4.1 does; missing CRT members are computed. */

import { checkPrime, type JsonWebKey } from 'node:crypto';
import { invalidField } from '../errors.ts';
import { decode, type Field, type JwkMembers } from './jwk.ts';

const MODULUS_BITS = [2048, 3072, 4096];
/** Of a private key; of a public key alone 3 is enough: others chose it, and signatures under it verify. */
const EXPONENT_MIN = 65537n;
const PUBLIC_EXPONENT_MIN = 3n;
/** FIPS 186-5 §A.1.1. */
const EXPONENT_BITS_MAX = 256;

type Private = 'd' | 'p' | 'q' | 'dp' | 'dq' | 'qi';

/** Of a key without its private half. @throws KmsError `invalid-field` */
export function readRsaPublic(jwk: JwkMembers, field: Field): { readonly bits: number; readonly open: JsonWebKey } {
  return readOpen(jwk, field, PUBLIC_EXPONENT_MIN);
}

interface Open {
  readonly n: bigint;
  readonly e: bigint;
  readonly bits: number;
  readonly open: JsonWebKey;
}

function readOpen(jwk: JwkMembers, field: Field, exponentMin: bigint): Open {
  const read = (member: 'n' | 'e'): bigint => toInteger(decode(jwk[member], member, field));
  const fail = (member: string, expected: string): never => { throw invalidField(field(member), expected); };
  const [n, e] = [read('n'), read('e')];
  const bits = n.toString(2).length;
  if (!MODULUS_BITS.includes(bits)) fail('n', `expected a modulus of ${MODULUS_BITS.join(', ')} bits`);
  if (e < exponentMin || e % 2n === 0n || e.toString(2).length > EXPONENT_BITS_MAX) fail('e', `expected an odd exponent of at least ${exponentMin}`);
  if (n % 2n === 0n) fail('n', 'expected an odd modulus');
  return { n, e, bits, open: { n: toText(n), e: toText(e) } };
}

/** @throws KmsError `invalid-field` */
export async function readRsaMembers(jwk: JwkMembers, field: Field): Promise<{ readonly bits: number; readonly members: JsonWebKey }> {
  const { n, e, bits, open } = readOpen(jwk, field, EXPONENT_MIN);
  const read = (member: Private): bigint => toInteger(decode(jwk[member], member, field));
  const fail = (member: string, expected: string): never => { throw invalidField(field(member), expected); };
  const [d, p, q] = [read('d'), read('p'), read('q')];
  // Before any division by one of them.
  if (p < 3n || q < 3n || p * q !== n || p === q) fail('n', 'expected the product of p and q');
  if (!(await isPrime(p))) fail('p', 'expected a prime');
  if (!(await isPrime(q))) fail('q', 'expected a prime');
  if (d <= 1n || d >= n || (d * e) % (p - 1n) !== 1n || (d * e) % (q - 1n) !== 1n) fail('d', 'expected the inverse of e: d, e, p and q do not fit');
  const crt = { dp: d % (p - 1n), dq: d % (q - 1n), qi: inverse(q, p) };
  for (const member of ['dp', 'dq', 'qi'] as const) {
    if (jwk[member] !== undefined && read(member) !== crt[member]) fail(member, 'expected the value that d, p and q give');
  }
  return { bits, members: { ...open, d: toText(d), p: toText(p), q: toText(q), dp: toText(crt.dp), dq: toText(crt.dq), qi: toText(crt.qi) } };
}

/** On a thread of the pool: it takes up to a tenth of a second. */
function isPrime(candidate: bigint): Promise<boolean> {
  return new Promise((resolve, reject) => {
    checkPrime(candidate, (error: unknown, prime) => { if (error instanceof Error) reject(error); else resolve(prime); });
  });
}

/** Of a modulo a prime, by the extended Euclidean algorithm. */
function inverse(a: bigint, prime: bigint): bigint {
  let [r, next, x, y] = [prime, a % prime, 0n, 1n];
  while (next !== 0n) {
    const quotient = r / next;
    [r, next] = [next, r - quotient * next];
    [x, y] = [y, x - quotient * y];
  }
  return ((x % prime) + prime) % prime;
}

function toInteger(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

/** Base64urlUInt (RFC 7518 §2): no leading zero bytes. */
function toText(value: bigint): string {
  const hex = value.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toString('base64url');
}
