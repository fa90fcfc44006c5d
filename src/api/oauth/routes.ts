/**
 * The door at which programs get access tokens of the built-in issuer, laid out as Entra ID's so that its clients find it
 * (design §9). Without such an issuer there is no door.
 */

import type { Context, Middleware } from 'koa';
import type { SigningIssuer } from '../../auth/issue-access-token.ts';
import { KmsError } from '../../errors.ts';
import type { Gate } from '../../keys/access.ts';
import { reportRefusals } from '../pipeline.ts';
import { keySetOf, metadataOf, PATHS } from './discovery.ts';
import { answerToken } from './token.ts';

export interface OauthOptions {
  readonly gate: Gate;
  readonly issuer: SigningIssuer | null;
}

interface OauthRoute {
  readonly methods: readonly string[];
  /** Name in metrics and log. */
  readonly operation: string;
  readonly answer: (ctx: Context) => void | Promise<void>;
}

/** @param rendering turns errors into answers of this door */
export function oauth({ gate, issuer }: OauthOptions, rendering: Middleware): Middleware {
  const routes = issuer === null ? new Map<string, OauthRoute>() : routesOf(gate, issuer);
  return async (ctx, next) => {
    const route = routes.get(ctx.path);
    if (route === undefined) await next();
    else await rendering(ctx, () => run(ctx, gate, route));
  };
}

function routesOf(gate: Gate, issuer: SigningIssuer): ReadonlyMap<string, OauthRoute> {
  const document = (operation: string, body: object): OauthRoute => ({ methods: ['GET', 'HEAD'], operation, answer: (ctx) => { ctx.body = body; } });
  const at = (path: string): string => `/${issuer.tenant}${path}`;
  return new Map([
    [at(PATHS.token), { methods: ['POST'], operation: 'token.issue', answer: (ctx) => answerToken(ctx, gate, issuer) }],
    [at(PATHS.metadata), document('token.metadata', metadataOf(issuer))],
    [at(PATHS.keys), document('token.keys', keySetOf(issuer))],
  ]);
}

async function run(ctx: Context, gate: Gate, { methods, operation, answer }: OauthRoute): Promise<void> {
  ctx.state['operation'] = operation;
  if (methods.includes(ctx.method)) return answer(ctx);
  ctx.set('Allow', methods.join(', '));
  return reportRefusals(ctx, gate, () => Promise.reject(new KmsError('method-not-allowed', `the method ${ctx.method} is not defined for this path`)));
}
