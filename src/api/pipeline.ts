/**
 * One route as middleware: admit → body → read → run. What is refused before the gate is reported to the audit here; what
 * passes it reports itself.
 */

import type { Context, Middleware } from 'koa';
import { asKmsError } from '../errors.ts';
import type { Gate } from '../keys/access.ts';
import { readBody } from './body.ts';
import type { Action, Door, Route } from './door.ts';
import { originOf, type Ports } from './origins.ts';

export interface PipelineOptions {
  readonly gate: Gate;
  readonly bodyLimit: number;
  readonly ports: Ports;
}

/** The route's steps, in order. */
export function pipeline(route: Route, { admit }: Pick<Door, 'admit'>, options: PipelineOptions): readonly Middleware[] {
  const body = readBody(options.bodyLimit);
  return [
    async (ctx) => {
      ctx.state['operation'] = route.operation;
      const { call, action } = await reportRefusals(ctx, options.gate, async () => {
        const admitted = await admit(ctx);
        if (route.description.body !== undefined) await body(ctx, () => Promise.resolve());
        return { call: { ...admitted, declared: route.permissions }, action: readRoute(ctx, route, options.ports) };
      });
      const reply = await action(call);
      ctx.status = reply.status;
      if (reply.headers !== undefined) ctx.set(reply.headers);
      if (reply.body !== undefined) ctx.body = reply.body;
    },
  ];
}

function readRoute(ctx: Context, route: Route, ports: Ports): Action {
  const params = ctx['params'] as Readonly<Record<string, string>>;
  const origin = originOf(ctx, 'api', 'api', ports);
  return route.read({ params, query: firstValues(ctx.query), body: ctx.state['body'], origin });
}

export function firstValues(query: Context['query']): Readonly<Record<string, string>> {
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
    await gate.refused({ source: ctx.ip, requestId: requestIdOf(ctx), reason: error.code, ...(error.rule !== undefined && { detail: { rule: error.rule } }) });
    throw error;
  }
}
