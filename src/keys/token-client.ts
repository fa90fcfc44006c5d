/** Clients that get access tokens by a secret: the secret is random, shown once, and stored as its digest. Pure. */

import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import type { TokenClient } from './key.ts';

const SECRET_BYTES = 32;

export interface NewTokenClient {
  readonly client: Omit<TokenClient, 'revision'>;
  readonly secret: string;
}

export function newTokenClient(subject: string, nowMs: number): NewTokenClient {
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  const client = { id: randomUUID(), subject, secretHash: digest(secret), createdMs: nowMs, revokedMs: null };
  return { client, secret };
}

/** Takes as long for a client that is not there. */
export function holdsSecret(client: TokenClient | undefined, secret: string): client is TokenClient {
  const given = digest(secret);
  const equal = timingSafeEqual(given, client === undefined ? digest('') : client.secretHash);
  return equal && client?.revokedMs === null;
}

/** One pass, as 256 random bits leave nothing to guess. */
function digest(secret: string): Buffer {
  return createHash('sha256').update(secret, 'utf8').digest();
}
