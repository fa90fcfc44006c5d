/**
 * The Key Vault door: whose vault a request is for, who asks, and by which version of the API (azure-keyvault-keys-api §0,
 * §3). A client's first request comes without token and body, to be told where to get one.
 */

import type { Context } from 'koa';
import { invalidField, KmsError } from '../../errors.ts';
import type { Call, Gate } from '../../keys/access.ts';
import type { Vault } from '../../keys/key.ts';
import type { ClientIdentity } from '../client-identity.ts';
import type { Door } from '../door.ts';
import { assertOwnOrigin } from '../origins.ts';
import { firstValues, requestIdOf } from '../pipeline.ts';
import { renderKeyVaultError } from './errors.ts';
import { keyVaultRoutes, type KeyVaultServices } from './routes.ts';
import { API_VERSIONS, NEWEST } from './versions.ts';

export interface KeyVaultDoorOptions {
  readonly gate: Gate;
  readonly identity: ClientIdentity;
  readonly services: KeyVaultServices;
  /** Where tokens are had: the address that the challenge names, and the audience that they must have. */
  readonly authority: string;
  readonly resource: string;
  /** Shown as the region. */
  readonly region: string;
  /** Of this software, four numbers. */
  readonly serviceVersion: string;
}

export function keyVaultDoor(options: KeyVaultDoorOptions): Door {
  const { region, serviceVersion } = options;
  return {
    name: 'keyvault',
    bases: [''],
    sensitive: false,
    routes: keyVaultRoutes(options.services),
    owns: (path) => /^\/(?:keys|deletedkeys|rng|providers)(?:\/|$)/i.test(path),
    admit: (ctx) => admit(ctx, options),
    renderError: renderKeyVaultError,
    decorate: (ctx) => { decorate(ctx, region, serviceVersion); },
  };
}

async function admit(ctx: Context, options: KeyVaultDoorOptions): Promise<Call> {
  const { gate, identity, authority, resource } = options;
  assertOwnOrigin(ctx);
  ctx.state['challenge'] = `Bearer authorization="${authority}", resource="${resource}"`;
  const named = await gate.entrance.vaultOfHost(ctx.hostname);
  ctx.state['vault'] = named;
  const principal = await identity.principal(ctx.req);
  ctx.state['principal'] = principal;
  const vault: Vault = await gate.entrance.enterHost(principal, ctx.hostname);
  assertVersion(ctx);
  assertNames(ctx);
  return { principal, vault, requestId: requestIdOf(ctx), source: ctx.ip };
}

/** The name of the parameter may come percent-encoded, which the parser of queries undoes. @throws KmsError `invalid-field` */
function assertVersion(ctx: Context): void {
  const given = firstValues(ctx.query)['api-version'];
  if (given === undefined) throw invalidField('api-version', `required; the newest supported is ${NEWEST}`);
  if (API_VERSIONS.some((version) => version === given)) return;
  throw invalidField('api-version', `the version ${JSON.stringify(given.slice(0, 32))} is not supported; the newest supported is ${NEWEST}`);
}

const NAME = /^[0-9a-zA-Z-]{1,127}$/;

/** @throws KmsError `invalid-field` for a name that no key has; `not-found` for such a version */
function assertNames(ctx: Context): void {
  const { name, version } = ctx['params'] as Readonly<Record<string, string>>;
  if (name !== undefined && !NAME.test(name)) {
    throw invalidField('name', 'invalid name in the request URI: expected 1 to 127 letters, digits and dashes');
  }
  if (version !== undefined && !/^[0-9a-f]{32}$/i.test(version)) throw new KmsError('not-found', 'no such version');
}

/** Headers of the real service that clients or people look at (azure-keyvault-keys-api §0.6). */
function decorate(ctx: Context, region: string, serviceVersion: string): void {
  ctx.set('Cache-Control', 'no-cache');
  ctx.set('Pragma', 'no-cache');
  ctx.set('Expires', '-1');
  ctx.set('x-ms-request-id', requestIdOf(ctx));
  ctx.set('x-ms-keyvault-region', region);
  ctx.set('x-ms-keyvault-service-version', serviceVersion);
  const clientId = ctx.get('x-ms-client-request-id');
  if (/^[\x21-\x7e]{1,64}$/.test(clientId)) ctx.set('x-ms-client-request-id', clientId);
}
