/** `kms policy`: shows the difference between a policy file and what is there, and makes it so. */

import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import type { PolicyChange } from '../store/store.ts';
import { confirmed } from './confirm.ts';
import { readGiven } from './given-files.ts';
import { print } from './output.ts';
import { policyChange, readPolicyFile } from './policy-file.ts';
import { changingSession, recorded } from './recorded.ts';
import { formatAssignment, type Policy, policyIn } from './role-commands.ts';

interface Apply {
  readonly yes?: true;
  readonly dryRun?: true;
}

export function policyCommands(policy: Command, finish: (code: number) => void): void {
  policy.command('apply <file>').description('make the roles and assignments of the installation those of a file; shows the difference and asks')
    .option('--dry-run', 'only show the difference')
    .option('--yes', 'do not ask')
    .action(async (file: string, options: Apply) => {
      await applyPolicy(loadConfig(process.env), file, options);
      finish(0);
    });
}

/** @throws KmsError `invalid-field`, `not-found`; `conflict` when nobody confirmed, and when nobody would be owner any more */
export async function applyPolicy(config: Config, path: string, { yes = false, dryRun = false }: { yes?: boolean; dryRun?: boolean }): Promise<void> {
  const file = readPolicyFile(readGiven('FILE', path));
  await changingSession(config, async (session) => {
    const now = await policyIn(session);
    const change = await policyChange(file, now, session);
    const lines = difference(change, now);
    print(lines.length === 0 ? 'nothing to change' : lines.join('\n'));
    if (dryRun || lines.length === 0) return;
    if (!(await confirmed(yes, 'This is what changes.'))) throw new KmsError('conflict', 'nobody confirmed: nothing was changed; --yes confirms');
    const requestId = randomUUID();
    await session.store.changePolicy(change, requestId);
    const { define, assign, withdraw, forget } = change;
    const detail = { defined: define.length, assigned: assign.length, withdrawn: withdraw.length, forgotten: forget.length };
    await recorded(session, { event: 'policy.apply', requestId, detail });
  });
}

/** One line for each change. */
function difference({ define, assign, withdraw, forget }: Required<PolicyChange>, { assignments, custom, vaults }: Policy): readonly string[] {
  const roles = [...define.map((role) => ({ ...role, revision: 0 })), ...custom];
  const roleLine = (sign: string, { name, permissions }: (typeof roles)[number]): string => `${sign} role ${name}: ${permissions.join(' ')}`;
  return [
    ...define.map((role) => roleLine(custom.some(({ id }) => id === role.id) ? '~' : '+', { ...role, revision: 0 })),
    ...assign.map((of) => `+ ${formatAssignment(of, roles, vaults)}`),
    ...assignments.filter(({ id }) => withdraw.includes(id)).map((of) => `- ${formatAssignment(of, roles, vaults)}`),
    ...custom.filter(({ id }) => forget.includes(id)).map((role) => roleLine('-', role)),
  ];
}
