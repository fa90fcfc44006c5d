/** A compact JWE that somebody made for a transport key of ours (RFC 7516 §7.1). Pure; nothing is decrypted here. */

import { decodeBase64url } from '../../bytes.ts';
import { invalidField } from '../../errors.ts';
import { CONTENT_ENCRYPTIONS, type Wrapped } from '../../keys/transport.ts';
import { parseStrictObject } from '../strict-json.ts';
import { wrappingAlgorithm } from './schema.ts';

const IV_BYTES = 12;
const TAG_BYTES = 16;

/** @throws KmsError `invalid-field` naming `field` and what was expected */
export function readWrapped(text: string, field: string): Wrapped {
  const unfit = (expected: string): Error => invalidField(field, `not a compact JWE: expected ${expected}`);
  const parts = text.split('.');
  if (parts.length !== 5) throw unfit('five parts, separated by dots');
  const [header, encryptedKey, iv, ciphertext, tag] = parts.map(decodeBase64url);
  if (header === undefined || encryptedKey === undefined || iv === undefined || ciphertext === undefined || tag === undefined) {
    throw unfit('base64url without padding in every part');
  }
  if (iv.length !== IV_BYTES || tag.length !== TAG_BYTES) throw unfit('an IV of 12 bytes and a tag of 16');
  const said = parseStrictObject(header);
  if (said === undefined) throw unfit('a JSON object as header');
  const { alg, enc } = said;
  const known = wrappingAlgorithm.options.find((name) => name === alg);
  if (known === undefined) throw unfit(`alg to be one of ${wrappingAlgorithm.options.join(', ')}`);
  const content = CONTENT_ENCRYPTIONS.find((name) => name === enc);
  if (content === undefined) throw unfit(`enc to be one of ${CONTENT_ENCRYPTIONS.join(', ')}`);
  // Both change what the content is (§4.1.3, §4.1.13).
  if ('zip' in said || 'crit' in said) throw unfit('a header without zip and crit');
  return { alg: known, enc: content, aad: Buffer.from(parts[0] ?? '', 'ascii'), encryptedKey, iv, ciphertext, tag, field };
}
