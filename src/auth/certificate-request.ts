/** Certificate signing requests (PKCS#10, RFC 2986): whose key it is, proved by its signature. Names in it are not looked at. */

import 'reflect-metadata';
import { createPublicKey, type KeyObject, webcrypto } from 'node:crypto';
import { Pkcs10CertificateRequest } from '@peculiar/x509';
import { invalidField } from '../errors.ts';

const CURVES: readonly string[] = ['prime256v1', 'secp384r1', 'secp521r1'];
const RSA_BITS = { min: 2048, max: 4096 } as const;

/**
 * @param field that named it, for errors
 * @param text PEM
 * @returns SubjectPublicKeyInfo, DER
 * @throws KmsError `invalid-field` for what is no request, is not signed by its own key, or holds a key that is not accepted
 */
export async function readCertificateRequest(field: string, text: string): Promise<Uint8Array> {
  const request = parse(field, text);
  if (!(await isSigned(request))) throw invalidField(field, 'expected a request that is signed by its own key');
  const spki = new Uint8Array(request.publicKey.rawData);
  assertAcceptable(field, createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }));
  return spki;
}

function parse(field: string, text: string): Pkcs10CertificateRequest {
  try {
    return new Pkcs10CertificateRequest(text);
  } catch {
    throw invalidField(field, 'expected a certificate signing request (PKCS#10), PEM');
  }
}

async function isSigned(request: Pkcs10CertificateRequest): Promise<boolean> {
  try {
    return await request.verify(webcrypto);
  } catch {
    return false;
  }
}

/** @throws KmsError `invalid-field` */
function assertAcceptable(field: string, { asymmetricKeyType, asymmetricKeyDetails: { namedCurve = '', modulusLength = 0 } = {} }: KeyObject): void {
  if (asymmetricKeyType === 'ec' && CURVES.includes(namedCurve)) return;
  if (asymmetricKeyType === 'rsa' && modulusLength >= RSA_BITS.min && modulusLength <= RSA_BITS.max) return;
  throw invalidField(field, `expected a key on P-256, P-384 or P-521, or RSA of ${RSA_BITS.min} to ${RSA_BITS.max} bits`);
}
