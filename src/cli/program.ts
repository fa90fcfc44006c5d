/**
 * Argument list to command. Results go to standard output, everything else to standard error. Exit codes: 0 ok,
 * 1 failure, 2 usage, 5 HSM or network unavailable, 6 verification failed.
 */

import { Command } from 'commander';
import { asKmsError, type ErrorCode } from '../errors.ts';
import { packageVersion } from '../package.ts';
import { addCommands } from './commands.ts';
import { say } from './output.ts';

async function program(finish: (code: number) => void): Promise<Command> {
  const kms = new Command('kms').description('Key management service in front of an HSM').version(packageVersion());
  kms.configureHelp({ sortSubcommands: true }).exitOverride();
  // The second word is the command in `kms help COMMAND`.
  await addCommands(kms, process.argv.slice(2, 4), finish);
  return kms;
}

const EXIT_CODES: Partial<Record<ErrorCode, number>> = {
  'invalid-field': 2,
  'token-unavailable': 5,
  'store-unavailable': 5,
  integrity: 6,
};

function exitCode(error: unknown): number {
  const commander = error as { code?: unknown; exitCode?: unknown };
  if (typeof commander.code === 'string' && commander.code.startsWith('commander.')) {
    return commander.exitCode === 0 ? 0 : 2;
  }
  const { code, message, cause } = asKmsError(error);
  say(`kms: ${code === 'internal' && cause instanceof Error ? cause.message : message}`);
  return EXIT_CODES[code] ?? 1;
}

/** Runs the command of the command line, and ends the process. */
export async function run(): Promise<never> {
  try {
    const kms = await program((code) => { process.exitCode = code; });
    await kms.parseAsync();
  } catch (error) {
    process.exitCode = exitCode(error);
  }
  process.exit();
}
