/** The requests of the mixed load, each with what a right answer to it must hold. */

import { randomBytes } from 'node:crypto';
import type { ChaosKey, Kind, Sealed, Signed } from './recorder.ts';

export type Act =
  | 'create' | 'get' | 'list' | 'activate' | 'deactivate' | 'delete'
  | 'encrypt' | 'decrypt' | 'dataKey' | 'decryptDataKey' | 'sign' | 'verify';

/** Acts that may be repeated without harm. */
export const IDEMPOTENT: ReadonlySet<Act> = new Set([
  'get', 'list', 'encrypt', 'decrypt', 'dataKey', 'decryptDataKey', 'sign', 'verify',
]);
/** Acts on key material. */
export const CRYPTO: ReadonlySet<Act> = new Set(['encrypt', 'decrypt', 'dataKey', 'decryptDataKey', 'sign', 'verify']);

export interface Asked {
  readonly act: Act;
  readonly method: string;
  readonly path: string;
  readonly body?: object;
  /** Null when the request names no key. */
  readonly key: ChaosKey | null;
  /** Of a creation. */
  readonly kind?: Kind;
  /** Base64: what was handed in, or must come out. */
  readonly plaintext?: string;
  /** Base64: what is signed. */
  readonly message?: string;
  /** What a verification must say. */
  readonly valid?: boolean;
}

/** Stands in every plaintext and message, and nowhere else; its length makes its base64 the same everywhere. */
export const MARKER = `chaos-${randomBytes(12).toString('hex')}`;

function marked(): string {
  return Buffer.from(`${MARKER}${randomBytes(6).toString('hex')}`).toString('base64');
}

const SHAPES: Readonly<Record<Kind, object>> = {
  oct: { type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] },
  EC: { type: 'EC', curve: 'P-256' },
  RSA: { type: 'RSA', size: 2048 },
};

export function create(kind: Kind): Asked {
  const body = { name: `chaos ${kind}`, ...SHAPES[kind] };
  return { act: 'create', method: 'POST', path: '/servicekey?format=jwk', body, key: null, kind };
}

function onKey(act: Act, key: ChaosKey, method: string, below = '', body?: object): Asked {
  return { act, method, path: `/servicekey/${key.id}${below}`, key, ...(body === undefined ? {} : { body }) };
}

export const get = (key: ChaosKey): Asked => onKey('get', key, 'GET');
export const activate = (key: ChaosKey): Asked => onKey('activate', key, 'POST', '/activate');
export const deactivate = (key: ChaosKey): Asked => onKey('deactivate', key, 'POST', '/deactivate', { reason: 'superseded' });
export const destroy = (key: ChaosKey): Asked => onKey('delete', key, 'DELETE');

export function list(token = ''): Asked {
  const query = token === '' ? '' : `?continuation-token=${encodeURIComponent(token)}`;
  return { act: 'list', method: 'GET', path: `/servicekey${query}`, key: null };
}

export function encrypt(key: ChaosKey): Asked {
  const plaintext = marked();
  return { ...onKey('encrypt', key, 'POST', '/encrypt', { plaintext }), plaintext };
}

export function dataKey(key: ChaosKey): Asked {
  return onKey('dataKey', key, 'POST', '/datakey', { size: 256 });
}

/** Of a ciphertext or of a sealed data key. */
export function decrypt({ key, kind, ciphertext, plaintext }: Sealed): Asked {
  if (kind === 'encrypt') return { ...onKey('decrypt', key, 'POST', '/decrypt', { ciphertext }), plaintext };
  return { ...onKey('decryptDataKey', key, 'POST', '/datakey/decrypt', { key: ciphertext }), plaintext };
}

export function sign(key: ChaosKey): Asked {
  const message = marked();
  return { ...onKey('sign', key, 'POST', '/sign', { message, alg: key.alg }), message };
}

/** @param valid false asks about another message */
export function verify({ key, message, signature }: Signed, valid: boolean): Asked {
  const asked = valid ? message : marked();
  return { ...onKey('verify', key, 'POST', '/verify', { message: asked, alg: key.alg, signature }), valid };
}
