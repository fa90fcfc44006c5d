/**
 * IVs of AES-GCM from the token's generator (SP 800-38D §8.2.2). A local token is asked per operation; a network HSM
 * would answer a round trip later, so there a thread draws a few at once and uses them within a second.
 */

import { GCM_IV_BYTES } from './mechanism.ts';
import type { TokenSession } from './session.ts';

const POOL = 64;
const POOL_AGE_MS = 1000;

let pool: Buffer[] = [];
let drawnMs = 0;

/** @throws CryptokiError */
export function nextIv(session: TokenSession): Buffer {
  const { cryptoki, handle, profile } = session;
  if (!profile.network) return cryptoki.generateRandom(handle, GCM_IV_BYTES);
  if (pool.length === 0 || performance.now() - drawnMs > POOL_AGE_MS) refill(session);
  return pool.pop() ?? cryptoki.generateRandom(handle, GCM_IV_BYTES);
}

function refill({ cryptoki, handle }: TokenSession): void {
  const block = cryptoki.generateRandom(handle, POOL * GCM_IV_BYTES);
  drawnMs = performance.now();
  pool = Array.from({ length: POOL }, (_, index) => slice(block, index));
}

/** With memory of its own: a view would carry the whole block into every message. */
function slice(block: Buffer, index: number): Buffer {
  const iv = Buffer.allocUnsafeSlow(GCM_IV_BYTES);
  block.copy(iv, 0, index * GCM_IV_BYTES, (index + 1) * GCM_IV_BYTES);
  return iv;
}
