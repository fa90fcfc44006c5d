/** `kms cert`: the access certificates of an installation. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { ACCESS_DAYS_MAX } from '../auth/issue-certificate.ts';
import { type Config, loadConfig } from '../config.ts';
import { writeWhole } from '../home.ts';
import { IDENTITIES_MAX, type Issue, issueCredential, listCredentials, type ListedCredential, makeCrl, revoke } from './certificates.ts';
import { type Output, outputOption, print } from './output.ts';
import { collect, withRoles } from './roles.ts';

export function certificateCommands(cert: Command, finish: (code: number) => void): void {
  const config = (): Config => loadConfig(process.env);
  withRoles(cert.command('issue'))
    .description('issue an access certificate; what it may do is decided by the roles of its subject and identities')
    .requiredOption('--subject <name>', 'who the certificate speaks for')
    .requiredOption('--out <directory>', 'where the files go')
    .addOption(new Option('--type <type>', 'of the key that is made for it').choices(['ecdsa', 'rsa']).default('ecdsa'))
    .option('--csr <file>', 'instead: the request of somebody who has a key (PKCS#10, PEM)')
    .option('--identity <urn>', `what it also speaks for; repeatable, at most ${IDENTITIES_MAX}`, collect, [])
    .option('--days <days>', `how long it is valid, at most ${ACCESS_DAYS_MAX}`, days, ACCESS_DAYS_MAX)
    .option('--p12-password-file <file>', 'also write PKCS#12, under the password in this file')
    .addOption(outputOption())
    .action(async (options: Issue & Output) => {
      const { files, ...issued } = await issueCredential(config(), options);
      print(options.output === 'json' ? JSON.stringify({ ...issued, ...files }, null, 2) : `${issued.id} ${files.certificate}`);
      finish(0);
    });
  cert.command('list').description('list the certificates, also those that are revoked or over').addOption(outputOption())
    .action(async ({ output }: Output) => {
      const listed = await listCredentials(config());
      print(output === 'json' ? JSON.stringify(listed, null, 2) : listed.map(formatListed).join('\n'));
      finish(0);
    });
  cert.command('revoke <id>').description('accept a certificate no more, from now on and on open connections')
    .action(async (id: string) => { await revoke(config(), id); finish(0); });
  cert.command('crl').description('print the list of revoked certificates, for others who accept our CA')
    .option('--out <file>', 'write it there instead')
    .action(async ({ out }: { readonly out?: string }) => {
      const crl = await makeCrl(config());
      if (out === undefined) print(crl.trimEnd());
      else writeWhole(out, crl, 0o644);
      finish(0);
    });
}

function days(text: string): number {
  const value = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > ACCESS_DAYS_MAX) throw new InvalidArgumentError(`expected days from 1 to ${ACCESS_DAYS_MAX}`);
  return value;
}

function formatListed({ id, subject, identities, notAfterMs, revokedMs }: ListedCredential): string {
  const end = revokedMs === null ? `valid until ${new Date(notAfterMs).toISOString()}` : `revoked ${new Date(revokedMs).toISOString()}`;
  return `${id} ${subject}, ${end}${identities.length === 0 ? '' : `, ${identities.join(' ')}`}`;
}
