/** What the Key Vault document says of the routes of roles. */

import { z } from 'zod';
import type { RouteDescription } from '../door.ts';
import { assignmentBody, definitionBody, roleAssignment, roleAssignments, roleDefinition, roleDefinitions } from './role-wire.ts';
import { apiVersion } from './versions.ts';

export const ROLES = 'Roles';

const versioned = z.object({ 'api-version': apiVersion });
const filtered = versioned.extend({ $filter: z.string().optional().meta({ description: "`principalId eq 'X'`." }) });
const NOTES = 'In a managed HSM.';
const PRINCIPAL = `${NOTES} \`principalId\` is the subject of access tokens of the caller's issuer; \`group:\`, \`app-role:\`, \`certificate:\` and \`identity:\` in front name others.`;

function describe(operationId: string, summary: string, status: number, body: z.ZodType, more: Partial<RouteDescription> = {}): RouteDescription {
  return { operationId, tag: ROLES, summary, notes: NOTES, query: versioned, success: { status, text: 'Done.', body }, ...more };
}

const EXAMPLE = '21dbd100-6940-42c2-9190-5d6cb909625b';

export const listDefinitions = describe('listRoleDefinitions', 'List role definitions', 200, roleDefinitions, { query: filtered });
export const getDefinition = describe('getRoleDefinition', 'Get a role definition', 200, roleDefinition, { errors: [404] });
export const putDefinition = describe('putRoleDefinition', 'Make or change a custom role definition', 201, roleDefinition, {
  body: {
    schema: definitionBody, required: true,
    example: { properties: { roleName: 'Signer', permissions: [{ dataActions: ['Microsoft.KeyVault/managedHsm/keys/sign/action'] }] } },
  },
  errors: [409],
});
export const deleteDefinition = describe('deleteRoleDefinition', 'Remove a custom role definition that nobody has', 200, roleDefinition, { errors: [404, 409] });
export const listAssignments = describe('listRoleAssignments', 'List role assignments', 200, roleAssignments, { query: filtered });
export const getAssignment = describe('getRoleAssignment', 'Get a role assignment', 200, roleAssignment, { errors: [404] });
export const putAssignment = describe('putRoleAssignment', 'Give a role', 201, roleAssignment, {
  notes: PRINCIPAL,
  body: {
    schema: assignmentBody, required: true,
    example: { properties: { roleDefinitionId: `/providers/Microsoft.Authorization/roleDefinitions/${EXAMPLE}`, principalId: 'alice' } },
  },
  errors: [409],
});
export const deleteAssignment = describe('deleteRoleAssignment', 'Take a role away', 200, roleAssignment, { errors: [404] });
