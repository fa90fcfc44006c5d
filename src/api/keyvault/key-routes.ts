/** Routes of the life of a key (azure-keyvault-keys-api §1, 1 to 13): read the wire, one call, render the wire. */

import { invalidField } from '../../errors.ts';
import type { Call } from '../../keys/access.ts';
import type { KeyLifecycle } from '../../keys/lifecycle.ts';
import type { NamedKeys, Versioned } from '../../keys/named-keys.ts';
import type { Listing, PageTokens } from '../../keys/page-token.ts';
import { versionOf } from '../../keys/state.ts';
import type { Action, Reply, Route, WireRequest } from '../door.ts';
import { readBodyAs, readInteger } from '../read.ts';
import { bundle, keyItem, type Place, versionItem } from './bundle.ts';
import * as describe from './descriptions.ts';
import { addressOf } from './path.ts';
import { createBody, importBody, updateBody } from './schema.ts';
import { toNamedImport, toNamedSpec, toPatch } from './wire.ts';

export interface KeyServices {
  readonly named: NamedKeys;
  readonly lifecycle: Pick<KeyLifecycle, 'rotate'>;
  readonly pages: PageTokens;
  /** Of the HSM's profile. */
  readonly hsmPlatform: string;
}

export function keyRoutes(services: KeyServices): readonly Route[] {
  const { named, lifecycle, hsmPlatform } = services;
  const reply = ({ origin }: WireRequest, run: (call: Call) => Promise<Versioned>): Action => async (call) => {
    const shown = await run(call);
    return { status: 200, body: bundle(shown, { origin, vault: call.vault, hsmPlatform }) };
  };
  const get = (request: WireRequest): Action => {
    const { name, versionId } = addressOf(request);
    return reply(request, (call) => named.get(call, name, versionId));
  };
  const update = (request: WireRequest): Action => {
    const { name, versionId } = addressOf(request);
    return reply(request, (call) => named.update(call, name, versionId, (kind) => toPatch(readBodyAs(updateBody, request.body), kind)));
  };
  const create = (request: WireRequest): Action => reply(request, (call) =>
    named.create(call, addressOf(request).name, () => toNamedSpec(readBodyAs(createBody, request.body), call.vault)));
  const importKey = (request: WireRequest): Action => reply(request, (call) =>
    named.import(call, addressOf(request).name, () => toNamedImport(readBodyAs(importBody, request.body), call.vault)));
  const rotate = (request: WireRequest): Action => reply(request, async (call) => {
    const key = await lifecycle.rotate(call, { name: addressOf(request).name });
    return { key, version: versionOf(key, null) };
  });
  const onName = (of: (call: Call, name: string) => Promise<Versioned>) => (request: WireRequest): Action =>
    reply(request, (call) => of(call, addressOf(request).name));
  return [
    { method: 'GET', path: '/keys', operation: 'getKeys', permissions: ['key/list'], description: describe.getKeys, read: listing(services, false) },
    { method: 'GET', path: '/keys/:name/versions', operation: 'getKeyVersions', permissions: ['key/list'], description: describe.getKeyVersions, read: versions(services) },
    { method: 'GET', path: '/keys/:name', operation: 'getKey', permissions: ['key/get'], description: describe.getKey, read: get },
    { method: 'GET', path: '/keys/:name/:version', operation: 'getKeyVersion', permissions: ['key/get'], description: describe.getKey, read: get },
    { method: 'PUT', path: '/keys/:name', operation: 'importKey', permissions: ['key/import'], description: describe.importKey, read: importKey },
    { method: 'PATCH', path: '/keys/:name', operation: 'updateKey', permissions: ['key/update'], description: describe.updateKey, read: update },
    { method: 'PATCH', path: '/keys/:name/:version', operation: 'updateKeyVersion', permissions: ['key/update'], description: describe.updateKey, read: update },
    { method: 'DELETE', path: '/keys/:name', operation: 'deleteKey', permissions: ['key/delete'], description: describe.deleteKey, read: onName((call, name) => named.delete(call, name)) },
    { method: 'POST', path: '/keys/:name/create', operation: 'createKey', permissions: ['key/create'], description: describe.createKey, read: create },
    { method: 'POST', path: '/keys/:name/rotate', operation: 'rotateKey', permissions: ['key/rotate'], description: describe.rotateKey, read: rotate },
    { method: 'GET', path: '/deletedkeys', operation: 'getDeletedKeys', permissions: ['key/deleted/list'], description: describe.getDeletedKeys, read: listing(services, true) },
    { method: 'GET', path: '/deletedkeys/:name', operation: 'getDeletedKey', permissions: ['key/deleted/get'], description: describe.getDeletedKey, read: onName((call, name) => named.getDeleted(call, name)) },
    { method: 'POST', path: '/deletedkeys/:name/recover', operation: 'recoverDeletedKey', permissions: ['key/recover'], description: describe.recoverDeletedKey, read: onName((call, name) => named.recover(call, name)) },
    { method: 'DELETE', path: '/deletedkeys/:name', operation: 'purgeDeletedKey', permissions: ['key/purge'], description: describe.purgeDeletedKey, read: purge(named) },
  ];
}

