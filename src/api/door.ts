/**
 * What every door is made of: a table of routes, each with a pure reader of the wire and a call into `keys`, and one
 * renderer of errors. Doors share no route and no wire type.
 */

import type { Context } from 'koa';
import type { z } from 'zod';
import type { Call } from '../keys/access.ts';
import type { Permission } from '../keys/key.ts';
import type { KmsError } from '../errors.ts';

/** A request after authentication, its body parsed and checked as JSON. */
export interface WireRequest {
  /** Path parameters, decoded once. */
  readonly params: Readonly<Record<string, string>>;
  /** The first value of each query parameter. */
  readonly query: Readonly<Record<string, string>>;
  /** Undefined when the request has no body. */
  readonly body: unknown;
  /** That the client used, `https://host[:port]`: for identifiers that are addresses. */
  readonly origin: string;
}

export interface Reply {
  readonly status: number;
  /** Undefined for no body. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The second half of a route: runs behind the gate. */
export type Action = (call: Call) => Promise<Reply>;

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT';
  /** Relative to the door's base path, in the router's notation. */
  readonly path: string;
  /** Name in metrics and log. */
  readonly operation: string;
  /** All that the gate may be asked for on the way. It asks for nothing that is not declared here. */
  readonly permissions: readonly [Permission, ...Permission[]];
  /** What the door's OpenAPI document says of it. */
  readonly description: RouteDescription;
  /** Reads the wire. Pure; throws KmsError `invalid-field` and its kin. */
  readonly read: (request: WireRequest) => Action;
}

/** The wire of one route. The document is made of it, and the pipeline reads a body where it names one. */
export interface RouteDescription {
  /** The operation's name in the document; the route's own where it is absent. */
  readonly operationId?: string;
  readonly tag: string;
  readonly summary: string;
  /** Markdown. */
  readonly notes?: string;
  /** Served for older clients only. */
  readonly deprecated?: true;
  readonly query?: z.ZodObject;
  readonly body?: RequestBody;
  readonly success: { readonly status: number; readonly text: string; readonly body?: z.ZodType };
  /** Statuses of errors beyond those that follow from the kind of route. */
  readonly errors?: readonly number[];
}

export interface RequestBody {
  /** The very schema that the route's reader checks the body with. */
  readonly schema: z.ZodType;
  /** False where an absent body means an empty object. */
  readonly required: boolean;
  /** A body to begin with, valid as it is. */
  readonly example: Readonly<Record<string, unknown>>;
}

export interface ErrorReply extends Reply {
  readonly headers: Readonly<Record<string, string>>;
}

/** @param ctx of the request: doors differ in what of it their errors repeat */
export type ErrorRenderer = (error: KmsError, requestId: string, ctx: Context) => ErrorReply;

/** An API on the port that serves all of them. */
export interface Door {
  /** In metrics. */
  readonly name: string;
  /** Paths before its routes, in the router's notation; empty for none. */
  readonly bases: readonly string[];
  /** Whether upper and lower case in its paths differ. */
  readonly sensitive: boolean;
  readonly routes: readonly Route[];
  /** Whether a path is of this door, though perhaps of none of its routes. */
  readonly owns: (path: string) => boolean;
  /** Authenticates, and finds the vault. @throws KmsError `unauthenticated`, `forbidden`, `invalid-field` */
  readonly admit: (ctx: Context) => Promise<Call>;
  readonly renderError: ErrorRenderer;
  /** On every answer. */
  readonly decorate?: (ctx: Context) => void;
}
