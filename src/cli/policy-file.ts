/**
 * Policy files, YAML: all roles of the operator's own and all assignments of an installation, declared. Reading one gives the
 * difference to what is there.
 */

import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'yaml';
import { z } from 'zod';
import { invalidField } from '../errors.ts';
import type { Assignment, CustomRole } from '../keys/key.ts';
import { readAccessPolicy, readPermissions } from '../keys/permission-names.ts';
import type { PolicyChange } from '../store/store.ts';
import { type HolderContext, type HolderNames, holderOf } from './holders.ts';
import { customRole, keyIn, type Policy } from './role-commands.ts';
import { assertOwned, knownRole, vaultNamed } from './roles.ts';
import type { Session } from './session.ts';

const text = z.string().min(1).max(256);
const holder = {
  token: text.optional(), certificate: text.optional(), identity: text.optional(), group: text.optional(), appRole: text.optional(),
  issuer: text.optional(),
};

const schema = z.strictObject({
  roles: z.array(z.strictObject({ name: text, description: z.string().max(1024).default(''), permissions: z.array(text).min(1) })).default([]),
  assignments: z.array(z.strictObject({
    ...holder,
    role: text,
    /** Name of a vault, or `*` for every one. */
    vault: text,
    /** Name or id. */
    key: text.optional(),
  })).default([]),
  /** Those of Key Vault: permissions by name for everything in a vault. */
  accessPolicies: z.array(z.strictObject({ ...holder, vault: text, keys: z.array(text).min(1) })).default([]),
});

export type PolicyFile = z.infer<typeof schema>;

/** What stands for permissions that an assignment names itself. */
export const ACCESS_POLICY = 'access-policy';

/** @throws KmsError `invalid-field` naming the member and what was expected */
export function readPolicyFile(content: string): PolicyFile {
  let tree: unknown;
  try {
    tree = parse(content);
  } catch (error) {
    throw invalidField('FILE', `expected YAML: ${(error as Error).message}`);
  }
  const read = schema.safeParse(tree ?? {});
  if (!read.success) throw invalidField('FILE', z.prettifyError(read.error));
  return read.data;
}

type Place = Pick<Session, 'store'> & HolderContext;
type Wanted = Omit<Assignment, 'revision'>;

/** @throws KmsError `invalid-field`, `not-found`; `conflict` when nobody would be owner of every vault any more */
export async function policyChange(file: PolicyFile, now: Policy, place: Place): Promise<Required<PolicyChange>> {
  const wantedRoles = file.roles.map(({ name, description, permissions }) => customRole(name, description, readPermissions(permissions), now.custom));
  const known = [...wantedRoles.map((role) => ({ ...role, revision: 0 })), ...now.custom.filter(({ vaultId }) => vaultId !== null)];
  const wanted: Wanted[] = [];
  for (const { role, vault, key, ...names } of file.assignments) {
    wanted.push(await assignmentOf(place, names, (vaultId) => knownRole(role, known, vaultId), vault, key));
  }
  for (const { keys, vault, ...names } of file.accessPolicies) {
    wanted.push({ ...(await assignmentOf(place, names, () => ACCESS_POLICY, vault, undefined)), permissions: readAccessPolicy(keys) });
  }
  assertOwned(wanted);
  return {
    define: wantedRoles.filter((role) => !now.custom.some((own) => sameRole(own, role))),
    assign: wanted.filter((one) => !now.assignments.some((other) => sameAssignment(one, other))),
    withdraw: now.assignments.filter((one) => !wanted.some((other) => sameAssignment(one, other))).map(({ id }) => id),
    // Those that a managed HSM defined are its own.
    forget: now.custom.filter(({ id, vaultId }) => vaultId === null && !wantedRoles.some((role) => role.id === id)).map(({ id }) => id),
  };
}

async function assignmentOf(
  place: Place,
  names: HolderNames,
  roleIn: (vaultId: string | null) => string,
  vault: string,
  key: string | undefined,
): Promise<Wanted> {
  const vaultId = vault === '*' ? null : (await vaultNamed(place, vault)).id;
  if (vaultId === null && key !== undefined) throw invalidField('key', 'expected none with vault: "*"');
  const keyId = vaultId === null || key === undefined ? null : await keyIn(place, vaultId, key);
  return { id: randomUUID(), ...holderOf(names, place), role: roleIn(vaultId), permissions: null, vaultId, keyId, createdMs: Date.now() };
}

function sameRole(left: Omit<CustomRole, 'revision'>, right: Omit<CustomRole, 'revision'>): boolean {
  const facts = ({ name, description, permissions }: Omit<CustomRole, 'revision'>): unknown => [name, description, permissions];
  return isDeepStrictEqual(facts(left), facts(right));
}

function sameAssignment(left: Wanted, right: Wanted): boolean {
  const facts = ({ method, issuer, subject, role, permissions, vaultId, keyId }: Wanted): unknown =>
    [method, issuer, subject, role, permissions, vaultId, keyId];
  return isDeepStrictEqual(facts(left), facts(right));
}
