/** Liveness and readiness, on both ports. Readings are handed in by `app.ts`; nothing here is secret. */

import type { Context, Middleware } from 'koa';

export interface Readiness {
  readonly ready: boolean;
  readonly kind: 'dev' | 'prod';
  /** One line per part: `ok`, or what is wrong with it. */
  readonly checks: Readonly<Record<string, string>>;
}

export function health(readiness: () => Readiness): Middleware {
  return async (ctx, next) => {
    const reads = ctx.method === 'GET' || ctx.method === 'HEAD';
    if (reads && ctx.path === '/healthz') ctx.body = { status: 'ok' };
    else if (reads && ctx.path === '/readyz') answerReadiness(ctx, readiness());
    else await next();
  };
}

function answerReadiness(ctx: Context, { ready, kind, checks }: Readiness): void {
  ctx.status = ready ? 200 : 503;
  if (!ready) ctx.set('Retry-After', '2');
  ctx.body = { status: ready ? 'ready' : 'not-ready', kind, checks };
}
