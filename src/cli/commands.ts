/** Every command but `serve`, which starts without what they need: loading it takes half a second. */

import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { auditCommands } from './audit.ts';
import { diagnose } from './doctor.ts';
import { initDev, initialise, type InitReport } from './init.ts';
import { assertNoPassword, joinInstallation } from './join.ts';
import { formatDoctor, type Output, outputOption, print, say } from './output.ts';
import { planFromFile, planFromTerminal } from './prod-plan.ts';
import { reconcileCommand } from './reconcile.ts';
import { storeCommands } from './store.ts';
import { tokenCommands } from './token.ts';
import { certificateCommands } from './certificate-commands.ts';
import { explainCommand } from './explain.ts';
import { policyCommands } from './policy.ts';
import { roleCommands } from './role-commands.ts';
import { collect } from './roles.ts';
import { addTransferCommands } from './transfer-commands.ts';
import { vaultCommands } from './vault.ts';

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

async function doctor({ output }: Output): Promise<number> {
  const report = await diagnose(process.env);
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatDoctor(report));
  return report.ok ? 0 : 1;
}

export function addCommands(kms: Command, finish: (code: number) => void): void {
  kms
    .command('init')
    .description('make an installation in $KMS_HOME; harmless when there is one')
    .option('--dev', 'development set-up: SoftHSM token, SQLite, an administrator certificate')
    .option('--from <file>', 'production set-up: YAML that says what it needs; without it, and without --dev, the terminal is asked')
    .option('--join', 'make the home of a further host of an installation')
    .option('--store <url>', 'PostgreSQL instead of SQLite: postgres://user@host/database, the password in PGPASSWORD')
    .option('--profile <name>', '(join) file in hsm-config/, or the path of one', 'softhsm-2.6.1')
    .option('--pin-file <file>', '(join) file with the PIN of the token; it stays where it is')
    .option('--token-directory <directory>', '(join) where SoftHSM keeps the token')
    .option('--name <host>', '(join) further name or address for the server certificate', collect, [])
    .action(async (options: Init) => { finish(await init(options)); });
  kms
    .command('doctor')
    .description('check module, token, store and certificates, and say what is missing')
    .addOption(outputOption())
    .action(async (options: Output) => { finish(await doctor(options)); });
  auditCommands(kms, finish);
  addTransferCommands(kms, { print, say, finish, outputOption });
  storeCommands(kms, finish);
  reconcileCommand(kms, finish);
  vaultCommands(kms, finish);
  tokenCommands(kms, finish);
  certificateCommands(kms, finish);
  roleCommands(kms, finish);
  policyCommands(kms, finish);
  explainCommand(kms, finish);
}
