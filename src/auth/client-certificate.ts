/**
 * TLS client certificate → what it says. TLS has checked chain and purpose of the handshake; a resumed or long-lived
 * connection has not been checked since, so validity and the credential's state are compared on every request.
 */

import 'reflect-metadata';
import { createHash, X509Certificate } from 'node:crypto';
import { SubjectAlternativeNameExtension, X509Certificate as Parsed } from '@peculiar/x509';

export interface CertificateFacts {
  /** SHA-256 of the issuing CA's SubjectPublicKeyInfo, hex. */
  readonly issuerKeyHash: string;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
  /** The OKMS id of the critical UPN name `okms.domain:<id>` (okms-rest-api §4.1); null without one. */
  readonly okmsDomain: string | null;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** A CA whose certificates are accepted. */
export interface Authority {
  readonly certificate: X509Certificate;
  readonly keyHash: string;
}

/** @throws TypeError and its kin for what is no certificate */
export function authority(pem: string): Authority {
  const certificate = new X509Certificate(pem);
  const spki = certificate.publicKey.export({ format: 'der', type: 'spki' });
  return { certificate, keyHash: createHash('sha256').update(spki).digest('hex') };
}

/** Extended key usage (RFC 5280 §4.2.1.12); a certificate without any is for no client. */
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** Node's types do not know that there may be none. */
function isForClients({ keyUsage }: { readonly keyUsage?: readonly string[] }): boolean {
  return keyUsage?.includes(CLIENT_AUTH) === true;
}

/** As certificates print serial numbers differently: lower case, no leading zeros. */
export function canonicalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, '');
}

/**
 * @param raw DER
 * @returns undefined when none of the authorities issued it, or not for clients
 */
export function readCertificate(raw: Uint8Array, authorities: readonly Authority[]): CertificateFacts | undefined {
  const certificate = new X509Certificate(raw);
  const issuer = authorities.find(
    ({ certificate: ca }) => certificate.checkIssued(ca) && certificate.verify(ca.publicKey),
  );
  if (issuer === undefined || !isForClients(certificate)) return undefined;
  return {
    issuerKeyHash: issuer.keyHash,
    serial: canonicalSerial(certificate.serialNumber),
    okmsDomain: okmsDomain(raw),
    notBeforeMs: Date.parse(certificate.validFrom),
    notAfterMs: Date.parse(certificate.validTo),
  };
}

const DOMAIN_PREFIX = 'okms.domain:';

/** node:crypto prints an otherName only partly, so the extension itself is read. */
function okmsDomain(raw: Uint8Array): string | null {
  const names = new Parsed(new Uint8Array(raw)).getExtension(SubjectAlternativeNameExtension)?.names.items ?? [];
  const upn = names.find(({ type, value }) => type === 'upn' && value.startsWith(DOMAIN_PREFIX));
  return upn?.value.slice(DOMAIN_PREFIX.length) ?? null;
}
