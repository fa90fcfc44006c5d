/**
 * The MACs that protect the store, the audit and the anchor (integrity §2 to §5, §7): HMAC-SHA-256 under keys derived
 * in the token once, so that sealing a row costs no call to it. The keys are in memory only.
 */

import { createHmac, createSecretKey } from 'node:crypto';
import { wipe } from '../bytes.ts';
import type { InternalKey } from '../keys/key.ts';
import type { Token } from '../pkcs11/token.ts';
import { deriveKey, type Purpose } from './derived-key.ts';

/** HMAC-SHA-256, 32 bytes. */
export type Mac = (bytes: Uint8Array) => Uint8Array;

/** One key each. */
export interface Macs {
  readonly seal: Mac;
  readonly journal: Mac;
  /** Of audit records that no checkpoint covers yet. */
  readonly tail: Mac;
  readonly anchor: Mac;
}

/** @param keyEpoch of the store's head; raising it makes all earlier MACs invalid */
export async function deriveMacs(token: Token, integrity: InternalKey, installation: string, keyEpoch: number): Promise<Macs> {
  const derive = async (purpose: Purpose): Promise<Mac> => toMac(await deriveKey(token, integrity, installation, purpose, keyEpoch));
  const [seal, journal, tail, anchor] = await Promise.all([derive('seal'), derive('journal'), derive('tail'), derive('anchor')]);
  return { seal, journal, tail, anchor };
}

/** A key object shows nothing of itself where it is logged by mistake. */
function toMac(bytes: Uint8Array): Mac {
  const key = createSecretKey(bytes);
  wipe(bytes);
  return (input) => createHmac('sha256', key).update(input).digest();
}
