/** The route table of the OKMS door, served under `/v1` and `/api/{okmsId}/v1` (okms-rest-api §1.1, §2). */

import type { KeyOperations } from '../../keys/operations.ts';
import type { Route } from '../door.ts';
import { keyRoutes, type KeyServices } from './keys.ts';
import { operationRoutes } from './operations.ts';
import { randomRoute } from './random.ts';
import { signatureRoutes } from './signatures.ts';

export interface OkmsServices extends KeyServices {
  readonly operations: KeyOperations;
}

export function okmsRoutes(services: OkmsServices): readonly Route[] {
  const { operations } = services;
  return [...operationRoutes(operations), ...signatureRoutes(operations), ...keyRoutes(services), randomRoute(operations)];
}
