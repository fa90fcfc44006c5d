/**
 * Issuing certificates: CAs, access certificates of the OKMS shape, server certificates. The signing key stays where
 * it is (in the token): this module builds what is to be signed and puts the signature in.
 */

import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { canonicalSerial } from './client-certificate.ts';

/** An ECDSA P-256 key that signs certificates. */
export interface CertificateSigner {
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array;
  /** ECDSA with SHA-256 over `bytes`; raw r‖s, 64 bytes. */
  readonly sign: (bytes: Uint8Array) => Promise<Uint8Array>;
}

export interface Issuer {
  readonly certificate: string;
  readonly signer: CertificateSigner;
}

export interface IssuedCertificate {
  readonly pem: string;
  /** Lower-case hex without leading zeros. */
  readonly serial: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface Validity {
  readonly fromMs: number;
  readonly days: number;
}

const DAY_MS = 86_400_000;
/** Clocks of clients may be a little behind. */
const BACKDATE_MS = 60_000;

/** Longest validity of an access certificate, in days (okms-rest-api §4.1). */
export const ACCESS_DAYS_MAX = 365;

/** Values as typed structures: strings with quotes or a leading `#` are misread otherwise. */
function name(commonName: string, organization?: string): x509.Name {
  const parts: x509.JsonNameParams = organization === undefined ? [] : [{ O: [{ utf8String: organization }] }];
  return new x509.Name([...parts, { CN: [{ utf8String: commonName }] }]);
}

/** 128 random bits, positive; as a UUID it is the credential id. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40);
  return bytes.toString('hex');
}

/** WebCrypto with the token in place of `sign`: the generator asks for nothing else that needs a private key. */
function cryptoWith(signer: CertificateSigner): Crypto {
  const subtle = {
    digest: webcrypto.subtle.digest.bind(webcrypto.subtle),
    sign: async (_algorithm: unknown, _key: unknown, data: ArrayBuffer) => signer.sign(new Uint8Array(data)),
  };
  return { subtle, getRandomValues: webcrypto.getRandomValues.bind(webcrypto) } as unknown as Crypto;
}

/** What the generator reads of a key it never uses. */
const SIGNING_KEY = { type: 'private', algorithm: { name: 'ECDSA', namedCurve: 'P-256' } } as unknown as CryptoKey;

interface Request {
  readonly subject: x509.Name;
  readonly issuer: x509.Name;
  readonly publicKey: Uint8Array;
  readonly validity: Validity;
  readonly extensions: readonly x509.Extension[];
}

async function issue(request: Request, signer: CertificateSigner): Promise<IssuedCertificate> {
  const serial = newSerial();
  const notBefore = new Date(request.validity.fromMs - BACKDATE_MS);
  const notAfter = new Date(notBefore.getTime() + request.validity.days * DAY_MS);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serial,
      subject: request.subject,
      issuer: request.issuer,
      notBefore,
      notAfter,
      publicKey: new Uint8Array(request.publicKey),
      signingKey: SIGNING_KEY,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        ...request.extensions,
        await x509.SubjectKeyIdentifierExtension.create(new x509.PublicKey(new Uint8Array(request.publicKey))),
        await x509.AuthorityKeyIdentifierExtension.create(new x509.PublicKey(new Uint8Array(signer.publicKey))),
      ],
    },
    cryptoWith(signer),
  );
  const pem = `${certificate.toString('pem')}\n`;
  return { pem, serial: canonicalSerial(serial), notBeforeMs: notBefore.getTime(), notAfterMs: notAfter.getTime() };
}

 
const CA_USAGES: x509.KeyUsageFlags = x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign;

/** A self-signed CA. */
export function issueAuthority(
  signer: CertificateSigner,
  commonName: string,
  installation: string,
  validity: Validity,
): Promise<IssuedCertificate> {
  const subject = name(commonName, `kms ${installation}`);
  const extensions = [new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(CA_USAGES, true)];
  return issue({ subject, issuer: subject, publicKey: signer.publicKey, validity, extensions }, signer);
}

function subjectOf({ certificate }: Issuer): x509.Name {
  return new x509.X509Certificate(certificate).subjectName;
}

/** The OKMS shape (okms-rest-api §4.1): CN = vault id, one critical UPN name `okms.domain:<vault id>`, clientAuth. */
export function issueAccessCertificate(
  issuer: Issuer,
  vaultId: string,
  publicKey: Uint8Array,
  validity: Validity,
): Promise<IssuedCertificate> {
  const extensions = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
    new x509.SubjectAlternativeNameExtension([{ type: 'upn', value: `okms.domain:${vaultId}` }], true),
  ];
  const days = Math.min(validity.days, ACCESS_DAYS_MAX);
  const request = { subject: name(vaultId), issuer: subjectOf(issuer), publicKey, validity: { ...validity, days } };
  return issue({ ...request, extensions }, issuer.signer);
}

export interface Revoked {
  /** Hex. */
  readonly serial: string;
  readonly revokedMs: number;
}

/** RFC 7468 §6; the library has another. */
const CRL_TAG = 'X509 CRL';

/** A CRL (RFC 5280 §5), PEM. @param days until the next one is due */
export async function issueCrl(issuer: Issuer, revoked: readonly Revoked[], { fromMs, days }: Validity): Promise<string> {
  const crl = await x509.X509CrlGenerator.create(
    {
      issuer: subjectOf(issuer),
      thisUpdate: new Date(fromMs),
      nextUpdate: new Date(fromMs + days * DAY_MS),
      signingKey: SIGNING_KEY,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      entries: revoked.map(({ serial, revokedMs }) => ({ serialNumber: serial, revocationDate: new Date(revokedMs), reason: x509.X509CrlReason.privilegeWithdrawn })),
      extensions: [await x509.AuthorityKeyIdentifierExtension.create(new x509.PublicKey(new Uint8Array(issuer.signer.publicKey)))],
    },
    cryptoWith(issuer.signer),
  );
  return `${x509.PemConverter.encode(crl.rawData, CRL_TAG)}\n`;
}

/** @param hosts DNS names and IP addresses */
export function issueServerCertificate(
  issuer: Issuer,
  hosts: readonly { readonly type: 'dns' | 'ip'; readonly value: string }[],
  publicKey: Uint8Array,
  validity: Validity,
): Promise<IssuedCertificate> {
  const extensions = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
    new x509.SubjectAlternativeNameExtension([...hosts]),
  ];
  return issue({ subject: name('localhost'), issuer: subjectOf(issuer), publicKey, validity, extensions }, issuer.signer);
}
