/** The published JavaScript clients of Key Vault, unmodified, over TLS with the installation's CA. */

import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import type * as Sdk from 'keyvault-keys-4.10';
import { issueToken } from '../support/bearer.ts';
import type { Installation } from '../support/installation.ts';

/** Everything that the tests use is in each of these. */
export const SDKS = {
  '4.10.2': () => import('keyvault-keys-4.10'),
  '4.9.0': () => import('keyvault-keys-4.9') as unknown as Promise<typeof Sdk>,
  '4.8.0': () => import('keyvault-keys-4.8') as unknown as Promise<typeof Sdk>,
  '4.7.2': () => import('keyvault-keys-4.7') as unknown as Promise<typeof Sdk>,
} as const;

export type SdkVersion = keyof typeof SDKS;

export interface Connected {
  readonly sdk: typeof Sdk;
  readonly url: string;
  readonly client: Sdk.KeyClient;
  readonly cryptography: (key: Sdk.KeyVaultKey | string) => Sdk.CryptographyClient;
  readonly close: () => void;
}

const owners = new WeakMap<Installation, Map<string, Promise<string>>>();

/** The same token for all clients of a vault: a command costs more than what most tests do with it. */
function ownerOf(kms: Installation, vault: string): Promise<string> {
  const tokens = owners.get(kms) ?? new Map<string, Promise<string>>();
  owners.set(kms, tokens);
  const known = tokens.get(vault) ?? issueToken(kms, '--subject', 'sdk', '--role', 'owner', '--vault', vault);
  tokens.set(vault, known);
  return known;
}

/** Plain Debian resolves `localhost` and nothing below it. */
function lookup(_host: string, options: { readonly all?: boolean }, done: (error: null, address: unknown, family?: number) => void): void {
  const address = '127.0.0.1';
  const family = isIPv4(address) ? 4 : 6;
  if (options.all === true) done(null, [{ address, family }]);
  else done(null, address, family);
}

/**
 * @param vault names the host, so that the client can verify the challenge
 * @param token of the caller; the administrator's by default
 */
export async function connect(
  kms: Installation,
  version: SdkVersion,
  vault: string,
  { token, serviceVersion, maxRetries = 0 }: { readonly token?: string; readonly serviceVersion?: string; readonly maxRetries?: number } = {},
): Promise<Connected> {
  const sdk = await SDKS[version]();
  const bearer = token ?? await ownerOf(kms, vault);
  const credential = { getToken: () => Promise.resolve({ token: bearer, expiresOnTimestamp: Date.now() + 3_000_000 }) };
  const agent = new Agent({ keepAlive: true, ca: readFileSync(join(kms.home, 'tls', 'ca.pem')), lookup: lookup as never });
  const policy = {
    name: 'ownAgent',
    sendRequest(request: { agent?: unknown }, next: (request: unknown) => Promise<unknown>): Promise<unknown> {
      request.agent = agent;
      return next(request);
    },
  };
  const options = {
    additionalPolicies: [{ policy, position: 'perCall' }],
    retryOptions: { maxRetries },
    ...(serviceVersion !== undefined && { serviceVersion }),
  } as unknown as Sdk.KeyClientOptions;
  const url = `https://${vault}.localhost:${kms.port}`;
  return {
    sdk,
    url,
    client: new sdk.KeyClient(url, credential, options),
    cryptography: (key) => new sdk.CryptographyClient(key, credential, options),
    close: () => { agent.destroy(); },
  };
}
