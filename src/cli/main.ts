#!/usr/bin/env node
/**
 * Argument list to command. Results go to standard output, everything else to standard error. Exit codes: 0 ok,
 * 1 failure, 2 usage, 5 HSM or network unavailable, 6 verification failed.
 */

import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { asKmsError } from '../errors.ts';
import { auditCommands } from './audit.ts';
import { diagnose } from './doctor.ts';
import { initDev } from './init.ts';
import { formatDoctor, type Output, outputOption, print, say } from './output.ts';
import { reconcileCommand } from './reconcile.ts';
import { serve } from './serve.ts';
import { storeCommands } from './store.ts';

function version(): string {
  const path = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

async function init(options: { readonly dev?: boolean }): Promise<number> {
  if (options.dev !== true) {
    say('kms init: only --dev is implemented in this release');
    return 2;
  }
  const { home } = loadConfig({ KMS_HOME: process.env['KMS_HOME'] });
  const report = await initDev(home, say);
  say(report.created ? `installation made in ${home}` : `installation in ${home} is there already`);
  return 0;
}

async function doctor({ output }: Output): Promise<number> {
  const report = await diagnose(process.env);
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatDoctor(report));
  return report.ok ? 0 : 1;
}

function program(finish: (code: number) => void): Command {
  const kms = new Command('kms').description('Key management service in front of an HSM').version(version());
  kms.configureHelp({ sortSubcommands: true }).exitOverride();
  kms
    .command('init')
    .description('make an installation in $KMS_HOME; harmless when there is one')
    .option('--dev', 'development set-up: SoftHSM token, SQLite, an administrator certificate')
    .action(async (options: { dev?: boolean }) => { finish(await init(options)); });
  kms
    .command('serve')
    .description('serve the APIs until SIGTERM')
    .option('--dev-exposed', 'let a development installation listen beyond loopback')
    .action(async (options: { devExposed?: boolean }) => {
      finish(await serve({ devExposed: options.devExposed === true }));
    });
  kms
    .command('doctor')
    .description('check module, token, store and certificates, and say what is missing')
    .addOption(outputOption())
    .action(async (options: Output) => { finish(await doctor(options)); });
  auditCommands(kms, finish);
  storeCommands(kms, finish);
  reconcileCommand(kms, finish);
  return kms;
}

function exitCode(error: unknown): number {
  const commander = error as { code?: unknown; exitCode?: unknown };
  if (typeof commander.code === 'string' && commander.code.startsWith('commander.')) {
    return commander.exitCode === 0 ? 0 : 2;
  }
  const { code, message, cause } = asKmsError(error);
  say(`kms: ${code === 'internal' && cause instanceof Error ? cause.message : message}`);
  if (code === 'integrity') return 6;
  return code === 'token-unavailable' || code === 'store-unavailable' ? 5 : 1;
}

program((code) => { process.exitCode = code; })
  .parseAsync()
  .catch((error: unknown) => { process.exitCode = exitCode(error); })
  .finally(() => { process.exit(); });
