/** Issuers of access tokens that the operator configured, and their key sets (RFC 7517 §5): from a file, or fetched and kept for a while. */

import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, type JSONWebKeySet } from 'jose';
import { KmsError } from '../errors.ts';
import type { TokenAlgorithm, TokenHeader, TokenIssuer, TokenRules } from './access-token.ts';
import { ReloadedFile } from './reloaded-file.ts';

export interface IssuerSettings extends TokenRules {
  readonly iss: string;
  readonly audiences: readonly string[];
  readonly algorithms: readonly TokenAlgorithm[];
  readonly keys: KeySource;
}

export type KeySource =
  /** JSON; read again when it changes. */
  | { readonly file: string }
  /** HTTPS. */
  | {
    readonly url: string;
    /** PEM of the CA of its server; null for those that the system trusts. */
    readonly caFile: string | null;
    /** Milliseconds for which a set counts. */
    readonly cacheMs: number;
    /** Milliseconds between two fetches because of keys that are not in it. */
    readonly cooldownMs: number;
  };

/** Principals are stored by `iss`, which is the issuer's name for good. @throws KmsError `internal` for a file without a set */
export async function configuredIssuer({ iss, audiences, algorithms, keys, ...rules }: IssuerSettings): Promise<TokenIssuer> {
  return { iss, name: iss, audiences, algorithms, rules, keyOf: 'file' in keys ? await fromFile(keys.file) : fromUrl(keys) };
}

type KeyOf = TokenIssuer['keyOf'];

async function fromFile(path: string): Promise<KeyOf> {
  const file = await ReloadedFile.open(path, (text) => createLocalJWKSet(JSON.parse(text) as JSONWebKeySet));
  return async (header) => (await file.current())({ ...header });
}

const FETCH_MS = 5000;
/** Milliseconds for which a set that could not be fetched is not asked for again. */
const FAILED_MS = 5000;

function fromUrl({ url, caFile, cacheMs, cooldownMs }: Extract<KeySource, { url: string }>): KeyOf {
  const ca = caFile === null ? undefined : readFileSync(caFile, 'utf8');
  const options = { cacheMaxAge: cacheMs, cooldownDuration: cooldownMs, timeoutDuration: FETCH_MS, [customFetch]: fetchWith(ca) };
  const keySet = createRemoteJWKSet(new URL(url), options);
  let failedUntil = 0;
  return async (header: TokenHeader) => {
    if (performance.now() < failedUntil) return known(keySet, header);
    try {
      return await keySet({ ...header });
    } catch (error) {
      if (isNoSuchKey(error)) throw error;
      failedUntil = performance.now() + FAILED_MS;
      return known(keySet, header, error);
    }
  };
}

function isNoSuchKey(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys;
}

/** While the issuer does not answer, for as long as its last set counts. @throws KmsError `issuer-unavailable` */
async function known({ jwks, fresh }: ReturnType<typeof createRemoteJWKSet>, header: TokenHeader, cause?: unknown): Promise<CryptoKey> {
  const set = fresh ? jwks() : undefined;
  if (set === undefined) throw unavailable(cause);
  try {
    return await createLocalJWKSet(set)({ ...header });
  } catch {
    throw unavailable(cause);
  }
}

function unavailable(cause?: unknown): KmsError {
  return new KmsError('issuer-unavailable', 'the keys of the issuer of this token cannot be had now', { cause });
}

const SET_BYTES_MAX = 1024 * 1024;

/** As the global one cannot be given a CA. Follows no redirection. */
function fetchWith(ca: string | undefined) {
  return (url: string, { signal }: { readonly signal: AbortSignal }): Promise<Response> => new Promise((resolve, reject) => {
    const asked = request(url, { signal, headers: { accept: 'application/json' }, ...(ca !== undefined && { ca }) }, (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > SET_BYTES_MAX) asked.destroy(new Error('the key set is too long'));
        else chunks.push(chunk);
      });
      answer.once('end', () => { resolve(new Response(Buffer.concat(chunks), { status: answer.statusCode ?? 500 })); });
      answer.once('error', reject);
    });
    asked.once('error', reject);
    asked.end();
  });
}
