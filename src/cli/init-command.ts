/** `kms init` as a command: options, and which of the three ways they ask for. */

import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { initDev, initialise, type InitReport } from './init.ts';
import { assertNoPassword, joinInstallation } from './join.ts';
import { say } from './output.ts';
import { planFromFile, planFromTerminal } from './prod-plan.ts';
import { collect } from './roles.ts';

interface Init {
  readonly dev?: boolean;
  readonly join?: boolean;
  readonly from?: string;
  readonly store?: string;
  readonly profile: string;
  readonly pinFile?: string;
  readonly tokenDirectory?: string;
  readonly name: readonly string[];
}

async function init(options: Init): Promise<number> {
  const { home } = loadConfig({ KMS_HOME: process.env['KMS_HOME'] });
  if (options.join === true) return join(home, options);
  if (options.dev !== true) return initProduction(home, options.from);
  if (options.store !== undefined) assertNoPassword(options.store);
  tell(await initDev(home, say, options.store));
  return 0;
}

async function initProduction(home: string, from: string | undefined): Promise<number> {
  tell(await initialise(home, from === undefined ? await planFromTerminal() : await planFromFile(from), say));
  return 0;
}

function tell(report: InitReport): void {
  say(report.created ? `installation made in ${report.home}` : `installation in ${report.home} is there already`);
}

async function join(home: string, { store, profile, pinFile, tokenDirectory, name }: Init): Promise<number> {
  if (store === undefined || pinFile === undefined) {
    say('kms init --join: needs --store URL and --pin-file FILE');
    return 2;
  }
  const hostId = await joinInstallation(home, { store, profile, pinFile, tokenDirectory, names: name });
  say(`host ${hostId} joined from ${home}`);
  return 0;
}

export function initCommand(command: Command, finish: (code: number) => void): void {
  command
    .option('--dev', 'development set-up: SoftHSM token, SQLite, an administrator certificate')
    .option('--from <file>', 'production set-up: YAML that says what it needs; without it, and without --dev, the terminal is asked')
    .option('--join', 'make the home of a further host of an installation')
    .option('--store <url>', 'PostgreSQL instead of SQLite: postgres://user@host/database, the password in PGPASSWORD')
    .option('--profile <name>', '(join) file in hsm-config/, or the path of one', 'softhsm-2.6.1')
    .option('--pin-file <file>', '(join) file with the PIN of the token; it stays where it is')
    .option('--token-directory <directory>', '(join) where SoftHSM keeps the token')
    .option('--name <host>', '(join) further name or address for the server certificate', collect, [])
    .action(async (options: Init) => { finish(await init(options)); });
}
