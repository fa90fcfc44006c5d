/**
 * The OpenAPI 3.1 document of a door, made from its route table and from the schemas that its routes are checked with.
 * Pure; built once, as it takes some milliseconds.
 */

import { z } from 'zod';
import { createDocument, type ZodOpenApiObject, type ZodOpenApiOperationObject, type ZodOpenApiResponsesObject } from 'zod-openapi';
import type { Route, RouteDescription } from './door.ts';

export type OpenApi = ReturnType<typeof createDocument>;
type Servers = NonNullable<ZodOpenApiObject['servers']>;
type SecuritySchemes = NonNullable<NonNullable<ZodOpenApiObject['components']>['securitySchemes']>;

/** What a door says of itself as a whole. */
export interface DoorDescription {
  /** In paths: `/openapi/{name}.json`, `/swagger/{name}/`. */
  readonly name: string;
  readonly title: string;
  /** Markdown. */
  readonly text: string;
  readonly servers: readonly ServerDescription[];
  /** Groups of operations, in the order in which a page shows them. */
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  /** Schemas of path parameters by name. */
  readonly parameters: Readonly<Record<string, z.ZodType>>;
  readonly errorBody: z.ZodType;
  readonly security: Readonly<Record<string, SecurityScheme>>;
}

type SecurityScheme = { readonly type: 'mutualTLS'; readonly description: string } | {
  readonly type: 'http';
  readonly scheme: 'bearer';
  readonly description: string;
};

/** Paths from the origin of the API port on; variables in braces. */
export interface ServerDescription {
  readonly url: string;
  readonly description: string;
  readonly variables?: Readonly<Record<string, { readonly default: string; readonly description: string }>>;
}

/** @param version of this software */
export function openApiDocument(door: DoorDescription, routes: readonly Route[], version: string): OpenApi {
  const paths: Record<string, Record<string, ZodOpenApiOperationObject>> = {};
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(door, route) };
  }
  return createDocument({
    openapi: '3.1.1',
    info: { title: door.title, version, description: door.text },
    servers: structuredClone(door.servers) as Servers,
    security: Object.keys(door.security).map((scheme) => ({ [scheme]: [] })),
    tags: door.tags.map((tag) => ({ ...tag })),
    paths,
    // The types know no `mutualTLS`, which OpenAPI 3.1 added.
    components: { securitySchemes: { ...door.security } as SecuritySchemes },
  });
}

function operation(door: DoorDescription, { path, operation: name, description }: Route): ZodOpenApiOperationObject {
  const { tag, summary, notes, deprecated, query, body } = description;
  const parameters = Array.from(path.matchAll(/:(\w+)/g), ([, parameter = '']) => parameter);
  return {
    operationId: description.operationId ?? name,
    tags: [tag],
    summary,
    ...(notes === undefined ? {} : { description: notes }),
    ...(deprecated === undefined ? {} : { deprecated }),
    requestParams: {
      ...(parameters.length === 0 ? {} : { path: pathSchema(door, parameters) }),
      ...(query === undefined ? {} : { query }),
    },
    ...(body === undefined ? {} : {
      requestBody: { required: body.required, content: { [JSON_TYPE]: { schema: body.schema, example: body.example } } },
    }),
    responses: responses(door, description, parameters.length > 0),
  };
}

const JSON_TYPE = 'application/json';

function pathSchema({ name: door, parameters }: DoorDescription, names: readonly string[]): z.ZodObject {
  return z.object(Object.fromEntries(names.map((name) => {
    const schema = parameters[name];
    if (schema === undefined) throw new Error(`the door ${door} does not describe the path parameter ${name}`);
    return [name, schema];
  })));
}

const TEXTS: Readonly<Record<number, string>> = {
  400: 'The request cannot be served: what is wrong is said.',
  401: 'No credential, or one that does not hold.',
  403: 'The permission is missing, or the credential belongs elsewhere.',
  404: 'No such key.',
  409: 'The id is in use, or was.',
  413: 'The body is too large.',
  429: 'Too many requests.',
  500: 'A fault of this service; the request id leads to its log.',
  501: 'Not supported by this HSM, or by this release.',
  503: 'HSM, store or audit cannot be used at the moment.',
};

/** Any route may meet these. */
const EVERYWHERE = [400, 401, 403, 429, 500, 503];
const RETRY = [429, 503];

function responses(door: DoorDescription, description: RouteDescription, named: boolean): ZodOpenApiResponsesObject {
  const { success, body, errors = [] } = description;
  const statuses = [...EVERYWHERE, ...(named ? [404] : []), ...(body === undefined ? [] : [413]), ...errors];
  const described = [...new Set(statuses)].sort().map((status) => [status, {
    description: TEXTS[status] ?? 'Error.',
    ...(RETRY.includes(status) ? { headers: z.object({ 'Retry-After': z.int().meta({ description: 'Seconds.' }) }) } : {}),
    content: { [JSON_TYPE]: { schema: door.errorBody } },
  }]);
  return {
    [success.status]: {
      description: success.text,
      ...(success.body === undefined ? {} : { content: { [JSON_TYPE]: { schema: success.body } } }),
    },
    ...Object.fromEntries(described),
  } as ZodOpenApiResponsesObject;
}
