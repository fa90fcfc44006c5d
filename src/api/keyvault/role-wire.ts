/** The wire form of role definitions and assignments (Managed HSM RBAC, api-version 7.4 and later). */

import { z } from 'zod';
import { BUILT_IN_ROLES, covers, findBuiltInRole, type Role } from '../../auth/roles.ts';
import { invalidField } from '../../errors.ts';
import type { Call } from '../../keys/access.ts';
import { issuerOf } from '../../auth/principal.ts';
import type { CustomRole, Holder, HolderMethod, Permission } from '../../keys/key.ts';
import type { Assigned, Definition } from '../../keys/role-management.ts';
import { ALL_PERMISSIONS, dataActions, readPermissions } from '../../keys/permission-names.ts';

export const PROVIDER = '/providers/Microsoft.Authorization';

const text = z.string().max(1024);
const actions = z.array(z.string().max(128)).max(128);

export const definitionBody = z.looseObject({
  properties: z.looseObject({
    roleName: z.string().min(1).max(128),
    description: text.nullish(),
    permissions: z.array(z.looseObject({ dataActions: actions.nullish(), actions: actions.nullish(), notDataActions: actions.nullish() })).max(16),
    assignableScopes: z.array(text).nullish(),
  }),
}).meta({ id: 'RoleDefinitionCreateParameters' });

export const assignmentBody = z.looseObject({
  properties: z.looseObject({
    roleDefinitionId: z.string().min(1).max(256),
    principalId: z.string().min(1).max(256),
  }),
}).meta({ id: 'RoleAssignmentCreateParameters' });

const permission = z.object({ actions: z.array(z.string()), notActions: z.array(z.string()), dataActions: z.array(z.string()), notDataActions: z.array(z.string()) });
export const roleDefinition = z.object({
  id: z.string(), name: z.string(), type: z.literal('Microsoft.Authorization/roleDefinitions'),
  properties: z.object({
    roleName: z.string(), description: z.string(), type: z.enum(['AKVBuiltInRole', 'CustomRole']),
    permissions: z.array(permission), assignableScopes: z.array(z.string()),
  }),
}).meta({ id: 'RoleDefinition' });
export const roleAssignment = z.object({
  id: z.string(), name: z.string(), type: z.literal('Microsoft.Authorization/roleAssignments'),
  properties: z.object({ scope: z.string(), roleDefinitionId: z.string(), principalId: z.string() }),
}).meta({ id: 'RoleAssignment' });
export const roleDefinitions = z.object({ value: z.array(roleDefinition) }).meta({ id: 'RoleDefinitionListResult' });
export const roleAssignments = z.object({ value: z.array(roleAssignment) }).meta({ id: 'RoleAssignmentListResult' });

type Shown<T extends z.ZodType> = z.infer<T>;

function toDefinition({ name, id, description, permissions, type }: {
  readonly id: string; readonly name: string; readonly description: string; readonly permissions: readonly Permission[];
  readonly type: 'AKVBuiltInRole' | 'CustomRole';
}): Shown<typeof roleDefinition> {
  return {
    id: `${PROVIDER}/roleDefinitions/${id}`, name: id, type: 'Microsoft.Authorization/roleDefinitions',
    properties: {
      roleName: name, description, type,
      permissions: [{ actions: [], notActions: [], dataActions: [...dataActions(permissions)], notDataActions: [] }],
      assignableScopes: ['/'],
    },
  };
}

/** Those of a managed HSM; the others are of vaults. */
const ASSIGNABLE: readonly (Role & { readonly id: string })[] = BUILT_IN_ROLES.flatMap((role) =>
  (role.id === null || !role.name.startsWith('Managed HSM') ? [] : [{ ...role, id: role.id }]));

export function builtInDefinitions(): readonly Shown<typeof roleDefinition>[] {
  return ASSIGNABLE.map(({ id, name, permissions }) => toDefinition({
    id, name, description: '', type: 'AKVBuiltInRole',
    permissions: ALL_PERMISSIONS.filter((one) => covers(permissions, one)),
  }));
}

export function customDefinition(role: CustomRole): Shown<typeof roleDefinition> {
  return toDefinition({ ...role, type: 'CustomRole' });
}

/** @throws KmsError `invalid-field` for what a role here cannot say */
export function readDefinition({ properties }: z.infer<typeof definitionBody>): Definition {
  const { roleName: name, description, permissions, assignableScopes } = properties;
  if (findBuiltInRole(name) !== undefined) throw invalidField('properties.roleName', 'this is the name of a built-in role');
  if ((assignableScopes ?? ['/']).some((scope) => scope !== '/')) throw invalidField('properties.assignableScopes', 'expected "/" alone');
  if (permissions.some((of) => (of.actions ?? []).length > 0 || (of.notDataActions ?? []).length > 0)) {
    throw invalidField('properties.permissions', 'expected dataActions alone');
  }
  return { name, description: description ?? '', permissions: readPermissions(permissions.flatMap((of) => of.dataActions ?? [])) };
}

/** @returns what an assignment stores @throws KmsError `invalid-field` for a role that is not of a managed HSM */
export function readRole(definitionId: string, custom: readonly CustomRole[]): string {
  const id = definitionId.split('/').at(-1)?.toLowerCase() ?? '';
  const role = ASSIGNABLE.find((one) => one.id === id)?.slug ?? custom.find((one) => one.id === id)?.id;
  if (role === undefined) throw invalidField('properties.roleDefinitionId', 'there is no such role definition');
  return role;
}

const METHODS: readonly HolderMethod[] = ['certificate', 'identity', 'token', 'group', 'app-role'];

/**
 * The subject of access tokens of the caller's issuer, or of our own; `group:` and its like in front name something else.
 * @throws KmsError `invalid-field`
 */
export function readPrincipal(principalId: string, { principal }: Call, installationId: string): Holder {
  const own = issuerOf(installationId);
  const method = METHODS.find((one) => principalId.startsWith(`${one}:`));
  const issuer = principal.method === 'token' ? principal.issuer : own;
  if (method === undefined) return { method: 'token', issuer, subject: principalId };
  const subject = principalId.slice(method.length + 1);
  if (subject === '') throw invalidField('properties.principalId', `expected a name after ${method}:`);
  return { method, issuer: method === 'certificate' || method === 'identity' ? own : issuer, subject };
}

export function principalIdOf({ method, subject }: Holder): string {
  return method === 'token' ? subject : `${method}:${subject}`;
}

export function toAssignment({ id, role, keyName, ...holder }: Assigned): Shown<typeof roleAssignment> {
  const scope = keyName === null ? '/' : `/keys/${keyName}`;
  return {
    id: `${scope === '/' ? '' : scope}${PROVIDER}/roleAssignments/${id}`, name: id, type: 'Microsoft.Authorization/roleAssignments',
    properties: { scope, roleDefinitionId: `${PROVIDER}/roleDefinitions/${ASSIGNABLE.find(({ slug }) => slug === role)?.id ?? role}`, principalId: principalIdOf(holder) },
  };
}
