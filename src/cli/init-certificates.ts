/**
 * The certificates of a new installation: two CAs whose keys are in the token, the server certificate, and the first
 * administrator's access certificate. Private keys of the last two are files, as TLS needs them.
 */

import { generateKeyPairSync } from 'node:crypto';
import { isIP } from 'node:net';
import { authority } from '../auth/client-certificate.ts';
import {
  ACCESS_DAYS_MAX,
  type CertificateSigner,
  type Issuer,
  issueAccessCertificate,
  issueAuthority,
  issueServerCertificate,
} from '../auth/issue-certificate.ts';
import { signWithInternalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import type { Credential, InternalKey, Vault } from '../keys/key.ts';
import type { Token } from '../pkcs11/token.ts';
import { writeWhole } from './init-files.ts';

const CA_DAYS = 3650;
const SERVER_DAYS = 825;

/** Signs certificates with an internal key. */
export function tokenSigner(token: Token, key: InternalKey): CertificateSigner {
  if (key.publicKey === null) throw new KmsError('internal', `internal key ${key.name} has no public half`);
  return { publicKey: key.publicKey, sign: (bytes) => signWithInternalKey(token, key, bytes) };
}

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

/** Localhost, the loopback addresses, each vault's host, and what else the host is called. */
export function serverNames(vaults: readonly Pick<Vault, 'name'>[], others: readonly string[]): readonly string[] {
  return [...new Set(['localhost', ...vaults.map(({ name }) => `${name}.localhost`), '127.0.0.1', '::1', ...others])];
}

/** @param names DNS names and addresses of the host */
export async function writeServerCertificate(home: string, issuer: Issuer, names: readonly string[], fromMs: number): Promise<void> {
  const hosts = names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value }));
  const publicKey = writeKeyPair(paths.serverKey(home));
  const { pem } = await issueServerCertificate(issuer, hosts, publicKey, { fromMs, days: SERVER_DAYS });
  writeWhole(paths.serverCertificate(home), pem, 0o644);
}

/** Writes admin.key and admin.pem. @returns the row by which the server knows the certificate */
export async function issueAdministrator(
  home: string,
  issuer: Issuer,
  vaultId: string,
  fromMs: number,
): Promise<Omit<Credential, 'revision'>> {
  const publicKey = writeKeyPair(paths.client(home, 'admin.key'));
  const issued = await issueAccessCertificate(issuer, vaultId, publicKey, { fromMs, days: ACCESS_DAYS_MAX });
  writeWhole(paths.client(home, 'admin.pem'), issued.pem, 0o644);
  return {
    issuerKeyHash: authority(issuer.certificate).keyHash,
    serial: issued.serial,
    vaultId,
    subject: 'admin',
    notAfterMs: issued.notAfterMs,
    createdMs: fromMs,
    revokedMs: null,
  };
}
