/** `kms vault`: the tenants' containers. Servers may run beside it; they take over what changed at once. */

import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import type { Vault } from '../keys/key.ts';
import { newVault, vaultChange, type VaultSpec } from '../keys/vaults.ts';
import type { VaultChange } from '../store/store.ts';
import { type Output, outputOption, print } from './output.ts';
import { changingSession, recorded } from './recorded.ts';
import { openVerified, type Session, withAccess } from './session.ts';

interface Switches {
  readonly cbc?: boolean;
  /** As commander spells `--rsa1-5`. */
  readonly rsa15?: boolean;
  readonly rsnull?: boolean;
  readonly purgeProtection?: true;
  readonly compromiseRule?: Vault['compromiseRule'];
  readonly keyQuota?: string;
}

interface Create extends Switches, Output {
  readonly flavour: Vault['flavour'];
  readonly backup: Vault['backup'];
  readonly softDeleteDays: string;
  readonly profile: Vault['profile'];
}

const RULES = ['reversible', 'final'] as const;
const SWITCHES = [['cbc', 'AES-CBC'], ['rsa1-5', 'RSA1_5'], ['rsnull', 'RSNULL']] as const;

export function vaultCommands(vault: Command, finish: (code: number) => void): void {
  const config = (): Config => loadConfig(process.env);
  const show = (made: Vault, { output }: Output): void => { print(output === 'json' ? JSON.stringify(made, null, 2) : formatVault(made)); finish(0); };
  withSwitches(vault.command('create <name>').description('make a vault'), false)
    .addOption(new Option('--flavour <flavour>', 'which of the two Key Vault services it is like').choices(['premium', 'managed-hsm']).makeOptionMandatory())
    .addOption(new Option('--backup <rule>', 'whether new keys may ever be backed up; cannot be changed').choices(['allowed', 'never']).makeOptionMandatory())
    .option('--soft-delete-days <days>', 'how long a deleted key can be recovered, 7 to 90; cannot be changed', '90')
    .addOption(new Option('--profile <profile>', 'what is accepted at all; cannot be changed').choices(['standard', 'fips']).default('standard'))
    .action(async (name: string, options: Create) => { show(await createVault(config(), specOf(name, options)), options); });
  withSwitches(vault.command('update <name>').description('change the switches of a vault'), true)
    .action(async (name: string, options: Switches & Output) => { show(await updateVault(config(), name, changeOf(options)), options); });
  vault.command('show <name>').description('show a vault').addOption(outputOption())
    .action(async (name: string, options: Output) => { show(namedVault(await listVaults(config()), name), options); });
  vault.command('list').description('list the vaults, the default one first').addOption(outputOption())
    .action(async ({ output }: Output) => {
      const vaults = await listVaults(config());
      print(output === 'json' ? JSON.stringify(vaults, null, 2) : vaults.map(({ id, name, flavour }) => `${name} ${flavour} ${id}`).join('\n'));
      finish(0);
    });
}

/** @param off whether a switch can be turned off again */
function withSwitches(command: Command, off: boolean): Command {
  for (const [flag, algorithm] of SWITCHES) {
    command.option(`--${flag}`, `serve ${algorithm}`);
    if (off) command.option(`--no-${flag}`, `refuse ${algorithm}`);
  }
  return command
    .option('--purge-protection', 'nobody can destroy a deleted key before its time; cannot be taken away')
    .option('--key-quota <keys>', 'how many keys it may hold; none for any number')
    .addOption(new Option('--compromise-rule <rule>', 'whether a compromised key can be activated again').choices(RULES))
    .addOption(outputOption());
}

function specOf(name: string, options: Create): VaultSpec {
  const { flavour, backup, softDeleteDays, profile, cbc = false, rsa15 = false, rsnull = false, purgeProtection = false, compromiseRule = 'reversible' } = options;
  const keyQuota = quotaOf(options) ?? null;
  return { name, flavour, backup, softDeleteDays: Number(softDeleteDays), profile, keyQuota, cbc, rsa15, rsnull, purgeProtection, compromiseRule };
}

function changeOf({ cbc, rsa15, rsnull, purgeProtection, compromiseRule, keyQuota }: Switches): VaultChange {
  const asked = { cbc, rsa15, rsnull, purgeProtection, compromiseRule, keyQuota: quotaOf({ keyQuota }) };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
}

/** @returns undefined where none was given, null for none at all */
function quotaOf({ keyQuota }: { readonly keyQuota?: string | undefined }): number | null | undefined {
  if (keyQuota === undefined) return undefined;
  return keyQuota === 'none' ? null : Number(keyQuota);
}

/** In order of creation. */
export function listVaults(config: Config): Promise<readonly Vault[]> {
  return withAccess(config, async (access) => {
    await openVerified(access);
    return access.store.vaults();
  });
}

/** @throws KmsError `invalid-field`, `conflict` when the name is taken */
export function createVault(config: Config, spec: VaultSpec): Promise<Vault> {
  const vault = newVault(spec, Date.now());
  return changing(config, 'vault.create', async ({ store }, requestId) => ({ vault: await store.createVault(vault, requestId), changed: true }));
}

/** @throws KmsError `invalid-field`, `not-found` */
export function updateVault(config: Config, name: string, asked: VaultChange): Promise<Vault> {
  return changing(config, 'vault.update', async ({ store }, requestId) => {
    const vault = namedVault(await store.vaults(), name);
    const change = vaultChange(vault, asked);
    return change === null ? { vault, changed: false } : { vault: await store.updateVault(vault.id, vault.revision, change, requestId), changed: true };
  });
}

export function namedVault(vaults: readonly Vault[], name: string): Vault {
  const vault = vaults.find((candidate) => candidate.name === name);
  if (vault === undefined) throw new KmsError('not-found', `there is no vault ${name}; there are ${vaults.map((each) => each.name).join(', ')}`);
  return vault;
}

interface Outcome {
  readonly vault: Vault;
  readonly changed: boolean;
}

function changing(config: Config, event: string, work: (session: Session, requestId: string) => Promise<Outcome>): Promise<Vault> {
  return changingSession(config, async (session) => {
    const requestId = randomUUID();
    const { vault, changed } = await work(session, requestId);
    if (!changed) return vault;
    const { id, keyQuota, ...said } = vault;
    await recorded(session, { event, requestId, vault: id, detail: { ...said, keyQuota: keyQuota ?? 'none' } });
    return vault;
  });
}

function formatVault(of: Vault): string {
  const { id, name, flavour, softDeleteDays, purgeProtection, backup, cbc, rsa15, rsnull, compromiseRule, profile, keyQuota, createdMs } = of;
  const onOff = (is: boolean): string => (is ? 'on' : 'off');
  return [
    `${name}  ${id}`,
    `  flavour ${flavour}, profile ${profile}, backup ${backup}, made ${new Date(createdMs).toISOString()}`,
    `  deleted keys are kept ${softDeleteDays} days, purge protection ${onOff(purgeProtection)}; at most ${keyQuota ?? 'any number of'} keys`,
    `  AES-CBC ${onOff(cbc)}, RSA1_5 ${onOff(rsa15)}, RSNULL ${onOff(rsnull)}, compromise ${compromiseRule}`,
  ].join('\n');
}
