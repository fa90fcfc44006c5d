/** Files of an access certificate: by the name of its subject, and as OVHcloud names them, by its id. */

import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.ts';
import { writeWhole } from '../home.ts';

export interface CertificateFiles {
  readonly certificate: string;
  readonly key: string;
  readonly p12: string;
}

/** @throws KmsError `conflict` when one of them is there: a key that is overwritten is lost */
export function filesFor(directory: string, subject: string): CertificateFiles {
  const base = join(directory, subject.replace(/[^\w.-]+/g, '-').replace(/^[.-]+/, '') || 'client');
  const files = { certificate: `${base}.pem`, key: `${base}.key`, p12: `${base}.p12` };
  const taken = Object.values(files).find(existsSync);
  if (taken !== undefined) throw new KmsError('conflict', `${taken} is there already`);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return files;
}

/** @param key PKCS#8, PEM; null for one that we never had */
export function writeCertificate(directory: string, id: string, { certificate, key: keyFile }: CertificateFiles, pem: string, key: string | null): void {
  const files: readonly (readonly [string, string | null, number])[] = [
    [keyFile, key, 0o600], [join(directory, `${id}_privatekey.pem`), key, 0o600],
    [certificate, pem, 0o644], [join(directory, `${id}_certificate.pem`), pem, 0o644],
  ];
  for (const [path, content, mode] of files) if (content !== null) writeWhole(path, content, mode);
}

/** Of a certificate that nobody will know. */
export function removeFiles(directory: string, id: string, files: CertificateFiles): void {
  const named: readonly string[] = [files.certificate, files.key, files.p12];
  for (const path of [...named, ...['privatekey', 'certificate'].map((what) => join(directory, `${id}_${what}.pem`))]) {
    rmSync(path, { force: true });
  }
}

/** The serial number as OVHcloud shows it: 128 bits as a UUID. */
export function credentialId(serial: string): string {
  return serial.padStart(32, '0').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
