/** `kms role`: who has which role where, and the operator's own roles. Servers may run beside it; they know at once. */

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { BUILT_IN_ROLES, covers } from '../auth/roles.ts';
import { type Config, loadConfig } from '../config.ts';
import { invalidField, KmsError } from '../errors.ts';
import type { Assignment, CustomRole, Permission, Vault } from '../keys/key.ts';
import { ALL_PERMISSIONS, readPermissions } from '../keys/permission-names.ts';
import { type HolderNames, holderOf, withHolder } from './holders.ts';
import { type Output, outputOption, print } from './output.ts';
import { changingSession, recorded } from './recorded.ts';
import { assertOwned, assign, collect, knownRole, vaultNamed } from './roles.ts';
import { openVerified, type Session, withAccess } from './session.ts';

interface Assign extends HolderNames, Output {
  readonly role: string;
  readonly vault?: string;
  readonly everyVault?: true;
  readonly key?: string;
}

interface Define {
  readonly permission: readonly string[];
  readonly description: string;
}

export function roleCommands(role: Command, finish: (code: number) => void): void {
  const config = (): Config => loadConfig(process.env);
  const done = (line: string): void => { print(line); finish(0); };
  withHolder(role.command('assign'))
    .description('give a role')
    .requiredOption('--role <role>', 'kms role types shows them')
    .option('--vault <name>', 'where it counts; the first vault by default')
    .option('--every-vault', 'it counts in every vault, also in those to come')
    .option('--key <name>', 'it counts for this key alone: its name, or its id')
    .action(async (options: Assign) => { done((await assignRole(config(), options)).id); });
  role.command('list').description('list the assignments of roles').addOption(outputOption())
    .action(async ({ output }: Output) => {
      const { assignments, custom, vaults } = await readPolicy(config());
      done(output === 'json' ? JSON.stringify(assignments, null, 2) : assignments.map((of) => formatAssignment(of, custom, vaults)).join('\n'));
    });
  role.command('remove <id>').description('take an assignment away, by its id')
    .action(async (id: string) => { await removeAssignment(config(), id); finish(0); });
  role.command('types').description('list the roles that there are, with their permissions').addOption(outputOption())
    .action(async ({ output }: Output) => {
      const types = typesOf((await readPolicy(config())).custom);
      done(output === 'json' ? JSON.stringify(types, null, 2) : types.map(({ name, permissions }) => `${name}: ${permissions.join(' ')}`).join('\n'));
    });
  role.command('define <name>').description('make a role of your own, or change what it permits')
    .requiredOption('--permission <name>', 'such as key/sign, okms:apikms:serviceKey/sign or Microsoft.KeyVault/vaults/keys/sign/action; repeatable', collect, [])
    .option('--description <text>', 'what it is for', '')
    .action(async (name: string, options: Define) => { done((await defineRole(config(), name, options)).id); });
  role.command('forget <name>').description('remove a role of your own that nobody has')
    .action(async (name: string) => { await forgetRole(config(), name); finish(0); });
}

export interface Policy {
  readonly assignments: readonly Assignment[];
  readonly custom: readonly CustomRole[];
  readonly vaults: readonly Vault[];
}

export function readPolicy(config: Config): Promise<Policy> {
  return withAccess(config, async (access) => {
    await openVerified(access);
    return policyIn(access);
  });
}

export async function policyIn({ store }: Pick<Session, 'store'>): Promise<Policy> {
  const [assignments, custom, vaults] = await Promise.all([store.allAssignments(), store.customRoles(), store.vaults()]);
  return { assignments, custom, vaults };
}

/** @throws KmsError `invalid-field`, `not-found` for vault and key */
export function assignRole(config: Config, options: Assign): Promise<Assignment> {
  return changingSession(config, async (session) => {
    const { everyVault, key, vault } = options;
    if (everyVault === true && (key !== undefined || vault !== undefined)) throw invalidField('--every-vault', 'not possible with --key or --vault');
    const holder = holderOf(options, session);
    const vaultId = everyVault === true ? null : (await vaultNamed(session, vault)).id;
    const role = knownRole(options.role, await session.store.customRoles(), vaultId);
    const keyId = key === undefined || vaultId === null ? null : await keyIn(session, vaultId, key);
    return assign(session, { ...holder, role, vaultId, keyId });
  });
}

