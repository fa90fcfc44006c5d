/** Programs that get access tokens by a secret: made by the command, and asking as any OAuth client does. */

import { expect } from '@jest/globals';
import { runKms } from './files.ts';
import type { Answer, Client, Installation } from './installation.ts';

export interface AddedClient {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly subject: string;
  readonly tenantId: string;
  readonly tokenEndpoint: string;
  readonly scope: string;
}

/** @param args of `kms token client add` */
export async function addTokenClient(kms: Installation, ...args: readonly string[]): Promise<AddedClient> {
  const { code, stdout, stderr } = await runKms(kms.environment, 'token', 'client', 'add', ...args, '--output', 'json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout) as AddedClient;
}

export const FORM = { 'content-type': 'application/x-www-form-urlencoded' } as const;

/** The form of a request that is granted. */
export function grantForm({ clientId, clientSecret, scope }: AddedClient): Readonly<Record<string, string>> {
  return { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret, scope };
}

/** @param form text is sent as it is */
export function askToken(
  caller: Client,
  { tokenEndpoint }: AddedClient,
  form: Readonly<Record<string, string>> | string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const body = typeof form === 'string' ? form : new URLSearchParams(form).toString();
  return caller.call('POST', tokenEndpoint, body, { ...FORM, ...headers });
}
