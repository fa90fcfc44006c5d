/**
 * CAs of the operator's own, whose client certificates are accepted: which name in a certificate is the subject, for which
 * vault it is good, and which were revoked (RFC 5280 §5).
 */

import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { SubjectAlternativeNameExtension, X509Certificate as Parsed, X509Crl } from '@peculiar/x509';
import { KmsError } from '../errors.ts';
import { isPrintable } from './access-token.ts';
import { type Authority, authority, canonicalSerial } from './client-certificate.ts';
import { ReloadedFile } from './reloaded-file.ts';

/** Where the subject of a principal stands in its certificate. */
export type SubjectSource = 'cn' | 'dns' | 'email' | 'uri';

export interface AuthoritySettings {
  /** PEM. */
  readonly certificate: string;
  /** PEM; null where nothing is ever revoked. Read again when it changes. */
  readonly crlFile: string | null;
  readonly subject: SubjectSource;
  /** Name of the only vault for which its certificates are good; null for those in which their subjects have roles. */
  readonly vault: string | null;
}

export interface ExternalAuthority extends Authority {
  /** Names principals; made of the CA's key, as another CA may have its name. */
  readonly issuer: string;
  readonly vault: string | null;
  /** Parses the certificate. @param raw DER @returns null for one that names none, or several */
  readonly subjectOf: (raw: Uint8Array) => string | null;
  /** @throws KmsError `unauthenticated` for a certificate that was revoked, or nobody can tell */
  readonly assertNotRevoked: (serial: string, nowMs: number) => Promise<void>;
}

/**
 * @param staleCrl what a CRL after its next update, or of another CA, means: `refuse` that nobody can tell who was revoked
 * @throws KmsError `internal` for files that cannot be read
 */
export async function externalAuthority(settings: AuthoritySettings, staleCrl: 'refuse' | 'accept'): Promise<ExternalAuthority> {
  const ca = authority(settings.certificate);
  const { crlFile, subject, vault } = settings;
  const crl = crlFile === null ? null : await ReloadedFile.open(crlFile, (text) => readCrl(text, settings.certificate));
  return {
    ...ca,
    issuer: externalIssuer(ca),
    vault,
    subjectOf: (raw) => subjectIn(raw, subject),
    assertNotRevoked: async (serial, nowMs) => {
      if (crl !== null) assertNotRevoked(await crl.current(), serial, nowMs, staleCrl);
    },
  };
}

export function externalIssuer({ keyHash }: Pick<Authority, 'keyHash'>): string {
  return `urn:kms:ca:${keyHash}`;
}

interface Crl {
  readonly revoked: ReadonlySet<string>;
  /** Null for a CRL that does not say. */
  readonly nextUpdateMs: number | null;
}

/** @throws Error for a CRL that this CA did not sign: the one before stays */
async function readCrl(text: string, ca: string): Promise<Crl> {
  const crl = new X509Crl(text);
  if (!(await crl.verify({ publicKey: new Parsed(ca) }, webcrypto))) throw new Error('the CRL is not signed by its CA');
  const revoked = new Set(crl.entries.map(({ serialNumber }) => canonicalSerial(serialNumber)));
  return { revoked, nextUpdateMs: crl.nextUpdate?.getTime() ?? null };
}

function assertNotRevoked({ revoked, nextUpdateMs }: Crl, serial: string, nowMs: number, stale: 'refuse' | 'accept'): void {
  if (revoked.has(serial)) throw refused('certificate-revoked');
  if (stale === 'refuse' && nextUpdateMs !== null && nowMs >= nextUpdateMs) throw refused('crl-stale');
}

/** The only one of its kind: two could mean two different callers. */
function subjectIn(raw: Uint8Array, source: SubjectSource): string | null {
  const certificate = new Parsed(new Uint8Array(raw));
  const names = source === 'cn'
    ? certificate.subjectName.getField('CN')
    : alternativeNames(certificate).filter(({ type }) => type === (source === 'uri' ? 'url' : source)).map(({ value }) => value);
  const [subject] = names;
  return names.length === 1 && isPrintable(subject) ? subject : null;
}

function alternativeNames(certificate: Parsed): readonly { readonly type: string; readonly value: string }[] {
  return certificate.getExtension(SubjectAlternativeNameExtension)?.names.items ?? [];
}

function refused(rule: string): KmsError {
  return new KmsError('unauthenticated', 'the client certificate is not acceptable', { rule });
}
