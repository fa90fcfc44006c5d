/** Whose word counts beside our own: the configured issuers of access tokens and CAs of client certificates, their files open. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { KeySource } from './auth/configured-issuer.ts';
import { type ExternalAuthority, externalAuthority, externalIssuer } from './auth/external-authority.ts';
import type { TokenIssuer } from './auth/access-token.ts';
import { authority } from './auth/client-certificate.ts';
import { type Config, endpointOf } from './config.ts';
import { KmsError } from './errors.ts';
import type { Installation } from './keys/key.ts';

export interface Trust {
  readonly issuers: readonly TokenIssuer[];
  readonly authorities: readonly ExternalAuthority[];
}

type IssuerConfig = Config['access']['issuers'][number];

/** @throws KmsError `internal` naming the setting or file at fault */
export async function openTrust(config: Config, { kind }: Pick<Installation, 'kind'>): Promise<Trust> {
  const { issuers, authorities } = config.access;
  assertDifferent('access.issuers', [...issuers, ...authorities].map(({ name }) => name));
  assertDifferent('access.issuers', issuers.map(({ issuer }) => issuer));
  return {
    issuers: await Promise.all(issuers.map((of) => openIssuer(config, of))),
    authorities: await Promise.all(authorities.map(({ certificateFile, crlFile, subject, vault }) => externalAuthority({
      certificate: readPem(config, certificateFile),
      crlFile: crlFile === undefined ? null : resolve(config.home, crlFile),
      subject,
      vault: vault ?? null,
    }, kind === 'prod' ? 'refuse' : 'accept'))),
  };
}

async function openIssuer(config: Config, of: IssuerConfig): Promise<TokenIssuer> {
  // With it comes jose, which no start needs to load that has no issuer configured.
  const { configuredIssuer } = await import('./auth/configured-issuer.ts');
  const endpoint = endpointOf(config);
  return configuredIssuer({
    iss: of.issuer,
    audiences: of.audiences.length > 0 ? of.audiences : [endpoint, `${endpoint}/`],
    algorithms: of.algorithms,
    keys: keySource(config, of),
    subject: of.subjectClaim,
    id: of.idClaim ?? null,
    groups: of.groupsClaim,
    roles: of.rolesClaim,
    required: of.requiredClaims,
    skew: of.skewSeconds,
    lifetimeMax: null,
  });
}

function keySource({ home }: Config, { jwksFile, jwksUrl = '', caFile, cacheSeconds, cooldownSeconds }: IssuerConfig): KeySource {
  if (jwksFile !== undefined) return { file: resolve(home, jwksFile) };
  const ca = caFile === undefined ? null : resolve(home, caFile);
  return { url: jwksUrl, caFile: ca, cacheMs: cacheSeconds * 1000, cooldownMs: cooldownSeconds * 1000 };
}

/** @returns by which principals are stored; undefined for a name that nothing is configured under */
export function issuerNamed(config: Config, method: 'certificate' | 'token', name: string): string | undefined {
  if (method === 'token') return config.access.issuers.find((of) => of.name === name)?.issuer;
  const ca = config.access.authorities.find((of) => of.name === name);
  return ca === undefined ? undefined : externalIssuer(authority(readPem(config, ca.certificateFile)));
}

function readPem({ home }: Config, file: string): string {
  const path = resolve(home, file);
  try {
    const pem = readFileSync(path, 'utf8');
    authority(pem);
    return pem;
  } catch (cause) {
    throw new KmsError('internal', `${path}: expected the certificate of a CA, PEM: ${(cause as Error).message}`, { cause });
  }
}

function assertDifferent(setting: string, names: readonly string[]): void {
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new KmsError('internal', `configuration: ${setting}: ${twice} is there twice`);
}
