/** `kms token issue`: an access token of the built-in issuer of a development installation, signed in the HSM. */

import { randomUUID } from 'node:crypto';
import { type Command, InvalidArgumentError } from 'commander';
import { composeJws, packJws } from '../api/okms/jws.ts';
import { isPrintable, LIFETIME_MAX, type TokenIssuer } from '../auth/access-token.ts';
import { builtInIssuer } from '../auth/built-in-issuer.ts';
import { findRole, roleNames } from '../auth/policy.ts';
import { type Config, endpointOf, loadConfig } from '../config.ts';
import { internalKey, signWithInternalKey } from '../crypto/internal-keys.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { Vault } from '../keys/key.ts';
import { print } from './output.ts';
import { operator, type Session, withSession } from './session.ts';
import { namedVault } from './vault.ts';

interface Issue {
  readonly subject: string;
  readonly role: readonly string[];
  readonly vault?: string;
  readonly lifetime: number;
}

export function tokenCommands(kms: Command, finish: (code: number) => void): void {
  const token = kms.command('token').description('access tokens of a development installation');
  token
    .command('issue')
    .description('print a bearer token; what it may do is decided by the roles of its subject')
    .requiredOption('--subject <name>', 'who the token speaks for')
    .option('--role <role>', `also give this role to the subject, for good: ${roleNames().join(', ')}`, collectRoles, [])
    .option('--vault <name>', 'where the roles count; the first vault by default')
    .option('--lifetime <seconds>', `at most ${LIFETIME_MAX}`, seconds, LIFETIME_MAX)
    .action(async (options: Issue) => {
      print(await issueToken(loadConfig(process.env), options));
      finish(0);
    });
}

function collectRoles(text: string, before: readonly string[]): readonly string[] {
  const slug = findRole(text);
  if (slug === undefined) throw new InvalidArgumentError(`expected one of ${roleNames().join(', ')}`);
  return [...before, slug];
}

function seconds(text: string): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > LIFETIME_MAX) throw new InvalidArgumentError(`expected seconds from 1 to ${LIFETIME_MAX}`);
  return value;
}

/** @throws KmsError `invalid-field`, `not-found` for the vault, `conflict` in `prod` */
export function issueToken(config: Config, { subject, role: roles, vault, lifetime }: Issue): Promise<string> {
  if (!isPrintable(subject)) throw invalidField('--subject', 'expected 1 to 256 printable characters');
  return withSession(config, async (session) => {
    const issuer = builtInIssuer(session.installation, endpointOf(config));
    if (issuer === null) throw new KmsError('conflict', 'this installation has no built-in issuer of access tokens: it is not a development set-up');
    await session.openStore();
    if (roles.length > 0) await session.enrol();
    const vaults = await session.store.vaults();
    const where = vault === undefined ? vaults[0] : namedVault(vaults, vault);
    if (where === undefined) throw new KmsError('internal', 'the installation has no vault');
    for (const role of roles) await assign(session, issuer, subject, role, where);
    return sign(session, issuer, subject, lifetime);
  });
}

async function assign({ store, audit, config, outbox }: Session, issuer: TokenIssuer, subject: string, role: string, { id: vaultId }: Vault): Promise<void> {
  const requestId = randomUUID();
  const who = { method: 'token', issuer: issuer.name, subject } as const;
  await store.assign({ id: randomUUID(), ...who, role, vaultId, keyId: null, createdMs: Date.now() }, requestId);
  await audit.append({ event: 'role.assign', result: 'success', requestId, vault: vaultId, principal: operator(config), detail: { ...who, role } });
  outbox.recorded(requestId);
  await store.effectiveEverywhere();
}

async function sign({ token, installation, audit, config }: Session, issuer: TokenIssuer, subject: string, lifetime: number): Promise<string> {
  const [kid = ''] = issuer.keys.keys();
  const now = Math.floor(Date.now() / 1000);
  const [aud] = issuer.audiences;
  const claims = { iss: issuer.iss, aud, sub: subject, tid: installation.id, jti: randomUUID(), iat: now, nbf: now, exp: now + lifetime };
  const unsigned = composeJws('jwt', issuer.algorithm, kid, Buffer.from(JSON.stringify(claims), 'utf8'));
  const signature = await signWithInternalKey(token, internalKey(installation, 'token-issuer'), unsigned.signingInput);
  await audit.append({ event: 'token.issue', result: 'success', principal: operator(config), detail: { subject, jti: claims.jti, exp: claims.exp } });
  return packJws(unsigned, signature);
}
