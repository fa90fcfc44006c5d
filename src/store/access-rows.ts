/**
 * Rows ↔ domain types of the installation, vaults, credentials and assignments. Pure. Each pair of functions stands
 * together, and a member added to a domain type fails to compile here until it has a column.
 */

import type { Assignment, Credential, CustomRole, Installation, InternalKey, Permission, TokenClient, Vault } from '../keys/key.ts';
import type { Unsealed } from './changes.ts';
import { flag, type Fresh, readList } from './rows.ts';
import type { VaultChange } from './store.ts';
import type {
  AssignmentTable, CredentialTable, CustomRoleTable, InstallationTable, InternalKeyTable, TokenClientTable, VaultTable,
} from './schema.ts';

export function installationRow(of: Fresh<Installation>): Unsealed<'installation'> {
  return {
    singleton: 1,
    id: of.id,
    kind: of.kind,
    token_label: of.tokenLabel,
    token_serial: of.tokenSerial,
    access_ca: of.accessCa,
    server_ca: of.serverCa,
    created_ms: of.createdMs,
  };
}

export function toInstallation(row: InstallationTable, internalKeys: readonly InternalKeyTable[]): Installation {
  return {
    id: row.id,
    kind: row.kind,
    tokenLabel: row.token_label,
    tokenSerial: row.token_serial,
    createdMs: row.created_ms,
    revision: row.revision,
    internalKeys: internalKeys.map(toInternalKey),
    accessCa: row.access_ca,
    serverCa: row.server_ca,
  };
}

export function internalKeyRow(of: InternalKey): Unsealed<'internal_key'> {
  return { name: of.name, object_id: of.objectId, proof: of.proof, public_key: of.publicKey };
}

function toInternalKey(row: InternalKeyTable): InternalKey {
  return { name: row.name, objectId: row.object_id, proof: row.proof, publicKey: row.public_key };
}

export function vaultRow(of: Fresh<Vault>, ordinal: number): Unsealed<'vault'> {
  return {
    id: of.id,
    name: of.name,
    ordinal,
    flavour: of.flavour,
    soft_delete_days: of.softDeleteDays,
    purge_protection: flag(of.purgeProtection),
    backup: of.backup,
    cbc: flag(of.cbc),
    rsa15: flag(of.rsa15),
    rsnull: flag(of.rsnull),
    compromise_rule: of.compromiseRule,
    profile: of.profile,
    key_quota: of.keyQuota,
    created_ms: of.createdMs,
  };
}

/** Columns of what changes. */
export function vaultColumns({ purgeProtection, cbc, rsa15, rsnull, compromiseRule, keyQuota }: VaultChange): Partial<Unsealed<'vault'>> {
  return {
    ...(purgeProtection === undefined ? {} : { purge_protection: flag(purgeProtection) }),
    ...(cbc === undefined ? {} : { cbc: flag(cbc) }),
    ...(rsa15 === undefined ? {} : { rsa15: flag(rsa15) }),
    ...(rsnull === undefined ? {} : { rsnull: flag(rsnull) }),
    ...(compromiseRule === undefined ? {} : { compromise_rule: compromiseRule }),
    ...(keyQuota === undefined ? {} : { key_quota: keyQuota }),
  };
}

export function toVault(row: VaultTable): Vault {
  return {
    id: row.id,
    name: row.name,
    flavour: row.flavour,
    softDeleteDays: row.soft_delete_days,
    purgeProtection: row.purge_protection === 1,
    backup: row.backup,
    cbc: row.cbc === 1,
    rsa15: row.rsa15 === 1,
    rsnull: row.rsnull === 1,
    compromiseRule: row.compromise_rule,
    profile: row.profile,
    keyQuota: row.key_quota,
    createdMs: row.created_ms,
    revision: row.revision,
  };
}

export function credentialRow(of: Fresh<Credential>): Unsealed<'credential'> {
  return {
    issuer_key_hash: of.issuerKeyHash,
    serial: of.serial,
    vault_id: of.vaultId,
    subject: of.subject,
    identities: of.identities.length === 0 ? null : JSON.stringify(of.identities),
    not_after_ms: of.notAfterMs,
    created_ms: of.createdMs,
    revoked_ms: of.revokedMs,
  };
}

export function toCredential(row: CredentialTable): Credential {
  return {
    issuerKeyHash: row.issuer_key_hash,
    serial: row.serial,
    vaultId: row.vault_id,
    subject: row.subject,
    identities: row.identities === null ? [] : readList(row.identities),
    notAfterMs: row.not_after_ms,
    createdMs: row.created_ms,
    revokedMs: row.revoked_ms,
    revision: row.revision,
  };
}

export function assignmentRow(of: Fresh<Assignment>): Unsealed<'assignment'> {
  return {
    id: of.id,
    method: of.method,
    issuer: of.issuer,
    subject: of.subject,
    role: of.role,
    permissions: of.permissions === null ? null : JSON.stringify(of.permissions),
    vault_id: of.vaultId,
    key_id: of.keyId,
    created_ms: of.createdMs,
  };
}

export function toAssignment(row: AssignmentTable): Assignment {
  return {
    id: row.id,
    method: row.method,
    issuer: row.issuer,
    subject: row.subject,
    role: row.role,
    permissions: row.permissions === null ? null : (readList(row.permissions) as Permission[]),
    vaultId: row.vault_id,
    keyId: row.key_id,
    createdMs: row.created_ms,
    revision: row.revision,
  };
}

export function customRoleRow(of: Fresh<CustomRole>): Unsealed<'custom_role'> {
  return {
    id: of.id,
    name: of.name,
    slug: `${of.vaultId ?? ''}/${of.name.toLowerCase()}`,
    description: of.description,
    permissions: JSON.stringify(of.permissions),
    vault_id: of.vaultId,
    created_ms: of.createdMs,
  };
}

export function toCustomRole(row: CustomRoleTable): CustomRole {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    permissions: readList(row.permissions) as Permission[],
    vaultId: row.vault_id,
    createdMs: row.created_ms,
    revision: row.revision,
  };
}

export function tokenClientRow(of: Fresh<TokenClient>): Unsealed<'token_client'> {
  return { id: of.id, subject: of.subject, secret_hash: of.secretHash, created_ms: of.createdMs, revoked_ms: of.revokedMs };
}

export function toTokenClient(row: TokenClientTable): TokenClient {
  return {
    id: row.id,
    subject: row.subject,
    secretHash: row.secret_hash,
    createdMs: row.created_ms,
    revokedMs: row.revoked_ms,
    revision: row.revision,
  };
}
