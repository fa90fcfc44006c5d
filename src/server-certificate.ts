/**
 * The server certificate of this host: renewed by the server CA, whose key is in the token, when it lacks the host of a
 * vault or is about to expire. Its own key stays as it is.
 */

import { createPublicKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { CertificateSigner, Issuer } from './auth/issue-certificate.ts';
import { internalKey, signWithInternalKey } from './crypto/internal-keys.ts';
import { KmsError } from './errors.ts';
import { paths, writeWhole } from './home.ts';
import type { Installation, InternalKey, Vault } from './keys/key.ts';
import type { Token } from './pkcs11/token.ts';
import type { Logger } from './telemetry/log.ts';

const SERVER_DAYS = 825;
const RENEW_BEFORE_MS = 30 * 86_400_000;
const REFRESH_MS = 60_000;

export interface TlsFiles {
  /** PEM. */
  readonly cert: string;
  /** PKCS#8, PEM. */
  readonly key: string;
}

/** Signs certificates with an internal key. */
export function tokenSigner(token: Token, key: InternalKey): CertificateSigner {
  if (key.publicKey === null) throw new KmsError('internal', `internal key ${key.name} has no public half`);
  return { publicKey: key.publicKey, sign: (bytes) => signWithInternalKey(token, key, bytes) };
}

/** Localhost, the loopback addresses, each vault's host, and what else the host is called. */
export function serverNames(vaults: readonly Pick<Vault, 'name'>[], others: readonly string[]): readonly string[] {
  return [...new Set(['localhost', ...vaults.map(({ name }) => `${name}.localhost`), '127.0.0.1', '::1', ...others])];
}

export function readTlsFiles(home: string): TlsFiles {
  return { cert: readFileSync(paths.serverCertificate(home), 'utf8'), key: readFileSync(paths.serverKey(home), 'utf8') };
}

/** @param names DNS names and addresses of the host @param publicKey SubjectPublicKeyInfo, DER */
export async function writeServerCertificate(
  home: string,
  issuer: Issuer,
  names: readonly string[],
  publicKey: Uint8Array,
  fromMs: number,
): Promise<void> {
  // Half a second of loading, which a server process rarely needs.
  const { issueServerCertificate } = await import('./auth/issue-certificate.ts');
  const hosts = names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value }));
  const { pem } = await issueServerCertificate(issuer, hosts, publicKey, { fromMs, days: SERVER_DAYS });
  writeWhole(paths.serverCertificate(home), pem, 0o644);
}

export interface ServerCertificateOptions {
  readonly home: string;
  readonly token: Token;
  readonly installation: Installation;
  readonly vaults: () => Promise<readonly Vault[]>;
  /** Runs while no other process of this host does. */
  readonly exclusively: (run: () => Promise<void>) => Promise<void>;
  readonly onRenewed: (files: TlsFiles) => void;
  readonly logger: Logger;
}

export class ServerCertificate {
  readonly #options: ServerCertificateOptions;
  #served: string;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @param served the certificate in use, PEM */
  constructor(options: ServerCertificateOptions, served: string) {
    this.#options = options;
    this.#served = served;
  }

  /** From now on, and once a minute. */
  start(): void {
    if (this.#stopped) return;
    void this.refresh();
    this.#timer = setInterval(() => { void this.refresh(); }, REFRESH_MS).unref();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
  }

  /** One process of the host renews it; each goes on with what is there. Never rejects: what fails is tried again. */
  async refresh(): Promise<void> {
    const { home, logger, onRenewed } = this.#options;
    if (this.#stopped) return;
    try {
      await this.#renew();
      const files = readTlsFiles(home);
      if (files.cert === this.#served) return;
      onRenewed(files);
      this.#served = files.cert;
      logger.info({ event: 'certificate-renewed' }, 'new server certificate');
    } catch (err) {
      logger.warn({ err }, 'the server certificate was not renewed');
    }
  }

  async #renew(): Promise<void> {
    const { home, token, installation, vaults, exclusively } = this.#options;
    const named = await vaults();
    if (!isOutdated(home, named)) return;
    await exclusively(async () => {
      if (!isOutdated(home, named)) return;
      const issuer = { certificate: installation.serverCa, signer: tokenSigner(token, internalKey(installation, 'server-ca')) };
      const { cert, key } = readTlsFiles(home);
      const publicKey = createPublicKey(key).export({ format: 'der', type: 'spki' });
      // It keeps every name it has.
      await writeServerCertificate(home, issuer, serverNames(named, namesOf(new X509Certificate(cert))), publicKey, Date.now());
    });
  }
}

/** Whether the host's certificate lacks the host of one of these vaults, or expires soon. */
export function isOutdated(home: string, vaults: readonly Pick<Vault, 'name'>[]): boolean {
  const certificate = new X509Certificate(readTlsFiles(home).cert);
  const names = new Set(namesOf(certificate));
  return serverNames(vaults, []).some((name) => !names.has(name)) || Date.parse(certificate.validTo) - Date.now() < RENEW_BEFORE_MS;
}

/** `DNS:localhost, IP Address:127.0.0.1`; IPv6 addresses are spelled out there. */
function namesOf({ subjectAltName }: X509Certificate): readonly string[] {
  const named = (subjectAltName ?? '').split(', ').map((part) => part.replace(/^(?:DNS|IP Address):/, ''));
  return named.map((name) => (name === '0:0:0:0:0:0:0:1' ? '::1' : name));
}
