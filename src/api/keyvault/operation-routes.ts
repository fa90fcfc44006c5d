/** Routes of operations with a key (azure-keyvault-keys-api §1, 16 to 21 and 25; §4): read the wire, one call, render it. */

import type { z } from 'zod';
import { invalidField, KmsError } from '../../errors.ts';
import type { Call } from '../../keys/access.ts';
import {
  type CipherRequest, type CipherResult, type Cryptography, encryptionAlgorithm, type VersionAddress,
} from '../../keys/cryptography.ts';
import type { Permission } from '../../keys/key.ts';
import type { KeyOperations } from '../../keys/operations.ts';
import type { Action, Reply, Route, RouteDescription, WireRequest } from '../door.ts';
import { readBodyAs } from '../read.ts';
import { versionId } from './bundle.ts';
import * as describe from './descriptions.ts';
import { addressOf } from './path.ts';
import { operationBody, randomBody, signBody, verifyBody } from './schema.ts';
import { readBinary } from './wire.ts';

export interface OperationServices {
  readonly cryptography: Cryptography;
  readonly operations: Pick<KeyOperations, 'random'>;
}

type Run = (call: Call, at: VersionAddress, request: WireRequest) => Promise<Reply>;

export function operationRoutes({ cryptography, operations }: OperationServices): readonly Route[] {
  const encrypt = (under: 'encrypt' | 'wrapKey'): Run => async (call, at, request) =>
    shown(await cryptography.encrypt(call, under, at, () => cipherRequest(request, true)), call, request);
  const decrypt = (under: 'decrypt' | 'unwrapKey'): Run => async (call, at, request) =>
    shown(await cryptography.decrypt(call, under, at, () => cipherRequest(request, false)), call, request);
  const sign: Run = async (call, at, request) => {
    const { signature, ...result } = await cryptography.sign(call, at, () => {
      const { alg, value } = readBodyAs(signBody, request.body);
      return { alg, digest: readBinary('value', value) };
    });
    return shown({ ...result, value: signature }, call, request);
  };
  const verify: Run = async (call, at, request) => {
    const value = await cryptography.verify(call, at, () => {
      const body = readBodyAs(verifyBody, request.body);
      return { alg: body.alg, digest: readBinary('digest', body.digest), signature: readBinary('value', body.value) };
    });
    return { status: 200, body: { value } };
  };
  return [
    ...onVersion('encrypt', 'key/encrypt', describe.encrypt, encrypt('encrypt')),
    ...onVersion('decrypt', 'key/decrypt', describe.decrypt, decrypt('decrypt')),
    ...onVersion('wrapkey', 'key/wrapKey', describe.wrapKey, encrypt('wrapKey')),
    ...onVersion('unwrapkey', 'key/unwrapKey', describe.unwrapKey, decrypt('unwrapKey')),
    ...onVersion('sign', 'key/sign', describe.sign, sign),
    ...onVersion('verify', 'key/verify', describe.verify, verify),
    { method: 'POST', path: '/rng', operation: 'getRandomBytes', permissions: ['random/get'], description: describe.getRandomBytes, read: random(operations) },
  ];
}

/** With and without a version in the path. */
function onVersion(word: string, permission: Permission, description: RouteDescription, run: Run): readonly Route[] {
  const read = (request: WireRequest): Action => {
    const { name, versionId: version } = addressOf(request);
    return (call) => run(call, { key: { name }, versionId: version }, request);
  };
  const operation = description.operationId ?? word;
  const permissions = [permission] as const;
  return [
    { method: 'POST', path: `/keys/:name/${word}`, operation, permissions, description: { ...description, operationId: `${operation}Latest` }, read },
    { method: 'POST', path: `/keys/:name/:version/${word}`, operation, permissions, description, read },
  ];
}

/** Bytes of the longest AES plaintext (design §6). */
const AES_PLAINTEXT_MAX = 16_000;

/** @throws KmsError `invalid-field` */
function cipherRequest({ body }: WireRequest, protects: boolean): CipherRequest {
  const { alg, value, iv, aad, tag }: z.infer<typeof operationBody> = readBodyAs(operationBody, body);
  const bytes = readBinary('value', value);
  if (protects && encryptionAlgorithm(alg)?.kind === 'oct' && bytes.length > AES_PLAINTEXT_MAX) {
    throw invalidField('value', `expected at most ${AES_PLAINTEXT_MAX} bytes, got ${bytes.length}`);
  }
  return {
    alg,
    value: bytes,
    ...(isThere(iv) && { iv: readBinary('iv', iv) }),
    ...(isThere(aad) && { aad: readBinary('aad', aad) }),
    ...(isThere(tag) && { tag: readBinary('tag', tag) }),
  };
}

function isThere(text: string | null | undefined): text is string {
  return text !== null && text !== undefined;
}

const CBC_WARNING = '299 - "AES-CBC does not detect changes: prefer AES-GCM"';

/** KeyOperationResult; a managed HSM also repeats the algorithm. */
function shown({ key, version, value, iv, tag, aad }: CipherResult, { vault }: Call, request: WireRequest): Reply {
  const { alg } = request.body as { readonly alg: string };
  return {
    status: 200,
    body: {
      kid: versionId(request, key, version),
      value: text(value),
      ...(iv !== undefined && { iv: text(iv) }),
      ...(tag !== undefined && { tag: text(tag) }),
      ...(aad !== undefined && { aad: text(aad) }),
      ...(vault.flavour === 'managed-hsm' && { alg }),
    },
    ...(alg.includes('CBC') && { headers: { Warning: CBC_WARNING } }),
  };
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}

function random(operations: OperationServices['operations']) {
  return (request: WireRequest): Action => async (call) => {
    const value = await operations.random(call, () => {
      if (call.vault.flavour !== 'managed-hsm') throw new KmsError('unknown-route', 'a vault of this flavour gives no random bytes');
      return readBodyAs(randomBody, request.body).count;
    });
    return { status: 200, body: { value: text(value) } };
  };
}
