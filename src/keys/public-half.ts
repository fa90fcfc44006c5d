/** The public half of a key, for whoever may see the key. */

import { type PublicJwk, publicJwk } from '../crypto/engine.ts';
import type { Key, KeyVersion } from './key.ts';
import { newestVersion } from './state.ts';

export type { PublicJwk } from '../crypto/engine.ts';

/** For a secret key nothing but its type. */
export function publicHalf(key: Key, version: KeyVersion | undefined = newestVersion(key)): PublicJwk {
  const spki = version?.publicKey ?? null;
  return spki === null ? { kty: key.kind } : publicJwk(spki);
}
