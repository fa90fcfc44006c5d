/** `kms backup`, `kms restore` and `kms migrate` as commands: options, texts and exit codes. */

import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { backup, type BackupReport } from './backup.ts';
import { drill, type DrillFailure, type DrillReport } from './drill.ts';
import { faultOfUrl, migrateSchema, moveStore } from './migrate.ts';
import { type Output, outputOption, print, say } from './output.ts';
import { restore } from './restore.ts';

const USAGE = 2;
const NOT_VERIFIED = 6;

interface RestoreOptions extends Output {
  readonly from: string;
  readonly drill?: boolean;
}

export function backupCommand(command: Command, finish: (code: number) => void): void {
  command
    .requiredOption('--out <file>', 'where it goes; must not be there yet')
    .addOption(outputOption())
    .action(async (options: Output & { out: string }) => { finish(await orNotVerified(() => runBackup(options))); });
}

export function restoreCommand(command: Command, finish: (code: number) => void): void {
  command
    .requiredOption('--from <file>', 'a file of kms backup')
    .option('--drill', 'prove every key of the backup against the token, and change nothing')
    .addOption(outputOption())
    .action(async (options: RestoreOptions) => {
      finish(await orNotVerified(() => (options.drill === true ? runDrill(options) : runRestore(options))));
    });
}

export function migrateCommand(command: Command, finish: (code: number) => void): void {
  command
    .option('--to <url>', 'move the store to this empty PostgreSQL database; servers must be stopped')
    .action(async ({ to }: { to?: string }) => { finish(await orNotVerified(() => runMigrate(to))); });
}

/** What was altered, rolled back or forked is no failure like others. */
async function orNotVerified(run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof KmsError) || error.code !== 'integrity') throw error;
    say(`kms: ${error.message}`);
    return NOT_VERIFIED;
  }
}

async function runBackup({ out, output }: Output & { readonly out: string }): Promise<number> {
  const report = await backup(loadConfig(process.env), out);
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatBackup(report));
  if (report.damaged.length === 0) return 0;
  say(`kms: ${report.damaged.length} rows are damaged, and kms restore will refuse the file: ${report.damaged.slice(0, 5).join(', ')}`);
  return NOT_VERIFIED;
}

function formatBackup({ file, digest, epoch, seq, rows }: BackupReport): string {
  return `${file}: ${rows} rows, epoch ${epoch}, journal entry ${seq}\nsha256 ${digest}`;
}

async function runRestore({ from, output }: RestoreOptions): Promise<number> {
  const report = await restore(loadConfig(process.env), from);
  const { installation, seq, next } = report;
  print(output === 'json' ? JSON.stringify(report, null, 2) : `restored installation ${installation} up to journal entry ${seq}\n${next}`);
  return 0;
}

async function runDrill({ from, output }: RestoreOptions): Promise<number> {
  const report = await drill(loadConfig(process.env), from);
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatDrill(report));
  return report.ok ? 0 : NOT_VERIFIED;
}

function formatDrill({ keys, versions, objects, failures, seq, ok }: DrillReport): string {
  const totals = `${keys} keys, ${versions} versions, ${objects} objects, up to journal entry ${seq}`;
  return [...failures.map(formatFailure), totals, ok ? 'every key is there and proves itself' : `${failures.length} failures`].join('\n');
}

function formatFailure({ about, version, family, reason }: DrillFailure): string {
  const object = version === undefined ? '' : ` version ${version} ${family ?? ''}`;
  return `FAILED ${about}${object}: ${reason}`;
}

async function runMigrate(to: string | undefined): Promise<number> {
  if (to === undefined) {
    await migrateSchema(loadConfig(process.env));
    print('the store has the schema of this program');
    return 0;
  }
  const fault = faultOfUrl(to);
  if (fault !== undefined) {
    say(`kms migrate: --to: ${fault}`);
    return USAGE;
  }
  const { from, to: now, epoch, moved } = await moveStore(loadConfig(process.env), to, say);
  print(moved ? `the store ${from} is ${now} now, epoch ${epoch}` : `the store is ${now} already`);
  if (moved && (process.env['KMS_STORE_URL'] ?? '') !== '') say('KMS_STORE_URL goes before kms.yaml: change it, too');
  return 0;
}
