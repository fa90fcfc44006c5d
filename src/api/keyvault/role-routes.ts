/** Routes of role definitions and assignments, in a managed HSM (azure-keyvault-keys-api §6.3): read the wire, one call, render the wire. */

import { KmsError } from '../../errors.ts';
import type { Call } from '../../keys/access.ts';
import type { Permission } from '../../keys/key.ts';
import type { RoleManagement } from '../../keys/role-management.ts';
import type { Reply, Route, RouteDescription, WireRequest } from '../door.ts';
import { readBodyAs, readUuid } from '../read.ts';
import * as describe from './role-descriptions.ts';
import {
  assignmentBody, builtInDefinitions, customDefinition, definitionBody, principalIdOf, PROVIDER, readDefinition, readPrincipal, readRole, toAssignment,
} from './role-wire.ts';

export interface RoleServices {
  readonly roles: RoleManagement;
  /** Names our own issuer. */
  readonly installationId: string;
}

/** All keys, in both spellings, and one. */
const SCOPES = ['', '/keys', '/keys/:name'] as const;

type Run = (call: Call, request: WireRequest, id: string) => Promise<Reply>;

export function roleRoutes({ roles, installationId }: RoleServices): readonly Route[] {
  const routes = (method: Route['method'], path: string, permission: Permission, description: RouteDescription, run: Run): readonly Route[] =>
    SCOPES.map((scope) => ({
      method, path: `${scope}${PROVIDER}/${path}`, operation: description.operationId ?? '', permissions: [permission],
      description: { ...description, operationId: `${description.operationId ?? ''}${SUFFIXES[scope]}` },
      read: (request: WireRequest) => {
        const id = path.endsWith(':id') ? readUuid('name', request.params['id']) : '';
        return (call: Call) => run(call, request, id);
      },
    }));
  return [
    ...routes('GET', 'roleDefinitions', 'role/definition/get', describe.listDefinitions, async (call) =>
      ok({ value: [...builtInDefinitions(), ...(await roles.definitions(call)).map(customDefinition)] })),
    ...routes('GET', 'roleDefinitions/:id', 'role/definition/get', describe.getDefinition, async (call, _request, id) =>
      ok(found([...builtInDefinitions(), ...(await roles.definitions(call)).map(customDefinition)], id))),
    ...routes('PUT', 'roleDefinitions/:id', 'role/definition/update', describe.putDefinition, async (call, { body }, id) =>
      created(customDefinition(await roles.define(call, id, () => readDefinition(readBodyAs(definitionBody, body)))))),
    ...routes('DELETE', 'roleDefinitions/:id', 'role/definition/delete', describe.deleteDefinition, async (call, _request, id) =>
      ok(customDefinition(await roles.forget(call, id)))),
    ...routes('GET', 'roleAssignments', 'role/assignment/get', describe.listAssignments, async (call, { params, query }) =>
      ok({ value: (await roles.assignments(call)).filter(filterOf(query['$filter'], params['name'])).map(toAssignment) })),
    ...routes('GET', 'roleAssignments/:id', 'role/assignment/get', describe.getAssignment, async (call, _request, id) =>
      ok(found((await roles.assignments(call)).map(toAssignment), id))),
    ...routes('PUT', 'roleAssignments/:id', 'role/assignment/create', describe.putAssignment, async (call, { body, params }, id) =>
      created(toAssignment(await roles.assign(call, id, (custom) => {
        const { roleDefinitionId, principalId } = readBodyAs(assignmentBody, body).properties;
        return { ...readPrincipal(principalId, call, installationId), role: readRole(roleDefinitionId, custom), keyName: params['name'] ?? null };
      })))),
    ...routes('DELETE', 'roleAssignments/:id', 'role/assignment/delete', describe.deleteAssignment, async (call, _request, id) =>
      ok(toAssignment(await roles.withdraw(call, id)))),
  ];
}

const SUFFIXES: Readonly<Record<(typeof SCOPES)[number], string>> = { '': '', '/keys': 'OfKeys', '/keys/:name': 'OfKey' };

function ok(body: object): Reply {
  return { status: 200, body };
}

function created(body: object): Reply {
  return { status: 201, body };
}

/** @throws KmsError `not-found` */
function found<T extends { readonly name: string }>(list: readonly T[], id: string): T {
  const one = list.find(({ name }) => name === id);
  if (one === undefined) throw new KmsError('not-found', 'no such role definition or assignment');
  return one;
}

/** `principalId eq 'X'`; any other filter is about scopes, which the path says. */
function filterOf(filter: string | undefined, key: string | undefined) {
  const [, principal] = /^principalId eq '(.+)'$/.exec(filter ?? '') ?? [];
  return (of: Parameters<typeof toAssignment>[0]): boolean =>
    (principal === undefined || principalIdOf(of) === principal) && (key === undefined || of.keyName?.toLowerCase() === key.toLowerCase());
}
