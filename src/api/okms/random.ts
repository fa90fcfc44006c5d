/** The route of random bytes (okms-rest-api §2.10). */

import type { KeyOperations } from '../../keys/operations.ts';
import type { Route } from '../door.ts';
import { encodeBase64, readInteger } from '../read.ts';
import * as describe from './descriptions.ts';
import { randomLength } from './schema.ts';

export function randomRoute(operations: KeyOperations): Route {
  return {
    method: 'GET',
    path: '/random',
    operation: 'getRandom',
    permissions: ['random/get'],
    description: describe.getRandom,
    read: ({ query }) => {
      const length = readInteger('length', query['length'], { ...randomLength, fallback: 1 });
      return async (call) => ({ status: 200, body: { bytes: encodeBase64(await operations.random(call, () => length)) } });
    },
  };
}
