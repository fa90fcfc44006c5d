/** Access certificates of the OKMS shape (okms-rest-api §4.1, §4.5), signed in the HSM. Servers may run beside it. */

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { isPrintable } from '../auth/access-token.ts';
import { authority, canonicalSerial } from '../auth/client-certificate.ts';
import { readCertificateRequest } from '../auth/certificate-request.ts';
import { issueAccessCertificate, issueCrl, type Issuer } from '../auth/issue-certificate.ts';
import { issuerOf } from '../auth/principal.ts';
import type { Config } from '../config.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { invalidField, KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import type { Credential } from '../keys/key.ts';
import { tokenSigner } from '../server-certificate.ts';
import { type CertificateFiles, credentialId, filesFor, removeFiles, writeCertificate } from './certificate-files.ts';
import { assertSubject } from './dev-issuer.ts';
import { p12Password, readGiven } from './given-files.ts';
import { writePkcs12 } from './pkcs12.ts';
import { changingSession, recorded } from './recorded.ts';
import { type Roles, rolesFor, vaultNamed } from './roles.ts';
import { type Access, openVerified, type Session, withAccess } from './session.ts';

export interface Issue extends Roles {
  readonly subject: string;
  readonly out: string;
  readonly type: 'ecdsa' | 'rsa';
  readonly csr?: string;
  readonly identity: readonly string[];
  readonly days: number;
  readonly p12PasswordFile?: string;
}

export const IDENTITIES_MAX = 25;
const CRL_DAYS = 7;

interface Issued {
  readonly id: string;
  readonly subject: string;
  readonly files: Partial<CertificateFiles>;
}

/** @throws KmsError `invalid-field`, `not-found` for the vault, `conflict` for files that are there */
export function issueCredential(config: Config, options: Issue): Promise<Issued> {
  assertSubject(options.subject);
  assertIdentities(options.identity);
  return changingSession(config, (session) => issue(session, options));
}

async function issue(session: Session, options: Issue): Promise<Issued> {
  const { subject, out, identity: identities } = options;
  const holder = { method: 'certificate', issuer: issuerOf(session.installation.id), subject } as const;
  const roles = await rolesFor(session, holder, options);
  const { id: vaultId } = await vaultNamed(session, options.vault);
  const password = p12Password('--p12-password-file', options.p12PasswordFile, options.csr === undefined);
  const files = filesFor(out, subject);
  const { key, publicKey } = await keyFor(options);
  const issuer = accessCa(session);
  const now = Date.now();
  const made = await issueAccessCertificate(issuer, vaultId, publicKey, { fromMs: now, days: options.days });
  const id = credentialId(made.serial);
  const credential = {
    issuerKeyHash: authority(issuer.certificate).keyHash, serial: made.serial, vaultId, subject, identities,
    notAfterMs: made.notAfterMs, createdMs: now, revokedMs: null,
  };
  try {
    writeCertificate(out, id, files, made.pem, key);
    if (password !== null) writePkcs12({ ...files, ca: paths.accessCa(session.config.home), out: files.p12 }, subject, password);
    await add(session, credential, roles, id);
  } catch (error) {
    removeFiles(out, id, files);
    throw error;
  }
  return { id, subject, files: { certificate: files.certificate, ...(key !== null && { key: files.key }), ...(password !== null && { p12: files.p12 }) } };
}

type Given = Parameters<Session['store']['addCredential']>;

/** Certificate and roles are there together, or neither is. */
async function add(session: Session, credential: Given[0], roles: Given[1], id: string): Promise<void> {
  const requestId = randomUUID();
  await session.store.addCredential(credential, roles, requestId);
  const { subject, vaultId, identities, notAfterMs } = credential;
  await recorded(session, {
    event: 'certificate.issue', requestId, vault: vaultId,
    detail: { certificate: id, subject, identities: identities.join(' '), roles: roles.map(({ role }) => role).join(' '), notAfterMs },
  });
}

/** @returns the private half as PKCS#8, PEM; null where it stays with whoever made the request */
async function keyFor({ csr, type }: Issue): Promise<{ readonly key: string | null; readonly publicKey: Uint8Array }> {
  if (csr !== undefined) return { key: null, publicKey: await readCertificateRequest('--csr', readGiven('--csr', csr)) };
  const { privateKey, publicKey } = type === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: 3072 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const key = privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
  return { key, publicKey: publicKey.export({ format: 'der', type: 'spki' }) };
}

function assertIdentities(identities: readonly string[]): void {
  if (identities.length > IDENTITIES_MAX) throw invalidField('--identity', `expected at most ${IDENTITIES_MAX}`);
  if (!identities.every(isPrintable)) throw invalidField('--identity', 'expected 1 to 256 printable characters');
}

function accessCa({ installation, token }: Access): Issuer {
  return { certificate: installation.accessCa, signer: tokenSigner(token, internalKey(installation, 'access-ca')) };
}

/** As lists show it. */
export interface ListedCredential extends Pick<Credential, 'subject' | 'identities' | 'vaultId' | 'createdMs' | 'notAfterMs' | 'revokedMs'> {
  readonly id: string;
}

export function listCredentials(config: Config): Promise<readonly ListedCredential[]> {
  return withAccess(config, async (access) => {
    await openVerified(access);
    const credentials = await access.store.credentials();
    return credentials.map(({ serial, subject, identities, vaultId, createdMs, notAfterMs, revokedMs }) =>
      ({ id: credentialId(serial), subject, identities, vaultId, createdMs, notAfterMs, revokedMs }));
  });
}

/** @param id or serial number, hex @throws KmsError `not-found` when there is no such certificate, or it is revoked */
export function revoke(config: Config, id: string): Promise<void> {
  return changingSession(config, async (session) => {
    const serial = canonicalSerial(id.replaceAll(/[-:]/g, ''));
    const found = (await session.store.credentials()).find((of) => of.serial === serial && of.revokedMs === null);
    if (found === undefined) throw new KmsError('not-found', `there is no certificate ${id}, or it is revoked`);
    const requestId = randomUUID();
    await session.store.revokeCredential(found.issuerKeyHash, serial, Date.now(), requestId);
    const detail = { certificate: credentialId(serial), subject: found.subject };
    await recorded(session, { event: 'certificate.revoke', requestId, vault: found.vaultId, detail });
  });
}

/** PEM. */
export function makeCrl(config: Config): Promise<string> {
  return withAccess(config, async (access) => {
    await openVerified(access);
    const revoked = (await access.store.credentials()).flatMap(({ serial, revokedMs }) => (revokedMs === null ? [] : [{ serial, revokedMs }]));
    return issueCrl(accessCa(access), revoked, { fromMs: Date.now(), days: CRL_DAYS });
  });
}
