/** Routes of the service-key life cycle (okms-rest-api §2.2–2.6): read the wire, one call, render the wire. */

import type { z } from 'zod';
import { invalidField } from '../../errors.ts';
import type { Call } from '../../keys/access.ts';
import type { Key, KeyState } from '../../keys/key.ts';
import type { KeyLifecycle } from '../../keys/lifecycle.ts';
import type { Listing, PageTokens } from '../../keys/page-token.ts';
import { publicHalf } from '../../keys/public-half.ts';
import type { TransportKeys } from '../../keys/transport.ts';
import type { Action, Reply, Route, WireRequest } from '../door.ts';
import { readBodyAs, readChoice, readInteger, readUuid } from '../read.ts';
import * as describe from './descriptions.ts';
import { createBody, deactivateBody, keyFormat, keyState, pageSize, renameBody, wrappedKeyFormat, wrappingAlgorithm } from './schema.ts';
import { toImportSpec } from './import.ts';
import { refuseExtractable, statesOf, toKeySpec, toServiceKey } from './wire.ts';

const NO_CONTENT: Reply = { status: 204 };

export interface KeyServices {
  readonly lifecycle: KeyLifecycle;
  readonly pages: PageTokens;
  readonly transport: TransportKeys;
}

export function keyRoutes(services: KeyServices): readonly Route[] {
  const { lifecycle } = services;
  const onKey = (request: WireRequest): string => readUuid('keyId', request.params['keyId']);
  const deleteKey = (request: WireRequest): Action => {
    const id = onKey(request);
    return async (call) => {
      await lifecycle.delete(call, id);
      return NO_CONTENT;
    };
  };
  return [
    { method: 'POST', path: '/servicekey', operation: 'createKey', permissions: ['key/create', 'key/import', 'key/unwrapKey'], description: describe.createKey, read: create(services) },
    { method: 'GET', path: '/servicekey', operation: 'listKeys', permissions: ['key/get'], description: describe.listKeys, read: list(services) },
    { method: 'GET', path: '/servicekey/:keyId', operation: 'getKey', permissions: ['key/get'], description: describe.getKey, read: get(services) },
    { method: 'PATCH', path: '/servicekey/:keyId', operation: 'updateKey', permissions: ['key/update'], description: describe.updateKey, read: rename(services) },
    { method: 'DELETE', path: '/servicekey/:keyId', operation: 'deleteKey', permissions: ['key/delete'], description: describe.deleteKey, read: deleteKey },
    // The guide of 2024-10-18 writes the deletion this way.
    {
      method: 'DELETE',
      path: '/servicekey/:keyId/delete',
      operation: 'deleteKey',
      permissions: ['key/delete'],
      description: describe.deleteKeyAsGuided,
      read: deleteKey,
    },
    {
      method: 'POST',
      path: '/servicekey/:keyId/activate',
      operation: 'activateKey',
      permissions: ['key/activate'],
      description: describe.activateKey,
      read: (request) => {
        const id = onKey(request);
        return async (call) => {
          await lifecycle.activate(call, id);
          return NO_CONTENT;
        };
      },
    },
    {
      method: 'POST',
      path: '/servicekey/:keyId/deactivate',
      operation: 'deactivateKey',
      permissions: ['key/deactivate'],
      description: describe.deactivateKey,
      read: (request) => {
        const id = onKey(request);
        // The guide sends no body, the schema asks for one: nothing means no particular reason.
        const { reason } = readBodyAs(deactivateBody, request.body ?? {});
        return async (call) => {
          await lifecycle.deactivate(call, id, reason ?? 'unspecified');
          return NO_CONTENT;
        };
      },
    },
  ];
}

function wantsJwk({ query }: WireRequest): boolean {
  return readChoice('format', query['format'], keyFormat.options) === 'jwk';
}

function create(services: KeyServices): Route['read'] {
  return (request) => {
    const withJwk = wantsJwk(request);
    const make = maker(services, readBodyAs(createBody, request.body));
    return async (call) => {
      const key = await make(call);
      return { status: 201, body: toServiceKey(key, withJwk ? publicHalf(key) : undefined) };
    };
  };
}

/** `keys` and `wrappedKeys` ask for an import (okms-rest-api §2.3, §2.11). */
function maker({ lifecycle, transport }: KeyServices, body: z.infer<typeof createBody>): (call: Call) => Promise<Key> {
  refuseExtractable(body);
  const spec = toImportSpec(body, transport);
  if (spec !== undefined) return (call) => lifecycle.import(call, spec);
  const made = toKeySpec(body);
  return (call) => lifecycle.create(call, made);
}

function get({ lifecycle }: KeyServices): Route['read'] {
  return (request) => {
    const withJwk = wantsJwk(request);
    const id = readUuid('keyId', request.params['keyId']);
    const wrapped = asksForExport(request);
    return async (call) => {
      const key = await lifecycle.get(call, id);
      // Whoever may see the key learns why; for others it is not there.
      if (wrapped) throw invalidField('wrappingKeyId', 'the key is not extractable: no key leaves the HSM');
      return { status: 200, body: toServiceKey(key, withJwk ? publicHalf(key) : undefined) };
    };
  };
}

/** The wrapped export of §2.11. @throws KmsError `invalid-field` */
function asksForExport({ query }: WireRequest): boolean {
  const asked = query['wrappingKeyId'] !== undefined;
  if (asked) readUuid('wrappingKeyId', query['wrappingKeyId']);
  const named = { wrappedKeyFormat: wrappedKeyFormat.options, wrappingAlgorithm: wrappingAlgorithm.options };
  for (const [name, options] of Object.entries(named)) {
    if (readChoice(name, query[name], options) === undefined && asked) throw invalidField(name, 'required with wrappingKeyId');
  }
  return asked;
}

function rename({ lifecycle }: KeyServices): Route['read'] {
  return (request) => {
    const id = readUuid('keyId', request.params['keyId']);
    const body = readBodyAs(renameBody, request.body);
    refuseExtractable(body);
    return async (call) => ({ status: 200, body: toServiceKey(await lifecycle.rename(call, id, body.name ?? null)) });
  };
}

/** Larger pages may be asked for, as older API versions allowed; none is larger than this. */
const PAGE_MAX = 100;
const MAX_RANGE = { ...pageSize, fallback: PAGE_MAX };

function list(services: KeyServices): Route['read'] {
  return ({ query }) => {
    const filter = readChoice('state', query['state'], keyState.options);
    const limit = Math.min(readInteger('max', query['max'], MAX_RANGE), PAGE_MAX);
    const token = query['continuation-token'] ?? '';
    const states = statesOf(filter);
    return (call) => page(services, call, { states, filter: filter ?? '', limit, token });
  };
}

async function page(
  { lifecycle, pages }: KeyServices,
  call: Call,
  asked: { readonly states: readonly KeyState[]; readonly filter: string; readonly limit: number; readonly token: string },
): Promise<Reply> {
  const listing: Listing = { vaultId: call.vault.id, collection: 'servicekey', filter: asked.filter };
  const after = asked.token === '' ? -1 : await pages.decode(listing, asked.token);
  if (after === undefined) throw invalidField('continuation-token', 'expected a token of this listing');
  const { keys, next } = await lifecycle.list(call, asked.states, after, asked.limit);
  return {
    status: 200,
    body: {
      objects_list: keys.map((key) => toServiceKey(key)),
      is_truncated: next !== null,
      continuation_token: next === null ? '' : await pages.encode(listing, next),
    },
  };
}
