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
import type { ErrorRenderer, Route } from './door.ts';
import { health, type Readiness } from './health.ts';
import { renderOauthError } from './oauth/errors.ts';
import { oauth } from './oauth/routes.ts';
import { renderOkmsError } from './okms/errors.ts';
import type { Ports } from './origins.ts';
import { pipeline, type PipelineOptions, reportRefusals, requestIdOf } from './pipeline.ts';

export interface ServerOptions extends PipelineOptions {
  readonly okms: readonly Route[];
  /** Of access tokens; null where there is none. */
  readonly issuer: SigningIssuer | null;
  readonly documents: readonly DoorDocument[];
  readonly ports: Ports;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly readiness: () => Readiness;
  /** True once the process drains: clients are told to leave. */
  readonly draining: () => boolean;
}

const OKMS_BASES = ['/v1', '/api/:okmsId/v1'];

export function apiServer(options: ServerOptions): Koa {
  const app = baseServer(options);
  app.use(documentation({ ...options, here: 'api', admit: visitor(options) }));
  app.use(oauth(options, renderErrors(renderOauthError, options.logger)));
  for (const base of OKMS_BASES) {
    const router = new Router({ prefix: base, sensitive: true });
    for (const route of options.okms) router.register(route.path, [route.method], [...pipeline(route, options)]);
    app.use(router.routes());
  }
  app.use((ctx) => reportRefusals(ctx, options.gate, () => Promise.reject(unknownRoute(ctx, options.okms))));
  return app;
}

export function publicServer(options: ServerOptions): Koa {
  const app = baseServer(options);
  app.use(documentation({ ...options, here: 'public', admit: () => Promise.resolve() }));
  app.use(() => Promise.reject(new KmsError('unknown-route', 'no such path')));
  return app;
}

/** Whoever has a certificate that we know. */
function visitor({ gate, identity }: PipelineOptions): (ctx: Context) => Promise<void> {
  return (ctx) => reportRefusals(ctx, gate, async () => {
    ctx.state['principal'] = await identity.principal(ctx.req);
  });
}

function baseServer(options: ServerOptions): Koa {
  const app = new Koa();
  app.silent = true;
  app.use(requestId);
  app.use(observe(options));
  app.use(renderErrors(renderOkmsError, options.logger));
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
function observe({ logger, metrics }: ServerOptions): Middleware {
  return async (ctx, next) => {
    const start = performance.now();
    await next();
    const seconds = (performance.now() - start) / 1000;
    const operation = (ctx.state['operation'] as string | undefined) ?? 'other';
    metrics.request('okms', operation, ctx.status, seconds);
    const { method, status, ip } = ctx;
    logger.info({ requestId: requestIdOf(ctx), method, operation, status, ip, ms: Math.round(seconds * 1e5) / 100 }, 'request');
  };
}

function renderErrors(render: ErrorRenderer, logger: Logger): Middleware {
  return async (ctx, next) => {
    try {
      await next();
    } catch (thrown) {
      const error = isClientError(thrown) ? new KmsError('malformed-request', 'malformed request') : asKmsError(thrown);
      if (error.code === 'internal') logger.error({ err: thrown, requestId: requestIdOf(ctx) }, 'internal error');
      if (error.code === 'store-unavailable') logger.warn({ err: thrown, requestId: requestIdOf(ctx) }, 'the store failed a request');
      const reply = render(error, requestIdOf(ctx));
      ctx.status = reply.status;
      ctx.set(reply.headers);
      ctx.body = reply.body;
    }
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

function unknownRoute(ctx: Context, routes: readonly Route[]): KmsError {
  const relative = ctx.path.replace(/^(?:\/api\/[^/]+)?\/v1(?=\/)/, '');
  const known = relative !== ctx.path && routes.some(({ path }) => sameShape(path, relative));
  if (known) return new KmsError('method-not-allowed', `the method ${ctx.method} is not defined for this path`);
  return new KmsError('unknown-route', 'no such path');
}

function sameShape(pattern: string, path: string): boolean {
  const wanted = pattern.split('/');
  const segments = path.split('/');
  return wanted.length === segments.length && wanted.every((part, i) => part.startsWith(':') || part === segments[i]);
}
