/** Origins as browsers know them: where the two HTTPS ports are found, and which pages may ask the API. */

import type { Context } from 'koa';
import { KmsError } from '../errors.ts';

/** Ports of this host; a proxy in front may show others, which only the Host header tells. */
export interface Ports {
  readonly api: number;
  readonly public: number;
}

export type PortName = keyof Ports;

/**
 * @param here the port that received the request: its origin is what the client used
 * @param wanted the port whose origin is asked for, on the host that the client used
 */
export function originOf(ctx: Context, here: PortName, wanted: PortName, ports: Ports): string {
  const used = /^(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?$/i.exec(ctx.host);
  const host = used?.[1] ?? 'localhost';
  const shown = wanted === here && used !== null ? (used[2] ?? '') : `:${ports[wanted]}`;
  return `https://${host}${shown === ':443' ? '' : shown}`;
}

/**
 * A browser sends its client certificate along with whatever any page asks of this origin, so the API answers only what
 * its own pages or no page at all asked. Clients other than browsers send neither header.
 * @throws KmsError `forbidden`
 */
export function assertOwnOrigin(ctx: Context): void {
  const site = ctx.get('sec-fetch-site');
  const origin = ctx.get('origin');
  const own = ['', 'same-origin', 'none'].includes(site) && ['', `https://${ctx.host}`].includes(origin);
  if (!own) throw new KmsError('forbidden', 'requests of pages from elsewhere are refused');
}
