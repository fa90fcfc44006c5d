/**
 * Compact JWS (RFC 7515 §7.1) around signatures that the token makes: header and signing input are composed and taken
 * apart here, the signature itself is nobody's business but the token's (okms-rest-api §5.5). Pure.
 */

import { decodeBase64url } from '../../bytes.ts';
import { invalidField } from '../../errors.ts';
import { parseStrictObject } from '../strict-json.ts';

/** A JWS of our own, before it is signed. */
export interface Unsigned {
  /** ASCII of `header.payload`, which is what the signature covers (RFC 7515 §5.1). */
  readonly signingInput: Buffer;
}

/** A JWS that somebody hands in. */
export interface Received extends Unsigned {
  readonly alg: string;
  /** Undefined when the middle part is empty: the payload comes by another way (RFC 7515 appendix F). */
  readonly payload: Buffer | undefined;
  readonly signature: Buffer;
  /** For a payload that comes by another way. */
  readonly inputWith: (payload: Uint8Array) => Buffer;
}

/** @param kid the id of the key */
export function composeJws(format: 'jws' | 'jwt', alg: string, kid: string, payload: Uint8Array): Unsigned {
  const header = format === 'jwt' ? { alg, typ: 'JWT', kid } : { alg, kid };
  return { signingInput: join(encode(Buffer.from(JSON.stringify(header), 'utf8')), payload) };
}

export function packJws({ signingInput }: Unsigned, signature: Uint8Array): string {
  return `${signingInput.toString('ascii')}.${encode(signature)}`;
}

/** @throws KmsError `invalid-field` naming `signature` and what was expected */
export function readJws(text: string): Received {
  const [header = '', payload = '', signature = '', ...more] = text.split('.');
  if (more.length > 0 || text.split('.').length < 3) throw unfit('expected three parts, as in header.payload.signature');
  const { alg } = readHeader(decodePart('header', header));
  const bytes = payload === '' ? undefined : decodePart('payload', payload);
  const inputWith = (of: Uint8Array): Buffer => join(header, of);
  const signatureBytes = decodePart('signature', signature);
  return { alg, payload: bytes, signature: signatureBytes, signingInput: inputWith(bytes ?? Buffer.alloc(0)), inputWith };
}

/** A claims set is a JSON object (RFC 7519 §7.1). @throws KmsError `invalid-field` */
export function assertClaims(message: Uint8Array): void {
  if (parseStrictObject(message) === undefined) throw invalidField('message', 'expected a JSON object for format jwt');
}

/** Whatever else it says is the signer's business, but extensions that change what is signed are refused (§4.1.11). */
function readHeader(bytes: Uint8Array): { readonly alg: string } {
  const header = parseStrictObject(bytes);
  if (header === undefined) throw unfit('expected a JSON object as header');
  if ('crit' in header || 'b64' in header) throw unfit('expected a header without crit and b64: no extension is supported');
  const { alg } = header;
  if (typeof alg !== 'string') throw unfit('expected a header with alg');
  return { alg };
}

function decodePart(name: string, text: string): Buffer {
  const bytes = decodeBase64url(text);
  if (bytes === undefined) throw unfit(`expected base64url without padding as ${name}`);
  return bytes;
}

function unfit(expected: string): Error {
  return invalidField('signature', `not a compact JWS: ${expected}`);
}

function join(header: string, payload: Uint8Array): Buffer {
  return Buffer.from(`${header}.${encode(payload)}`, 'ascii');
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}
