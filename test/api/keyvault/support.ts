/** A caller of the Key Vault door by hand, with an access token and the host name of a vault. */

import { expect } from '@jest/globals';
import { issueToken } from '../../support/bearer.ts';
import type { Answer, Client, Installation } from '../../support/installation.ts';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT';

export interface Ask {
  readonly version?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

export class KeyVault {
  readonly origin: string;
  readonly #client: Client;
  readonly #base: string;
  readonly #token: string;

  constructor(client: Client, port: number, vault: string, token: string) {
    this.#client = client;
    this.#base = `https://localhost:${port}`;
    this.origin = `https://${vault}.localhost:${port}`;
    this.#token = token;
  }

  /** Of the owner of a vault. */
  static async of(client: Client, kms: Installation, vault: string, ...args: readonly string[]): Promise<KeyVault> {
    const roles = args.length === 0 ? ['--subject', 'kv-owner', '--role', 'owner'] : args;
    return new KeyVault(client, kms.port, vault, await issueToken(kms, ...roles, '--vault', vault));
  }

  call(method: Method, path: string, body?: object | string, { version = '7.6', headers = {} }: Ask = {}): Promise<Answer> {
    const query = version === null ? '' : `${path.includes('?') ? '&' : '?'}api-version=${version}`;
    const host = new URL(this.origin).host;
    return this.#client.call(method, `${this.#base}${path}${query}`, body, { host, authorization: `Bearer ${this.#token}`, ...headers });
  }

  get(path: string): Promise<Answer> { return this.call('GET', path); }
  post(path: string, body: object = {}): Promise<Answer> { return this.call('POST', path, body); }
  patch(path: string, body: object): Promise<Answer> { return this.call('PATCH', path, body); }
  put(path: string, body: object): Promise<Answer> { return this.call('PUT', path, body); }
  delete(path: string): Promise<Answer> { return this.call('DELETE', path); }

  /** Makes a key. @returns its bundle */
  async create(name: string, body: object): Promise<Bundle> {
    return expectOk(await this.post(`/keys/${name}/create`, body)) as Bundle;
  }
}

export interface Bundle {
  readonly key: { readonly kid: string; readonly kty: string; readonly key_ops: readonly string[]; readonly [member: string]: unknown };
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly tags?: Readonly<Record<string, string>>;
}

export function expectOk({ status, json, text }: Answer): unknown {
  if (status !== 200) throw new Error(`${status}: ${text}`);
  return json;
}

export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly inner?: string;
  readonly words: string | RegExp;
}

/** Body, inner code and message; every refusal has a body in JSON. */
export function expectRefusal({ status, headers, json }: Answer, { status: expected, code, inner, words }: Refusal): void {
  expect({ status, json }).toEqual({
    status: expected,
    json: {
      error: {
        code,
        message: typeof words === 'string' ? expect.stringContaining(words) : expect.stringMatching(words),
        ...(inner !== undefined && { innererror: { code: inner } }),
      },
    },
  });
  expect(headers['content-type']).toContain('application/json');
}

export function versionOf(kid: string): string {
  return kid.split('/').at(-1) ?? '';
}

export function b64(bytes: Uint8Array | string): string {
  return Buffer.from(bytes as string).toString('base64url');
}

export function unb64(text: unknown): Buffer {
  return Buffer.from(String(text), 'base64url');
}
