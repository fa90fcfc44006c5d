/**
 * A client of the OKMS REST API written from its published description alone: paths, members, statuses, encodings. It
 * shares no line with the server. As the SDK does, it takes an answer only with the one status that is documented.
 */

import { Agent, request } from 'undici';

export interface Identity {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface ServiceKey {
  readonly id: string;
  readonly name: string;
  readonly type: 'oct' | 'RSA' | 'EC';
  readonly size?: number;
  readonly curve?: string;
  readonly operations: readonly string[];
  readonly attributes: Readonly<Record<string, string | boolean>>;
  readonly keys?: readonly [Readonly<Record<string, unknown>>];
}

interface Page {
  readonly objects_list: readonly ServiceKey[];
  readonly is_truncated: boolean;
  readonly continuation_token: string;
}

/** What the server says when it refuses. */
export class Refusal extends Error {
  readonly status: number;
  readonly errorCode: number;
  readonly requestId: string;

  constructor(status: number, { error_code, errors, request_id }: { error_code: number; errors: string[]; request_id: string }) {
    super(errors.join('\n'));
    this.status = status;
    this.errorCode = error_code;
    this.requestId = request_id;
  }

  /** error_code = major << 24 | minor << 16 | category << 12 | cause. */
  get category(): number {
    return (this.errorCode >> 12) & 0xf;
  }
}

type Query = Readonly<Record<string, string>>;

export class WireClient {
  readonly #base: string;
  readonly #agent: Agent;

  /** @param base such as `https://host/v1`, with or without slashes at its end */
  constructor(base: string, identity: Identity) {
    this.#base = base.replace(/\/+$/, '');
    this.#agent = new Agent({ connect: { ...identity } });
  }

  create(body: object, query: Query = {}): Promise<ServiceKey> {
    return this.#json('POST', 'servicekey', 201, body, query);
  }

  get(id: string, query: Query = {}): Promise<ServiceKey> {
    return this.#json('GET', `servicekey/${id}`, 200, undefined, query);
  }

  rename(id: string, name: string): Promise<ServiceKey> {
    return this.#json('PATCH', `servicekey/${id}`, 200, { name });
  }

  /** Every key of a state, page after page. */
  async list(query: Query = {}): Promise<ServiceKey[]> {
    const keys: ServiceKey[] = [];
    for (let token = ''; ;) {
      const page = await this.#json<Page>('GET', 'servicekey', 200, undefined, token === '' ? query : { ...query, 'continuation-token': token });
      keys.push(...page.objects_list);
      if (!page.is_truncated) return keys;
      token = page.continuation_token;
    }
  }

  activate(id: string): Promise<void> {
    return this.#nothing('POST', `servicekey/${id}/activate`);
  }

  deactivate(id: string, reason: string): Promise<void> {
    return this.#nothing('POST', `servicekey/${id}/deactivate`, { reason });
  }

  delete(id: string): Promise<void> {
    return this.#nothing('DELETE', `servicekey/${id}`);
  }

  async encrypt(id: string, plaintext: Uint8Array, context?: string): Promise<string> {
    const body = { plaintext: base64(plaintext), ...(context !== undefined && { context }) };
    return (await this.#json<{ ciphertext: string }>('POST', `servicekey/${id}/encrypt`, 200, body)).ciphertext;
  }

  async decrypt(id: string, ciphertext: string, context?: string): Promise<Buffer> {
    const body = { ciphertext, ...(context !== undefined && { context }) };
    return bytes((await this.#json<{ plaintext: string }>('POST', `servicekey/${id}/decrypt`, 200, body)).plaintext);
  }

  /** @param size in bits */
  async dataKey(id: string, name: string, size: number): Promise<{ plaintext: Buffer; sealed: string }> {
    const { key, plaintext } = await this.#json<{ key: string; plaintext: string }>('POST', `servicekey/${id}/datakey`, 201, { name, size });
    return { plaintext: bytes(plaintext), sealed: key };
  }

  async openDataKey(id: string, key: string): Promise<Buffer> {
    return bytes((await this.#json<{ plaintext: string }>('POST', `servicekey/${id}/datakey/decrypt`, 200, { key })).plaintext);
  }

  async sign(id: string, alg: string, message: Uint8Array, isdigest: boolean, format?: string): Promise<string> {
    const body = { message: base64(message), alg, isdigest };
    return (await this.#json<{ signature: string }>('POST', `servicekey/${id}/sign`, 200, body, format === undefined ? {} : { format })).signature;
  }

  async verify(id: string, body: { signature: string; message?: Uint8Array; alg?: string; isdigest?: boolean }): Promise<boolean> {
    const { message, ...rest } = body;
    const sent = { ...rest, ...(message !== undefined && { message: base64(message) }) };
    return (await this.#json<{ result: boolean }>('POST', `servicekey/${id}/verify`, 200, sent)).result;
  }

  async random(length: number): Promise<Buffer> {
    return bytes((await this.#json<{ bytes: string }>('GET', 'random', 200, undefined, { length: String(length) })).bytes);
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #json<T>(method: 'GET' | 'POST' | 'PATCH', path: string, status: number, body?: object, query: Query = {}): Promise<T> {
    const { type, text } = await this.#call(method, path, status, body, query);
    if (!type.includes('json')) throw new Error(`expected JSON, got ${type}`);
    return JSON.parse(text) as T;
  }

  async #nothing(method: 'POST' | 'DELETE', path: string, body?: object): Promise<void> {
    const { text } = await this.#call(method, path, 204, body, {});
    if (text !== '') throw new Error(`expected no body, got ${text}`);
  }

  async #call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, expected: number, body: object | undefined, query: Query): Promise<{ type: string; text: string }> {
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const { statusCode, headers, body: answer } = await request(`${this.#base}/${path}?${new URLSearchParams(query).toString()}`, { method, dispatcher: this.#agent, ...sent });
    const text = await answer.text();
    if (statusCode >= 400) throw new Refusal(statusCode, JSON.parse(text) as ConstructorParameters<typeof Refusal>[1]);
    if (statusCode !== expected) throw new Error(`expected ${expected}, got ${statusCode}`);
    return { type: String(headers['content-type']), text };
  }
}

function base64(value: Uint8Array): string {
  return Buffer.from(value).toString('base64');
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'base64');
}
