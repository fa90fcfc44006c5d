/**
 * Continuation tokens (integrity §8): base64url of 0x01, 8-byte ordinal, first 12 bytes of
 * HMAC(K_page, vault, collection, filter, ordinal). 28 characters; anything else is refused.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { decodeBase64url } from '../bytes.ts';

/** What a token is bound to: it continues this listing of this vault and no other. */
export interface Listing {
  readonly vaultId: string;
  readonly collection: string;
  readonly filter: string;
}

const VERSION = 1;
const MAC_BYTES = 12;
const BYTES = 1 + 8 + MAC_BYTES;

export class PageTokens {
  readonly #deriveKey: () => Promise<Uint8Array>;
  #key: Uint8Array | undefined;

  /** @param deriveKey gives K_page once the token can be asked */
  constructor(deriveKey: () => Promise<Uint8Array>) {
    this.#deriveKey = deriveKey;
  }

  async encode(listing: Listing, ordinal: number): Promise<string> {
    const position = Buffer.alloc(9);
    position.writeUInt8(VERSION);
    position.writeBigUInt64BE(BigInt(ordinal), 1);
    return Buffer.concat([position, await this.#mac(listing, position)]).toString('base64url');
  }

  /** @returns the ordinal, or undefined for a token that is not one of this listing */
  async decode(listing: Listing, token: string): Promise<number | undefined> {
    const bytes = decodeBase64url(token);
    if (bytes?.length !== BYTES || bytes[0] !== VERSION) return undefined;
    const position = bytes.subarray(0, 9);
    const valid = timingSafeEqual(bytes.subarray(9), await this.#mac(listing, position));
    return valid ? Number(position.readBigUInt64BE(1)) : undefined;
  }

  async #mac({ vaultId, collection, filter }: Listing, position: Uint8Array): Promise<Buffer> {
    this.#key ??= await this.#deriveKey();
    const hmac = createHmac('sha256', this.#key);
    hmac.update(JSON.stringify([vaultId, collection, filter])).update(position);
    return hmac.digest().subarray(0, MAC_BYTES);
  }
}
