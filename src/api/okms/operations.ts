/** Routes of the cryptographic operations (okms-rest-api §2.7–2.9): read the wire, one call, render the wire. */

import { ownCopy, wipe } from '../../bytes.ts';
import { invalidField, KmsError } from '../../errors.ts';
import type { KeyOperations } from '../../keys/operations.ts';
import type { Route, WireRequest } from '../door.ts';
import { readBase64, readBodyAs, readChoice, readUuid } from '../read.ts';
import { bind, open, packJwe } from './ciphertext.ts';
import * as describe from './descriptions.ts';
import { dataKeyBody, decryptBody, decryptDataKeyBody, encryptBody, signatureFormat, signBody, verifyBody } from './schema.ts';

/** Bytes of the largest plaintext or message. */
const MESSAGE_BYTES = 4096;

const DATA_KEY = { kind: 'data-key' } as const;

type Operation = 'encrypt' | 'decrypt' | 'createDataKey' | 'decryptDataKey' | 'sign' | 'verify';

export function operationRoutes(operations: KeyOperations): readonly Route[] {
  const route = (path: string, operation: Operation, read: Route['read']): Route => ({
    method: 'POST',
    path: `/servicekey/:keyId/${path}`,
    operation,
    description: describe[operation],
    read,
  });
  return [
    route('encrypt', 'encrypt', encrypt(operations)),
    route('decrypt', 'decrypt', decrypt(operations)),
    route('datakey', 'createDataKey', createDataKey(operations)),
    route('datakey/decrypt', 'decryptDataKey', decryptDataKey(operations)),
    route('sign', 'sign', sign(operations)),
    route('verify', 'verify', verify(operations)),
  ];
}

function keyId({ params }: WireRequest): string {
  return readUuid('keyId', params['keyId']);
}

function message(field: string, text: string): Buffer {
  const bytes = ownCopy(readBase64(field, text));
  if (bytes.length > MESSAGE_BYTES) throw invalidField(field, `expected at most ${MESSAGE_BYTES} bytes`);
  return bytes;
}

function encrypt(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const body = readBodyAs(encryptBody, request.body);
    const plaintext = message('plaintext', body.plaintext);
    return async (call) => {
      try {
        const token = { kind: 'ciphertext', context: body.context ?? '' } as const;
        const sealed = await operations.encrypt(call, id, bind(token), plaintext);
        return { status: 200, body: { ciphertext: packJwe(sealed) } };
      } finally {
        wipe(plaintext);
      }
    };
  };
}

function decrypt(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const { ciphertext, context } = readBodyAs(decryptBody, request.body);
    const token = { kind: 'ciphertext', context: context ?? '' } as const;
    return async (call) => ({
      status: 200,
      body: { plaintext: encodeAndWipe(await operations.decrypt(call, id, open(ciphertext, token))) },
    });
  };
}

function createDataKey(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const { size } = readBodyAs(dataKeyBody, request.body);
    return async (call) => {
      const { plaintext, sealed } = await operations.createDataKey(call, id, bind(DATA_KEY), size / 8);
      return { status: 201, body: { key: packJwe(sealed), plaintext: encodeAndWipe(plaintext) } };
    };
  };
}

function decryptDataKey(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const { key } = readBodyAs(decryptDataKeyBody, request.body);
    return async (call) => ({
      status: 200,
      body: { plaintext: encodeAndWipe(await operations.decryptDataKey(call, id, open(key, DATA_KEY))) },
    });
  };
}

function sign(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    assertRaw(readChoice('format', request.query['format'], signatureFormat.options));
    const body = readBodyAs(signBody, request.body);
    const input = { alg: body.alg, message: message('message', body.message), isDigest: body.isdigest ?? false };
    return async (call) => {
      const signature = await operations.sign(call, id, input);
      return { status: 200, body: { signature: encode(signature) } };
    };
  };
}

function verify(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const body = readBodyAs(verifyBody, request.body);
    if (body.signature.includes('.')) assertRaw('jws');
    const signature = readBase64('signature', body.signature);
    const input = {
      alg: required('alg', body.alg),
      message: message('message', required('message', body.message)),
      isDigest: body.isdigest ?? false,
    };
    return async (call) => ({ status: 200, body: { result: await operations.verify(call, id, input, signature) } });
  };
}

function assertRaw(format: 'raw' | 'jws' | 'jwt' | undefined): void {
  if (format === undefined || format === 'raw') return;
  throw new KmsError('not-implemented', `format: ${format} signatures are not implemented yet`);
}

/** Optional in the schema since a JWS carries both; a raw signature does not. */
function required<T>(field: string, value: T | null | undefined): T {
  if (value === null || value === undefined) throw invalidField(field, 'required with a raw signature');
  return value;
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

function encodeAndWipe(secret: Uint8Array): string {
  const text = encode(secret);
  wipe(secret);
  return text;
}
