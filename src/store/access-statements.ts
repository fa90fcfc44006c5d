/** Statements on the installation, vaults, credentials and assignments, common to every database. */

import type { Kysely } from 'kysely';
import type { Assignment, Credential, Installation, Vault } from '../keys/key.ts';
import * as rows from './access-rows.ts';
import type { Schema } from './schema.ts';
import type { KeyStore } from './store.ts';

type Db = Kysely<Schema>;
export type FirstRows = Parameters<KeyStore['createInstallation']>[0];

/** Two statements are one snapshot here: internal keys are written with the installation and never change. */
export async function findInstallation(db: Db): Promise<Installation | undefined> {
  const row = await db.selectFrom('installation').selectAll().executeTakeFirst();
  if (row === undefined) return undefined;
  const internalKeys = await db.selectFrom('internal_key').selectAll().orderBy('name').execute();
  return rows.toInstallation(row, internalKeys);
}

export async function insertInstallation(db: Db, first: FirstRows): Promise<void> {
  const { installation, vaults, credentials, assignments } = first;
  await db.insertInto('installation').values(rows.installationRow(installation)).execute();
  for (const key of installation.internalKeys) {
    await db.insertInto('internal_key').values(rows.internalKeyRow(key)).execute();
  }
  for (const [ordinal, vault] of vaults.entries()) {
    await db.insertInto('vault').values(rows.vaultRow(vault, ordinal)).execute();
  }
  for (const credential of credentials) {
    await db.insertInto('credential').values(rows.credentialRow(credential)).execute();
  }
  for (const assignment of assignments) {
    await db.insertInto('assignment').values(rows.assignmentRow(assignment)).execute();
  }
}

export async function listVaults(db: Db): Promise<Vault[]> {
  return (await db.selectFrom('vault').selectAll().orderBy('ordinal').execute()).map(rows.toVault);
}

export async function findCredential(db: Db, issuerKeyHash: string, serial: string): Promise<Credential | undefined> {
  const row = await db
    .selectFrom('credential')
    .selectAll()
    .where('issuer_key_hash', '=', issuerKeyHash)
    .where('serial', '=', serial)
    .executeTakeFirst();
  return row && rows.toCredential(row);
}

export async function findAssignments(
  db: Db,
  method: Assignment['method'],
  issuer: string,
  subject: string,
): Promise<Assignment[]> {
  const found = await db
    .selectFrom('assignment')
    .selectAll()
    .where('method', '=', method)
    .where('issuer', '=', issuer)
    .where('subject', '=', subject)
    .orderBy('created_ms')
    .orderBy('id')
    .execute();
  return found.map(rows.toAssignment);
}