/** @param name or id @returns the id: a key made later under this name is another @throws KmsError `not-found` */
export async function keyIn({ store }: Pick<Session, 'store'>, vaultId: string, name: string): Promise<string> {
  const key = (await store.findKeyByName(vaultId, name.toLowerCase())) ?? (await store.findKey(vaultId, name.toLowerCase()));
  if (key === undefined || key.versions.length === 0) throw new KmsError('not-found', `the vault has no key ${name}`);
  return key.id;
}

/** @throws KmsError `not-found` */
export function removeAssignment(config: Config, id: string): Promise<void> {
  return changingSession(config, async (session) => {
    const requestId = randomUUID();
    const all = await session.store.allAssignments();
    const found = all.find((of) => of.id === id.toLowerCase());
    if (found === undefined) throw new KmsError('not-found', `there is no assignment ${id}`);
    assertOwned(all.filter((of) => of !== found));
    await session.store.changePolicy({ withdraw: [found.id] }, requestId);
    const { method, issuer, subject, role, vaultId } = found;
    const detail = { assignment: found.id, method, issuer, subject, role };
    await recorded(session, { event: 'role.remove', requestId, ...(vaultId !== null && { vault: vaultId }), detail });
  });
}

const NAME = /^\p{L}[\p{L}\p{N} _.-]{0,127}$/u;

/** @throws KmsError `invalid-field`, `conflict` for the name of a built-in role */
export function defineRole(config: Config, name: string, { permission, description }: Define): Promise<Pick<CustomRole, 'id'>> {
  const permissions = readPermissions(permission);
  return changingSession(config, async (session) => {
    const requestId = randomUUID();
    const role = customRole(name, description, permissions, await session.store.customRoles());
    await session.store.changePolicy({ define: [role] }, requestId);
    await recorded(session, { event: 'role.define', requestId, detail: { role: role.id, name, permissions: permissions.join(' ') } });
    return role;
  });
}

/** Of every vault. @param known a role of this name keeps its id @throws KmsError `invalid-field`, `conflict` for the name of a built-in role */
export function customRole(name: string, description: string, permissions: readonly Permission[], known: readonly CustomRole[]): Omit<CustomRole, 'revision'> {
  if (!NAME.test(name)) throw invalidField('NAME', 'expected a letter, then up to 127 letters, digits, spaces, and any of _ . -');
  if (BUILT_IN_ROLES.some(({ slug, name: builtIn }) => [slug, builtIn.toLowerCase()].includes(name.toLowerCase()))) {
    throw new KmsError('conflict', `${name} is the name of a built-in role`);
  }
  const before = known.find((role) => role.vaultId === null && role.name.toLowerCase() === name.toLowerCase());
  const { id, createdMs } = before ?? { id: randomUUID(), createdMs: Date.now() };
  return { id, name, description, permissions, vaultId: null, createdMs };
}

/** @throws KmsError `not-found`; `conflict` while somebody has it */
export function forgetRole(config: Config, name: string): Promise<void> {
  return changingSession(config, async (session) => {
    const requestId = randomUUID();
    const role = (await session.store.customRoles()).find((of) =>
      (of.vaultId === null && of.name.toLowerCase() === name.toLowerCase()) || of.id === name.toLowerCase());
    if (role === undefined) throw new KmsError('not-found', `there is no role ${name} of your own`);
    await session.store.changePolicy({ forget: [role.id] }, requestId);
    await recorded(session, { event: 'role.forget', requestId, detail: { role: role.id, name: role.name } });
  });
}

function typesOf(custom: readonly CustomRole[]): readonly { readonly name: string; readonly permissions: readonly Permission[] }[] {
  const builtIn = BUILT_IN_ROLES.map(({ slug, permissions }) =>
    ({ name: slug, permissions: ALL_PERMISSIONS.filter((permission) => covers(permissions, permission)) }));
  return [...builtIn, ...custom.map(({ name, permissions }) => ({ name, permissions }))];
}

/** @returns one line */
export function formatAssignment(of: Omit<Assignment, 'revision'>, custom: readonly CustomRole[], vaults: readonly Vault[]): string {
  const { id, method, issuer, subject, role, permissions, vaultId, keyId } = of;
  const what = permissions?.join(' ') ?? custom.find((own) => own.id === role)?.name ?? role;
  const vault = vaultId === null ? 'every vault' : (vaults.find((each) => each.id === vaultId)?.name ?? vaultId);
  return `${id} ${method} ${subject} (${issuer}): ${what} in ${vault}${keyId === null ? '' : `, key ${keyId}`}`;
}
