/**
 * One route as middleware: own origin → authenticate → vault → body → read → run. What is refused before the gate is reported to
 * the audit here; what passes it reports itself.
 */

import type { Context, Middleware } from 'koa';
import { asKmsError } from '../errors.ts';
import type { Call, Gate } from '../keys/access.ts';
import { readBody } from './body.ts';
import type { ClientIdentity } from './client-identity.ts';
import type { Action, Route } from './door.ts';
import { assertOwnOrigin } from './origins.ts';
import { readUuid } from './read.ts';

export interface PipelineOptions {
  readonly gate: Gate;
  readonly identity: ClientIdentity;
  readonly bodyLimit: number;
}

/** The route's steps, in order. */
export function pipeline(route: Route, options: PipelineOptions): readonly Middleware[] {
  const body = readBody(options.bodyLimit);
  const admit = admission(options);
  return [
    async (ctx) => {
      ctx.state['operation'] = route.operation;
      const { call, action } = await reportRefusals(ctx, options.gate, async () => {
        const admitted = await admit(ctx);
        if (route.description.body !== undefined) await body(ctx, () => Promise.resolve());
        return { call: admitted, action: readRoute(ctx, route) };
      });
      const reply = await action(call);
      ctx.status = reply.status;
      if (reply.body !== undefined) ctx.body = reply.body;
    },
  ];
}

function admission({ gate, identity }: PipelineOptions): (ctx: Context) => Promise<Call> {
  return async (ctx) => {
    assertOwnOrigin(ctx);
    const principal = await identity.principal(ctx.req);
    ctx.state['principal'] = principal;
    const params = ctx['params'] as Readonly<Record<string, string>>;
    const okmsId = params['okmsId'] === undefined ? null : readUuid('okmsId', params['okmsId']);
    const vault = await gate.enter(principal, okmsId);
    return { principal, vault, requestId: requestIdOf(ctx), source: ctx.ip };
  };
}

function readRoute(ctx: Context, route: Route): Action {
  const params = ctx['params'] as Readonly<Record<string, string>>;
  return route.read({ params, query: firstValues(ctx.query), body: ctx.state['body'] });
}

function firstValues(query: Context['query']): Readonly<Record<string, string>> {
  const entries = Object.entries(query).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as Record<string, string>;
}

export function requestIdOf(ctx: Context): string {
  return ctx.state['requestId'] as string;
}

/** @throws what `run` throws, once its record is on disk */
export async function reportRefusals<T>(ctx: Context, gate: Gate, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (thrown) {
    const error = asKmsError(thrown);
    await gate.refused({ source: ctx.ip, requestId: requestIdOf(ctx), reason: error.code });
    throw error;
  }
}
