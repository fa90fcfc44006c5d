/**
 * `kms token client`: programs that get access tokens from the token endpoint of a development installation, by a secret
 * that is shown once. Servers may run beside it; they know of a client, and of its end, at once.
 */

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import type { TokenClient } from '../keys/key.ts';
import { newTokenClient } from '../keys/token-client.ts';
import { assertSubject, issuerHere } from './dev-issuer.ts';
import { type Output, outputOption, print } from './output.ts';
import { assignRoles, type Roles, tokenHolder, withRoles } from './roles.ts';
import { changingSession, recorded } from './recorded.ts';
import { openVerified, type Session, withAccess } from './session.ts';

interface Add extends Roles, Output {
  readonly subject: string;
}

/** What a client is configured with. */
export interface AddedClient {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly subject: string;
  readonly tenantId: string;
  readonly tokenEndpoint: string;
  readonly scope: string;
}

/** As lists show it. */
type ListedClient = Pick<TokenClient, 'id' | 'subject' | 'createdMs' | 'revokedMs'>;

export function clientCommands(token: Command, finish: (code: number) => void): void {
  const client = token.command('client').description('programs that get access tokens by a secret');
  const config = (): Config => loadConfig(process.env);
  withRoles(client.command('add'))
    .description('make a client and print its secret, this once')
    .requiredOption('--subject <name>', 'who the tokens of the client speak for')
    .addOption(outputOption())
    .action(async (options: Add) => {
      const added = await addClient(config(), options);
      print(options.output === 'json' ? JSON.stringify(added, null, 2) : formatAdded(added));
      finish(0);
    });
  client.command('list').description('list the clients, also those that are revoked').addOption(outputOption())
    .action(async ({ output }: Output) => {
      const clients = await listClients(config());
      print(output === 'json' ? JSON.stringify(clients, null, 2) : clients.map(formatListed).join('\n'));
      finish(0);
    });
  client.command('revoke <id>').description('give no more tokens to a client; those it has hold until they end')
    .action(async (id: string) => {
      await revokeClient(config(), id);
      finish(0);
    });
}

/** Roles come first: a secret is printed only when all of it is done. @throws KmsError `invalid-field`, `not-found` for the vault, `conflict` in `prod` */
export function addClient(config: Config, { subject, ...roles }: Add): Promise<AddedClient> {
  assertSubject(subject);
  return changingSession(config, async (session) => {
    const { tenant, authority, audiences } = issuerHere(session);
    await assignRoles(session, tokenHolder(session.installation, subject), roles);
    const { client, secret } = newTokenClient(subject, Date.now());
    await change(session, 'token.client.add', client, (requestId) => session.store.addTokenClient(client, requestId));
    const [scope] = audiences.map((audience) => `${audience}/.default`);
    return { clientId: client.id, clientSecret: secret, subject, tenantId: tenant, tokenEndpoint: `${authority}/oauth2/v2.0/token`, scope: scope ?? '' };
  });
}

/** In order of creation. @throws KmsError `conflict` in `prod` */
export function listClients(config: Config): Promise<readonly ListedClient[]> {
  return withAccess(config, async (access) => {
    issuerHere(access);
    await openVerified(access);
    const clients = await access.store.tokenClients();
    return clients.map(({ id, subject, createdMs, revokedMs }) => ({ id, subject, createdMs, revokedMs }));
  });
}

/** @throws KmsError `not-found` when there is no such client, or it is revoked; `conflict` in `prod` */
export function revokeClient(config: Config, id: string): Promise<void> {
  return changingSession(config, async (session) => {
    issuerHere(session);
    const client = (await session.store.tokenClients()).find((candidate) => candidate.id === id.toLowerCase());
    if (client === undefined || client.revokedMs !== null) throw new KmsError('not-found', `there is no client ${id}, or it is revoked`);
    await change(session, 'token.client.revoke', client, (requestId) => session.store.revokeTokenClient(client.id, Date.now(), requestId));
  });
}

async function change(
  session: Session,
  event: string,
  { id, subject }: Pick<TokenClient, 'id' | 'subject'>,
  run: (requestId: string) => Promise<void>,
): Promise<void> {
  const requestId = randomUUID();
  await run(requestId);
  await recorded(session, { event, requestId, detail: { client: id, subject } });
}

function formatAdded({ clientId, clientSecret, tenantId, tokenEndpoint, scope }: AddedClient): string {
  return [`client ${clientId}`, `secret ${clientSecret}`, `tenant ${tenantId}`, `endpoint ${tokenEndpoint}`, `scope ${scope}`].join('\n');
}

function formatListed({ id, subject, createdMs, revokedMs }: ListedClient): string {
  const ended = revokedMs === null ? '' : `, revoked ${new Date(revokedMs).toISOString()}`;
  return `${id} ${subject}, made ${new Date(createdMs).toISOString()}${ended}`;
}
