/** Routes of signatures (okms-rest-api §2.9, §5.5): raw ones, and compact JWS or JWT around them. */

import { invalidField } from '../../errors.ts';
import type { KeyOperations } from '../../keys/operations.ts';
import type { Route } from '../door.ts';
import { encodeBase64, readBase64, readBodyAs, readChoice, readUuid } from '../read.ts';
import * as describe from './descriptions.ts';
import { assertClaims, composeJws, packJws, readJws } from './jws.ts';
import { readMessage } from './message.ts';
import { signatureFormat, signBody, verifyBody } from './schema.ts';

export function signatureRoutes(operations: KeyOperations): readonly Route[] {
  const route = (operation: 'sign' | 'verify', read: Route['read']): Route => ({
    method: 'POST',
    path: `/servicekey/:keyId/${operation}`,
    operation,
    permissions: [`key/${operation}`],
    description: describe[operation],
    read,
  });
  return [route('sign', sign(operations)), route('verify', verify(operations))];
}

function sign(operations: KeyOperations): Route['read'] {
  return ({ params, query, body: wire }) => {
    const id = readUuid('keyId', params['keyId']);
    const format = readChoice('format', query['format'], signatureFormat.options) ?? 'raw';
    const body = readBodyAs(signBody, wire);
    const message = readMessage('message', body.message);
    const isDigest = body.isdigest ?? false;
    if (format === 'raw') {
      return async (call) => {
        const signature = await operations.sign(call, id, { alg: body.alg, message, isDigest });
        return { status: 200, body: { signature: encodeBase64(signature) } };
      };
    }
    if (isDigest) throw invalidField('isdigest', `expected false with format ${format}: the signature covers a header too`);
    if (format === 'jwt') assertClaims(message);
    const unsigned = composeJws(format, body.alg, id, message);
    return async (call) => {
      const signature = await operations.sign(call, id, { alg: body.alg, message: unsigned.signingInput, isDigest });
      return { status: 200, body: { signature: packJws(unsigned, signature) } };
    };
  };
}

function verify(operations: KeyOperations): Route['read'] {
  return ({ params, body: wire }) => {
    const id = readUuid('keyId', params['keyId']);
    const body = readBodyAs(verifyBody, wire);
    const message = present(body.message) ? readMessage('message', body.message) : undefined;
    const { input, signature } = body.signature.includes('.') ? readSigned(body, message) : readRaw(body, message);
    return async (call) => {
      const result = await operations.verify(call, id, input, signature);
      // Looked at only now: whoever may not use the key learns nothing about it, and the audit has its record.
      return { status: 200, body: { result: result && input.covers } };
    };
  };
}

type VerifyBody = ReturnType<typeof verifyBody.parse>;

interface Signed {
  /** `covers`: the message that was named is the one that the signature is about. */
  readonly input: Parameters<KeyOperations['verify']>[2] & { readonly covers: boolean };
  readonly signature: Uint8Array;
}

function readRaw({ alg, isdigest, signature }: VerifyBody, message: Buffer | undefined): Signed {
  const input = {
    alg: required('alg', alg),
    message: required('message', message),
    isDigest: isdigest ?? false,
    covers: true,
  };
  return { input, signature: readBase64('signature', signature) };
}

/** A JWS says itself what it signs and how; what the request says beside it must agree. */
function readSigned({ alg, isdigest, signature: text }: VerifyBody, message: Buffer | undefined): Signed {
  const jws = readJws(text);
  if (isdigest === true) throw invalidField('isdigest', 'expected false with a JWS: the signature covers a header too');
  if (present(alg) && alg !== jws.alg) throw invalidField('alg', 'expected the same value as in the header of the JWS');
  if (jws.payload === undefined) {
    const detached = required('message', message);
    return { input: { alg: jws.alg, message: jws.inputWith(detached), isDigest: false, covers: true }, signature: jws.signature };
  }
  const covers = message?.equals(jws.payload) ?? true;
  return { input: { alg: jws.alg, message: jws.signingInput, isDigest: false, covers }, signature: jws.signature };
}

function present<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/** Optional in the schema since a JWS carries both; a raw or detached signature does not. */
function required<T>(field: string, value: T | null | undefined): T {
  if (!present(value)) throw invalidField(field, 'required with a raw or detached signature');
  return value;
}
