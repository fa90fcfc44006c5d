/**
 * The certificates of a new installation: two CAs whose keys are in the token, the server certificate, and the first
 * administrator's access certificate. Private keys of the last two are files, as TLS needs them.
 */

import { generateKeyPairSync } from 'node:crypto';
import { authority } from '../auth/client-certificate.ts';
import {
  type Issuer,
  issueAccessCertificate,
  issueAuthority,
} from '../auth/issue-certificate.ts';
import { paths, writeWhole } from '../home.ts';
import type { Credential, InternalKey } from '../keys/key.ts';
import type { Token } from '../pkcs11/token.ts';
import { tokenSigner, writeServerCertificate } from '../server-certificate.ts';
import type { Administrator } from './init-plan.ts';

const CA_DAYS = 3650;

/**
 * A self-signed CA.
 * @param key its key in the token
 * @param file where the certificate goes
 */
export async function makeAuthority(
  token: Token,
  key: InternalKey,
  subject: { readonly commonName: string; readonly installation: string },
  fromMs: number,
  file: string,
): Promise<Issuer> {
  const signer = tokenSigner(token, key);
  const { commonName, installation } = subject;
  const { pem } = await issueAuthority(signer, commonName, installation, { fromMs, days: CA_DAYS });
  writeWhole(file, pem, 0o644);
  return { certificate: pem, signer };
}

/** A software key pair, as TLS needs one. The private half goes to a file and nowhere else. */
function writeKeyPair(path: string): Uint8Array {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeWhole(path, privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, 0o600);
  return publicKey.export({ format: 'der', type: 'spki' });
}

/** @param names DNS names and addresses of the host */
export async function makeServerCertificate(home: string, issuer: Issuer, names: readonly string[], fromMs: number): Promise<void> {
  await writeServerCertificate(home, issuer, names, writeKeyPair(paths.serverKey(home)), fromMs);
}

/** Writes admin.pem, and admin.key unless somebody has it. @returns the row by which the server knows the certificate */
export async function issueAdministrator(
  home: string,
  issuer: Issuer,
  vaultId: string,
  { subject, publicKey, days }: Administrator,
  fromMs: number,
): Promise<Omit<Credential, 'revision'>> {
  const certified = publicKey ?? writeKeyPair(paths.client(home, 'admin.key'));
  const issued = await issueAccessCertificate(issuer, vaultId, certified, { fromMs, days });
  writeWhole(paths.client(home, 'admin.pem'), issued.pem, 0o644);
  return {
    issuerKeyHash: authority(issuer.certificate).keyHash,
    serial: issued.serial,
    vaultId,
    subject,
    identities: [],
    notAfterMs: issued.notAfterMs,
    createdMs: fromMs,
    revokedMs: null,
  };
}
