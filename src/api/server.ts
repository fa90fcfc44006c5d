/**
 * The Koa applications of the two HTTPS ports: the middleware order on one screen. The API port serves the doors, both
 * serve health and the documents.
 */

import { randomUUID } from 'node:crypto';
import Router from '@koa/router';
import Koa, { type Context, type Middleware } from 'koa';
import type { SigningIssuer } from '../auth/issue-access-token.ts';
import { asKmsError, KmsError } from '../errors.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { documentation, type DoorDocument } from './documentation.ts';
import type { Door, Route } from './door.ts';
import type { ClientIdentity } from './client-identity.ts';
import { health, type Readiness } from './health.ts';
import { renderOauthError } from './oauth/errors.ts';
import { oauth } from './oauth/routes.ts';
import { pipeline, type PipelineOptions, reportRefusals, requestIdOf } from './pipeline.ts';

export interface ServerOptions extends PipelineOptions {
  /** The first is asked about what belongs to none. */
  readonly doors: readonly [Door, ...Door[]];
  readonly identity: ClientIdentity;
  /** Of access tokens; null where there is none. */
  readonly issuer: SigningIssuer | null;
  readonly documents: readonly DoorDocument[];
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly readiness: () => Readiness;
  /** True once the process drains: clients are told to leave. */
  readonly draining: () => boolean;
}

export function apiServer(options: ServerOptions): Koa {
  const app = baseServer(options);
  app.use(documentation({ ...options, here: 'api', admit: visitor(options) }));
  app.use(oauth(options, renderErrors(() => ({ renderError: renderOauthError }), options.logger)));
  for (const door of options.doors) mount(app, door, options);
  app.use((ctx) => reportRefusals(ctx, options.gate, () => Promise.reject(unknownRoute(ctx, doorOf(ctx, options)))));
  return app;
}

function mount(app: Koa, door: Door, options: ServerOptions): void {
  const { bases, sensitive, routes } = door;
  for (const base of bases) {
    const router = new Router({ ...(base !== '' && { prefix: base }), sensitive });
    for (const route of routes) router.register(route.path, [route.method], [...pipeline(route, door, options)], { sensitive });
    app.use(router.routes());
  }
}

function doorOf({ path }: Pick<Context, 'path'>, { doors }: Pick<ServerOptions, 'doors'>): Door {
  return doors.find(({ owns }) => owns(path)) ?? doors[0];
}

export function publicServer(options: ServerOptions): Koa {
  const app = baseServer(options);
  app.use(documentation({ ...options, here: 'public', admit: () => Promise.resolve() }));
  app.use(() => Promise.reject(new KmsError('unknown-route', 'no such path')));
  return app;
}

/** Whoever has a certificate that we know. */
function visitor({ gate, identity }: ServerOptions): (ctx: Context) => Promise<void> {
  return (ctx) => reportRefusals(ctx, gate, async () => {
    ctx.state['principal'] = await identity.principal(ctx.req);
  });
}

function baseServer(options: ServerOptions): Koa {
  const app = new Koa();
  app.silent = true;
  app.use(requestId);
  app.use(observe(options));
  app.use(renderErrors((ctx) => doorOf(ctx, options), options.logger));
  app.use(securityHeaders(options.draining));
  app.use(health(options.readiness));
  app.use(boundedHeaders);
  app.use(normalPath);
  return app;
}

const PRINTABLE = /^[\x21-\x7e]{1,64}$/;

/** The caller's id is taken over when it is short and printable, for its logs and ours to agree. */
const requestId: Middleware = async (ctx, next) => {
  const given = ctx.get('x-request-id');
  const id = PRINTABLE.test(given) ? given : randomUUID();
  ctx.state['requestId'] = id;
  ctx.set('X-Request-Id', id);
  await next();
};

/** One log line and one measurement per request, after the reply is known. */
function observe(options: ServerOptions): Middleware {
  const { logger, metrics } = options;
  return async (ctx, next) => {
    const start = performance.now();
    await next();
    const seconds = (performance.now() - start) / 1000;
    const operation = (ctx.state['operation'] as string | undefined) ?? 'other';
    metrics.request(doorOf(ctx, options).name, operation, ctx.status, seconds);
    const { method, status, ip } = ctx;
    logger.info({ requestId: requestIdOf(ctx), method, operation, status, ip, ms: Math.round(seconds * 1e5) / 100 }, 'request');
  };
}

function renderErrors(doorOfRequest: (ctx: Context) => Pick<Door, 'renderError' | 'decorate'>, logger: Logger): Middleware {
  return async (ctx, next) => {
    const { renderError, decorate } = doorOfRequest(ctx);
    try {
      await next();
    } catch (thrown) {
      const error = isClientError(thrown) ? new KmsError('malformed-request', 'malformed request') : asKmsError(thrown);
      if (error.code === 'internal') logger.error({ err: thrown, requestId: requestIdOf(ctx) }, 'internal error');
      if (error.code === 'store-unavailable') logger.warn({ err: thrown, requestId: requestIdOf(ctx) }, 'the store failed a request');
      const reply = renderError(error, requestIdOf(ctx), ctx);
      ctx.status = reply.status;
      ctx.set(reply.headers);
      ctx.body = reply.body;
    }
    decorate?.(ctx);
  };
}

/** Koa and its libraries mark what the client got wrong with a 4xx status. */
function isClientError(thrown: unknown): boolean {
  const { status } = thrown as { status?: unknown };
  return !(thrown instanceof KmsError) && typeof status === 'number' && status >= 400 && status < 500;
}

function securityHeaders(draining: () => boolean): Middleware {
  return async (ctx, next) => {
    ctx.set('Cache-Control', 'no-store');
    ctx.set('X-Content-Type-Options', 'nosniff');
    ctx.set('Strict-Transport-Security', 'max-age=31536000');
    if (draining()) ctx.set('Connection', 'close');
    await next();
  };
}

const HEADERS_MAX = 100;

/** Counted here: Node drops what is above its own count without a word, and with it what this server refuses. */
const boundedHeaders: Middleware = async (ctx, next) => {
  if (ctx.req.rawHeaders.length / 2 > HEADERS_MAX) {
    throw new KmsError('malformed-request', `more than ${HEADERS_MAX} header lines`);
  }
  await next();
};

/** Encoded separators, dots and NUL have no place in a path of ours; doubled and trailing slashes are tolerated. */
const normalPath: Middleware = async (ctx, next) => {
  if (/%(?:2f|5c|00|2e)|\\|\/\.\.?(?:\/|$)/i.test(ctx.path)) {
    throw new KmsError('malformed-request', 'the path is not acceptable');
  }
  ctx.path = ctx.path.replace(/\/{2,}/g, '/').replace(/(?<=.)\/$/, '');
  await next();
};

function unknownRoute({ path, method }: Context, { bases, routes, sensitive }: Door): KmsError {
  const given = sensitive ? path : path.toLowerCase();
  const shape = (route: Route, base: string): string => `${base}${sensitive ? route.path : route.path.toLowerCase()}`;
  const known = bases.some((base) => routes.some((route) => sameShape(shape(route, base), given)));
  if (known) return new KmsError('method-not-allowed', `the method ${method} is not defined for this path`);
  return new KmsError('unknown-route', 'no such path');
}

function sameShape(pattern: string, path: string): boolean {
  const wanted = pattern.split('/');
  const segments = path.split('/');
  return wanted.length === segments.length && wanted.every((part, i) => part.startsWith(':') || part === segments[i]);
}
