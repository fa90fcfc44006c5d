/** Plaintexts and messages of the OKMS door (okms-rest-api §5.6). */

import { ownCopy } from '../../bytes.ts';
import { invalidField } from '../../errors.ts';
import { readBase64 } from '../read.ts';

/** Bytes of the largest plaintext or message. */
const MESSAGE_BYTES = 4096;

/** @returns bytes with memory of their own, so that they can be wiped @throws KmsError `invalid-field` */
export function readMessage(field: string, text: string): Buffer {
  const bytes = ownCopy(readBase64(field, text));
  if (bytes.length > MESSAGE_BYTES) throw invalidField(field, `expected at most ${MESSAGE_BYTES} bytes`);
  return bytes;
}