function purge(named: NamedKeys) {
  return (request: WireRequest): Action => async (call) => {
    await named.purge(call, addressOf(request).name);
    return { status: 204 };
  };
}

const PAGE_MAX = 25;

interface Page {
  readonly limit: number;
  /** Decodes the token: of which listing it is shows when the vault is known. */
  readonly after: (listing: Listing) => Promise<number>;
  /** The next page at the same address. */
  readonly nextLink: (listing: Listing, ordinal: number | null) => Promise<string | null>;
}

/** @throws KmsError `invalid-field` */
function pageOf({ query, origin }: WireRequest, path: string, pages: PageTokens): Page {
  const { maxresults, $skiptoken: token } = query;
  const limit = readInteger('maxresults', maxresults, { min: 1, max: PAGE_MAX, fallback: PAGE_MAX });
  return {
    limit,
    after: async (listing) => {
      const after = token === undefined ? -1 : await pages.decode(listing, token);
      if (after === undefined) throw invalidField('$skiptoken', 'expected the one of a nextLink of this listing');
      return after;
    },
    nextLink: async (listing, ordinal) => {
      if (ordinal === null) return null;
      const next = new URLSearchParams({ 'api-version': query['api-version'] ?? '', $skiptoken: await pages.encode(listing, ordinal) });
      if (maxresults !== undefined) next.set('maxresults', String(limit));
      return `${origin}${path}?${next.toString()}`;
    },
  };
}

function listing({ named, pages, hsmPlatform }: KeyServices, deleted: boolean) {
  const path = deleted ? '/deletedkeys' : '/keys';
  return (request: WireRequest): Action => {
    const page = pageOf(request, path, pages);
    return async (call): Promise<Reply> => {
      const of: Listing = { vaultId: call.vault.id, collection: path, filter: '' };
      const { keys, next } = await named.list(call, deleted, await page.after(of), page.limit);
      const place: Place = { origin: request.origin, vault: call.vault, hsmPlatform };
      return { status: 200, body: { value: keys.map((key) => keyItem(key, place)), nextLink: await page.nextLink(of, next) } };
    };
  };
}

function versions({ named, pages, hsmPlatform }: KeyServices) {
  return (request: WireRequest): Action => {
    const { name } = addressOf(request);
    const page = pageOf(request, `/keys/${name}/versions`, pages);
    return async (call): Promise<Reply> => {
      const of: Listing = { vaultId: call.vault.id, collection: 'versions', filter: name.toLowerCase() };
      const { key, versions: found, next } = await named.listVersions(call, name, await page.after(of), page.limit);
      const place: Place = { origin: request.origin, vault: call.vault, hsmPlatform };
      const value = found.map((version) => versionItem(key, version, place));
      return { status: 200, body: { value, nextLink: await page.nextLink(of, next) } };
    };
  };
}
