/** The noun `store`: its commands, and how their results are printed. */

import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { acceptRollback, type AcceptReport } from './accept-rollback.ts';
import { confirmed } from './confirm.ts';
import { type Output, outputOption, print, say } from './output.ts';

interface AcceptArguments extends Output {
  readonly reason: string;
  readonly yes?: boolean;
  readonly ignoreDamagedAudit?: boolean;
}

const QUESTION = 'This goes on from an earlier state of the store: changes since then are lost, but for restrictions.';

export function storeCommands(store: Command, finish: (code: number) => void): void {
  store
    .command('accept-rollback')
    .description('go on with a store that was restored, or that token or audit contradict; servers must be stopped')
    .requiredOption('--reason <text>', 'why; goes to the audit')
    .option('--yes', 'do not ask')
    .option('--ignore-damaged-audit', 'use what a damaged audit holds up to its first bad position')
    .addOption(outputOption())
    .action(async (options: AcceptArguments) => { finish(await accept(options)); });
}

async function accept({ reason, yes, ignoreDamagedAudit, output }: AcceptArguments): Promise<number> {
  if (reason.trim() === '') {
    say('kms store accept-rollback: --reason must say why');
    return 2;
  }
  if (!(await confirmed(yes === true, QUESTION))) {
    say('kms store accept-rollback: not confirmed; pass --yes where nobody can be asked');
    return 2;
  }
  const report = await acceptRollback(loadConfig(process.env), { reason, ignoreDamagedAudit: ignoreDamagedAudit === true });
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatAcceptance(report));
  return 0;
}

export function formatAcceptance({ found, epoch, seq, reapplied, rebuilt, lost, counters, withdrawnIntents, unread }: AcceptReport): string {
  return [
    `accepted: ${found}`,
    `epoch ${epoch.before} -> ${epoch.after}, journal ${seq.before} -> ${seq.after}; ${counters} invocation counters raised`,
    ...(withdrawnIntents > 0 ? [`${withdrawnIntents} announcements withdrawn: their work was completed in the lost future`] : []),
    ...unread.map((stream) => `the audit stream ${stream} is not here: what it restricted is NOT applied`),
    ...reapplied.map(({ vaultId, keyId, state, reason }) => `${vaultId}/${keyId}: ${state} again (${reason})`),
    ...rebuilt.map(({ vaultId, keyId, state, versions }) =>
      `${vaultId}/${keyId}: version ${versions.join(', ')} rebuilt, ${state}; label and context of a lost row are gone`),
    ...lost.map(({ vaultId, keyId, version, objectIds, why }) =>
      `${vaultId}/${keyId}: ${version === null ? 'LOST' : `version ${version} LOST`}: ${why}; objects left on the token: ${objectIds.join(' ') || 'none known'}`),
  ].join('\n');
}
