/** `kms token issue`: an access token of the built-in issuer of a development installation, signed in the HSM. */

import { type Command, InvalidArgumentError } from 'commander';
import { LIFETIME_MAX } from '../auth/access-token.ts';
import { issueAccessToken, type SigningIssuer } from '../auth/issue-access-token.ts';
import { type Config, loadConfig } from '../config.ts';
import { assertSubject, issuerHere } from './dev-issuer.ts';
import { print } from './output.ts';
import { assignRoles, type Roles, tokenHolder, withRoles } from './roles.ts';
import { operator, type Session, withSession } from './session.ts';
import { clientCommands } from './token-client.ts';

interface Issue extends Roles {
  readonly subject: string;
  readonly lifetime: number;
}

export function tokenCommands(token: Command, finish: (code: number) => void): void {
  withRoles(token.command('issue'))
    .description('print a bearer token; what it may do is decided by the roles of its subject')
    .requiredOption('--subject <name>', 'who the token speaks for')
    .option('--lifetime <seconds>', `at most ${LIFETIME_MAX}`, seconds, LIFETIME_MAX)
    .action(async (options: Issue) => {
      print(await issueToken(loadConfig(process.env), options));
      finish(0);
    });
  clientCommands(token, finish);
}

function seconds(text: string): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > LIFETIME_MAX) throw new InvalidArgumentError(`expected seconds from 1 to ${LIFETIME_MAX}`);
  return value;
}

/** @throws KmsError `invalid-field`, `not-found` for the vault, `conflict` in `prod` */
export function issueToken(config: Config, { subject, lifetime, ...roles }: Issue): Promise<string> {
  assertSubject(subject);
  return withSession(config, async (session) => {
    const issuer = issuerHere(session);
    await session.openStore();
    if (roles.role.length > 0) await session.enrol();
    await assignRoles(session, tokenHolder(session.installation, subject), roles);
    return issue(session, issuer, subject, lifetime);
  });
}

async function issue({ audit, config }: Session, issuer: SigningIssuer, subject: string, lifetime: number): Promise<string> {
  const [audience = ''] = issuer.audiences;
  const { text, facts } = await issueAccessToken(issuer, { subject, audience, lifetime }, Date.now());
  await audit.append({ event: 'token.issue', result: 'success', principal: operator(config), detail: facts });
  return text;
}
