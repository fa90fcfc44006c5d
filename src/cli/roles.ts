/** Roles for the subjects of access tokens, as commands give them: sealed assignments, and records of them. */

import { randomUUID } from 'node:crypto';
import { type Command, InvalidArgumentError } from 'commander';
import { findRole, roleNames } from '../auth/policy.ts';
import { issuerOf } from '../auth/principal.ts';
import { KmsError } from '../errors.ts';
import { operator, type Session } from './session.ts';
import { namedVault } from './vault.ts';

export interface Roles {
  readonly role: readonly string[];
  readonly vault?: string;
}

export function withRoles(command: Command): Command {
  return command
    .option('--role <role>', `also give this role to the subject, for good: ${roleNames().join(', ')}`, collectRoles, [])
    .option('--vault <name>', 'where the roles count; the first vault by default');
}

function collectRoles(text: string, before: readonly string[]): readonly string[] {
  const slug = findRole(text);
  if (slug === undefined) throw new InvalidArgumentError(`expected one of ${roleNames().join(', ')}`);
  return [...before, slug];
}

/** On an open store, and enrolled where there are roles. @throws KmsError `not-found` for the vault */
export async function assignRoles(session: Session, subject: string, { role: roles, vault }: Roles): Promise<void> {
  const vaults = await session.store.vaults();
  const where = vault === undefined ? vaults[0] : namedVault(vaults, vault);
  if (where === undefined) throw new KmsError('internal', 'the installation has no vault');
  for (const role of roles) await assign(session, subject, role, where.id);
}

async function assign({ store, audit, config, outbox, installation }: Session, subject: string, role: string, vaultId: string): Promise<void> {
  const requestId = randomUUID();
  const who = { method: 'token', issuer: issuerOf(installation.id), subject } as const;
  await store.assign({ id: randomUUID(), ...who, role, vaultId, keyId: null, createdMs: Date.now() }, requestId);
  await audit.append({ event: 'role.assign', result: 'success', requestId, vault: vaultId, principal: operator(config), detail: { ...who, role } });
  outbox.recorded(requestId);
  await store.effectiveEverywhere();
}
