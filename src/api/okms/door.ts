/** The OKMS door: its paths, and whose vault a request is for (okms-rest-api §1.1, design §9). */

import type { Context } from 'koa';
import type { Call, Gate } from '../../keys/access.ts';
import type { ClientIdentity } from '../client-identity.ts';
import type { Door } from '../door.ts';
import { assertOwnOrigin } from '../origins.ts';
import { requestIdOf } from '../pipeline.ts';
import { readUuid } from '../read.ts';
import { renderOkmsError } from './errors.ts';
import { okmsRoutes, type OkmsServices } from './routes.ts';

export interface OkmsDoorOptions {
  readonly gate: Gate;
  readonly identity: ClientIdentity;
  readonly services: OkmsServices;
}

export function okmsDoor({ gate, identity, services }: OkmsDoorOptions): Door {
  return {
    name: 'okms',
    bases: ['/v1', '/api/:okmsId/v1'],
    sensitive: true,
    routes: okmsRoutes(services),
    owns: (path) => /^\/(?:api\/[^/]+\/)?v1(?:\/|$)/.test(path),
    admit: (ctx) => admit(ctx, gate, identity),
    renderError: renderOkmsError,
  };
}

async function admit(ctx: Context, gate: Gate, identity: ClientIdentity): Promise<Call> {
  assertOwnOrigin(ctx);
  const principal = await identity.principal(ctx.req);
  ctx.state['principal'] = principal;
  const params = ctx['params'] as Readonly<Record<string, string>>;
  const okmsId = params['okmsId'] === undefined ? null : readUuid('okmsId', params['okmsId']);
  const vault = await gate.entrance.enter(principal, okmsId);
  return { principal, vault, requestId: requestIdOf(ctx), source: ctx.ip };
}
