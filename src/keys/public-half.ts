/** The public half of a key, for whoever may see the key. */

import { type PublicJwk, publicJwk } from '../crypto/engine.ts';
import type { Key } from './key.ts';
import { newestVersion } from './state.ts';

export type { PublicJwk } from '../crypto/engine.ts';

/** Of the newest version; for a secret key nothing but its type. */
export function publicHalf(key: Key): PublicJwk {
  const spki = newestVersion(key)?.publicKey ?? null;
  return spki === null ? { kty: key.kind } : publicJwk(spki);
}
