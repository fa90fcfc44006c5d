/** Operations that this release does not have: whoever may use them is told so (azure-keyvault-keys-api §1, 5, 14, 15, 22 to 24). */

import type { Permission } from '../../keys/key.ts';
import type { NamedKeys } from '../../keys/named-keys.ts';
import type { Route, RouteDescription, WireRequest } from '../door.ts';
import * as describe from './descriptions.ts';
import { addressOf } from './path.ts';

export function laterRoutes(named: NamedKeys): readonly Route[] {
  const route = (method: Route['method'], path: string, operation: string, permission: Permission, description: RouteDescription): Route =>
    ({ method, path, operation, permissions: [permission], description, read: (request: WireRequest) => (call) =>
      named.later(call, `key.${operation}`, permission, request.params['name'] === undefined ? null : addressOf(request).name) });
  return [
    route('GET', '/keys/:name/rotationpolicy', 'getKeyRotationPolicy', 'key/rotationPolicy/get', describe.getKeyRotationPolicy),
    route('PUT', '/keys/:name/rotationpolicy', 'updateKeyRotationPolicy', 'key/rotationPolicy/update', describe.updateKeyRotationPolicy),
    route('GET', '/keys/:name/attestation', 'getKeyAttestationLatest', 'key/get', describe.getKeyAttestation),
    route('GET', '/keys/:name/:version/attestation', 'getKeyAttestation', 'key/get', describe.getKeyAttestation),
    route('POST', '/keys/:name/backup', 'backupKey', 'key/backup', describe.backupKey),
    route('POST', '/keys/restore', 'restoreKey', 'key/restore', describe.restoreKey),
    route('POST', '/keys/:name/release', 'releaseLatest', 'key/release', describe.release),
    route('POST', '/keys/:name/:version/release', 'release', 'key/release', describe.release),
  ];
}
