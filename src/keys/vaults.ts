/** Vaults as an operator makes and changes them: what must be said, what may be changed, what excludes what (design §3). Pure. */

import { randomUUID } from 'node:crypto';
import { invalidField } from '../errors.ts';
import type { VaultChange } from '../store/store.ts';
import type { Vault } from './key.ts';

/** Decided once. Switches that are left out are off. */
export interface VaultSpec {
  readonly name: string;
  readonly flavour: Vault['flavour'];
  readonly backup: Vault['backup'];
  readonly softDeleteDays: number;
  readonly purgeProtection: boolean;
  readonly cbc: boolean;
  readonly rsa15: boolean;
  readonly rsnull: boolean;
  readonly compromiseRule: Vault['compromiseRule'];
  readonly profile: Vault['profile'];
  readonly keyQuota: number | null;
}

/** A DNS label that Key Vault accepts as the name of a vault: 3 to 24 characters, and no dash at either end or doubled. */
const NAME = /^[a-z](?!.*--)[a-z0-9-]{1,22}[a-z0-9]$/;
const KEY_QUOTA_MAX = 1e9;
const SOFT_DELETE_DAYS = { min: 7, max: 90 } as const;

/** @throws KmsError `invalid-field` naming the option */
export function newVault(spec: VaultSpec, nowMs: number): Omit<Vault, 'revision'> {
  if (!NAME.test(spec.name)) {
    throw invalidField('NAME', 'expected 3 to 24 lower-case letters, digits and single dashes, a letter first, no dash at the end');
  }
  const { min, max } = SOFT_DELETE_DAYS;
  const days = spec.softDeleteDays;
  if (!Number.isInteger(days) || days < min || days > max) throw invalidField('--soft-delete-days', `expected a whole number from ${min} to ${max}`);
  if (spec.profile === 'fips' && spec.backup !== 'never') throw invalidField('--backup', 'expected never with --profile fips');
  assertAllowed(spec.profile, spec);
  assertQuota(spec);
  return { id: randomUUID(), createdMs: nowMs, ...spec };
}

const SWITCHES = { cbc: '--cbc', rsa15: '--rsa1-5', rsnull: '--rsnull' } as const;

/** @throws KmsError `invalid-field` naming the option */
function assertAllowed(profile: Vault['profile'], switches: Pick<VaultChange, keyof typeof SWITCHES>): void {
  if (profile !== 'fips') return;
  for (const [name, option] of Object.entries(SWITCHES)) {
    if (switches[name as keyof typeof SWITCHES] === true) throw invalidField(option, 'not possible with --profile fips');
  }
}

/** @throws KmsError `invalid-field` naming the option */
function assertQuota({ keyQuota = null }: Pick<VaultChange, 'keyQuota'>): void {
  if (keyQuota === null || (Number.isInteger(keyQuota) && keyQuota >= 1 && keyQuota <= KEY_QUOTA_MAX)) return;
  throw invalidField('--key-quota', `expected a whole number from 1 to ${KEY_QUOTA_MAX}, or none`);
}

/** @returns null when nothing changes @throws KmsError `invalid-field` naming the option */
export function vaultChange(vault: Vault, asked: VaultChange): VaultChange | null {
  assertAllowed(vault.profile, asked);
  assertQuota(asked);
  const differing = Object.entries(asked).filter(([name, value]) => vault[name as keyof VaultChange] !== value);
  return differing.length === 0 ? null : Object.fromEntries(differing);
}
