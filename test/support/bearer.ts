/** Callers with an access token instead of a client certificate, in any vault. */

import { expect } from '@jest/globals';
import { runKms } from './files.ts';
import type { Answer, Client, Installation } from './installation.ts';

/** @param args of `kms token issue` @returns the token */
export async function issueToken(kms: Installation, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runKms(kms.environment, 'token', 'issue', ...args);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
  return stdout.trim();
}

export function asBearer(client: Client, token: string, ...[method, path, body]: Parameters<Client['call']>): Promise<Answer> {
  return client.call(method, path, body, { authorization: `Bearer ${token}` });
}

/** Where the OKMS API of a vault is. */
export async function baseOf(kms: Installation, vault: string): Promise<string> {
  const { code, stdout } = await runKms(kms.environment, 'vault', 'show', vault, '--output', 'json');
  expect(code).toBe(0);
  return `https://localhost:${kms.port}/api/${(JSON.parse(stdout) as { id: string }).id}/v1`;
}
