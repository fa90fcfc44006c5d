/**
 * What every door is made of: a table of routes, each with a pure reader of the wire and a call into `keys`, and one
 * renderer of errors. Doors share no route and no wire type.
 */

import type { Call } from '../keys/access.ts';
import type { KmsError } from '../errors.ts';

/** A request after authentication, its body parsed and checked as JSON. */
export interface WireRequest {
  /** Path parameters, decoded once. */
  readonly params: Readonly<Record<string, string>>;
  /** The first value of each query parameter. */
  readonly query: Readonly<Record<string, string>>;
  /** Undefined when the request has no body. */
  readonly body: unknown;
}

export interface Reply {
  readonly status: number;
  /** Undefined for no body. */
  readonly body?: unknown;
}

/** The second half of a route: runs behind the gate. */
export type Action = (call: Call) => Promise<Reply>;

export interface Route {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT';
  /** Relative to the door's base path, in the router's notation. */
  readonly path: string;
  /** Name in metrics and log. */
  readonly operation: string;
  readonly hasBody: boolean;
  /** Reads the wire. Pure; throws KmsError `invalid-field` and its kin. */
  readonly read: (request: WireRequest) => Action;
}

export interface ErrorReply extends Reply {
  readonly headers: Readonly<Record<string, string>>;
}

export type ErrorRenderer = (error: KmsError, requestId: string) => ErrorReply;
