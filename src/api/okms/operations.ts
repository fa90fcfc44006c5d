/** Routes of encryption and data keys (okms-rest-api §2.7–2.8): read the wire, one call, render the wire. */

import { wipe } from '../../bytes.ts';
import type { KeyOperations } from '../../keys/operations.ts';
import type { Route, WireRequest } from '../door.ts';
import { encodeBase64, readBodyAs, readUuid } from '../read.ts';
import { bind, open, packJwe } from './ciphertext.ts';
import * as describe from './descriptions.ts';
import { readMessage } from './message.ts';
import { dataKeyBody, decryptBody, decryptDataKeyBody, encryptBody } from './schema.ts';

const DATA_KEY = { kind: 'data-key' } as const;

const PERMISSIONS = {
  encrypt: 'key/encrypt', decrypt: 'key/decrypt', createDataKey: 'key/dataKey/create', decryptDataKey: 'key/dataKey/decrypt',
} as const;

type Operation = keyof typeof PERMISSIONS;

export function operationRoutes(operations: KeyOperations): readonly Route[] {
  const route = (path: string, operation: Operation, read: Route['read']): Route => ({
    method: 'POST',
    path: `/servicekey/:keyId/${path}`,
    operation,
    permissions: [PERMISSIONS[operation]],
    description: describe[operation],
    read,
  });
  return [
    route('encrypt', 'encrypt', encrypt(operations)),
    route('decrypt', 'decrypt', decrypt(operations)),
    route('datakey', 'createDataKey', createDataKey(operations)),
    route('datakey/decrypt', 'decryptDataKey', decryptDataKey(operations)),
  ];
}

function keyId({ params }: WireRequest): string {
  return readUuid('keyId', params['keyId']);
}

function encrypt(operations: KeyOperations): Route['read'] {
  return (request) => {
    const id = keyId(request);
    const body = readBodyAs(encryptBody, request.body);
    const plaintext = readMessage('plaintext', body.plaintext);
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

function encodeAndWipe(secret: Uint8Array): string {
  const text = encodeBase64(secret);
  wipe(secret);
  return text;
}
