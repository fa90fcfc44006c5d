/**
 * Records every request and its answer, seen from outside, and what is known of each key from them. The invariants of
 * `security.md` §4.1 are checked on it, see `invariants.ts`.
 */

import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import type { Exchange } from '../support/wire.ts';
import type { Act, Asked } from './requests.ts';

export type Kind = 'oct' | 'EC' | 'RSA';

/** Times are `performance.now()`; `Sent`: somebody asked, `…dMs`: the answer came and said that it is done. */
export interface ChaosKey {
  readonly id: string;
  readonly kind: Kind;
  readonly alg: 'ES256' | 'RS256' | null;
  /** Of asymmetric keys, from the answer to the creation. */
  readonly publicKey: KeyObject | null;
  deactivateSentMs: number;
  deactivatedMs: number;
  deleteSentMs: number;
  deletedMs: number;
}

export interface Sealed {
  readonly key: ChaosKey;
  readonly kind: 'encrypt' | 'dataKey';
  readonly ciphertext: string;
  /** Base64. */
  readonly plaintext: string;
  readonly entry: Entry;
}

export interface Signed {
  readonly key: ChaosKey;
  /** Base64. */
  readonly message: string;
  readonly signature: string;
  readonly entry: Entry;
}

export interface Entry extends Exchange {
  readonly asked: Asked;
  readonly act: Act;
  readonly endedMs: number;
  /** What is wrong with the data of a successful answer. */
  readonly wrong: string | null;
  /** Made while the token gave wrong results on purpose: proves nothing. */
  readonly tainted: boolean;
}

const SUCCESS: Readonly<Record<Act, number>> = {
  create: 201, get: 200, list: 200, activate: 204, deactivate: 204, delete: 204,
  encrypt: 200, decrypt: 200, dataKey: 201, decryptDataKey: 200, sign: 200, verify: 200,
};

const ALGORITHMS = { oct: null, EC: 'ES256', RSA: 'RS256' } as const;
const NEVER = Number.POSITIVE_INFINITY;

export class Recorder {
  readonly entries: Entry[] = [];
  readonly keys = new Map<string, ChaosKey>();
  readonly sealed: Sealed[] = [];
  readonly signed: Signed[] = [];
  /** Whether what is asked now may come out wrong (C-12). */
  tainting = false;
  readonly #startMs = performance.now();

  /** To be called before a request leaves: from now on it may take effect. */
  sending({ act, key }: Asked): void {
    if (key === null) return;
    if (act === 'deactivate') key.deactivateSentMs = Math.min(key.deactivateSentMs, performance.now());
    if (act === 'delete') key.deleteSentMs = Math.min(key.deleteSentMs, performance.now());
  }

  /** @param tainted whether results could come out wrong when it was sent */
  record(asked: Asked, exchange: Exchange, tainted: boolean): Entry {
    const endedMs = performance.now();
    const wrong = succeeded(exchange) ? wrongIn(asked, exchange) : null;
    const entry: Entry = { ...exchange, asked, act: asked.act, endedMs, wrong, tainted: tainted || this.tainting };
    this.entries.push(entry);
    if (succeeded(exchange) && wrong === null) this.#learn(entry);
    return entry;
  }

  /** Keys that nobody asked to delete. */
  living(): readonly ChaosKey[] {
    return [...this.keys.values()].filter(({ deleteSentMs }) => deleteSentMs === NEVER);
  }

  /** Living, and nobody asked to deactivate it. */
  usable(): readonly ChaosKey[] {
    return this.living().filter(({ deactivateSentMs }) => deactivateSentMs === NEVER);
  }

  /** Sent in this time. */
  between(fromMs: number, toMs: number): readonly Entry[] {
    return this.entries.filter(({ sentMs }) => sentMs >= fromMs && sentMs < toMs);
  }

  /** One line that lets the request be found in log and audit. */
  describe({ act, method, path, id, sentMs, endedMs, status, failure, text }: Entry): string {
    const at = `+${((sentMs - this.#startMs) / 1000).toFixed(2)} s, ${(endedMs - sentMs).toFixed(0)} ms`;
    return `${act} ${method} ${path} (request ${id}, ${at}): ${failure ?? `${status} ${status < 300 ? '' : text.slice(0, 300)}`}`;
  }

  #learn(entry: Entry): void {
    const { asked, act, json, endedMs } = entry;
    const { key } = asked;
    if (act === 'create') this.#created(json, asked.kind ?? 'oct');
    if (key === null) return;
    if (act === 'deactivate') key.deactivatedMs = Math.min(key.deactivatedMs, endedMs);
    if (act === 'delete') key.deletedMs = Math.min(key.deletedMs, endedMs);
    if (act === 'encrypt') this.sealed.push({ key, kind: act, ciphertext: json.ciphertext, plaintext: asked.plaintext ?? '', entry });
    if (act === 'dataKey') this.sealed.push({ key, kind: act, ciphertext: json.key, plaintext: json.plaintext, entry });
    if (act === 'sign') this.signed.push({ key, message: asked.message ?? '', signature: json.signature, entry });
  }

  #created({ id, keys }: { readonly id: string; readonly keys?: readonly JsonWebKey[] }, kind: Kind): void {
    const [jwk] = keys ?? [];
    const publicKey = kind === 'oct' || jwk === undefined ? null : createPublicKey({ key: jwk, format: 'jwk' });
    const times = { deactivateSentMs: NEVER, deactivatedMs: NEVER, deleteSentMs: NEVER, deletedMs: NEVER };
    this.keys.set(id, { id, kind, alg: ALGORITHMS[kind], publicKey, ...times });
  }
}

export function succeeded({ status }: Exchange): boolean {
  return status >= 200 && status < 300;
}

/** Judges what can be judged from one answer; ciphertexts and signatures are proved at the end. */
function wrongIn({ act, key, kind, plaintext, valid }: Asked, { status, json }: Exchange): string | null {
  if (status !== SUCCESS[act]) return `expected ${SUCCESS[act]}`;
  switch (act) {
    case 'create':
      if (json.type !== kind) return `asked for ${kind ?? ''}, got ${String(json.type)}`;
      return kind === 'oct' || json.keys?.length === 1 ? null : 'no public key';
    case 'get':
      return json.id === key?.id && json.type === key?.kind ? null : 'another key';
    case 'list':
      return Array.isArray(json.objects_list) ? null : 'no list';
    case 'encrypt':
      return String(json.ciphertext).split('.').length === 5 ? null : 'no ciphertext';
    case 'dataKey':
      return Buffer.from(String(json.plaintext), 'base64').length === 32 ? null : 'no data key of 256 bits';
    case 'decrypt':
    case 'decryptDataKey':
      return json.plaintext === plaintext ? null : 'another plaintext';
    case 'sign':
      return typeof json.signature === 'string' ? null : 'no signature';
    case 'verify':
      return json.result === valid ? null : `expected ${String(valid)}, was told ${String(json.result)}`;
    case 'activate':
    case 'deactivate':
    case 'delete':
      return null;
  }
}
