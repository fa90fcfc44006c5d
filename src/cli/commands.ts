/**
 * The commands there are, and where each is described. Only the one that was asked for is loaded: it brings the store,
 * the token or the audit with it, and `kms help` needs none of them.
 */

import type { Command } from 'commander';

/** Adds options, subcommands and action to a command that has its name and description. */
export type Describe = (command: Command, finish: (code: number) => void) => void;

interface Entry {
  readonly name: string;
  readonly description: string;
  readonly load: () => Promise<Describe>;
}

const COMMANDS: readonly Entry[] = [
  {
    name: 'serve',
    description: 'serve the APIs until SIGTERM',
    load: async () => (await import('./serve-command.ts')).serveCommand,
  },
  {
    name: 'init',
    description: 'make an installation in $KMS_HOME; harmless when there is one',
    load: async () => (await import('./init-command.ts')).initCommand,
  },
  {
    name: 'doctor',
    description: 'check module, token, store and certificates, and say what is missing',
    load: async () => (await import('./doctor-command.ts')).doctorCommand,
  },
  { name: 'audit', description: 'the audit stream', load: async () => (await import('./audit.ts')).auditCommands },
  {
    name: 'backup',
    description: 'write the store and the heads of the audit to one signed file, while servers run',
    load: async () => (await import('./transfer-commands.ts')).backupCommand,
  },
  {
    name: 'restore',
    description: 'put the store of a backup into an empty one, or only try the backup out',
    load: async () => (await import('./transfer-commands.ts')).restoreCommand,
  },
  {
    name: 'migrate',
    description: 'bring the store to the schema of this program; harmless when it is there',
    load: async () => (await import('./transfer-commands.ts')).migrateCommand,
  },
  { name: 'store', description: 'the database of the installation', load: async () => (await import('./store.ts')).storeCommands },
  {
    name: 'reconcile',
    description: 'compare store and token; exit 0 only if all is well',
    load: async () => (await import('./reconcile.ts')).reconcileCommand,
  },
  {
    name: 'vault',
    description: 'make, show and change vaults, which hold keys',
    load: async () => (await import('./vault.ts')).vaultCommands,
  },
  {
    name: 'token',
    description: 'access tokens of a development installation',
    load: async () => (await import('./token.ts')).tokenCommands,
  },
  {
    name: 'cert',
    description: 'access certificates, by which clients prove who they are',
    load: async () => (await import('./certificate-commands.ts')).certificateCommands,
  },
  { name: 'role', description: 'who may do what', load: async () => (await import('./role-commands.ts')).roleCommands },
  { name: 'policy', description: 'roles and assignments, declared in a file', load: async () => (await import('./policy.ts')).policyCommands },
  {
    name: 'explain <request-id>',
    description: 'say what became of a request, which rule refused it, and which role would allow it',
    load: async () => (await import('./explain.ts')).explainCommand,
  },
];

/** @param asked first words of the command line: commands among them can be run, and show their own help */
export async function addCommands(kms: Command, asked: readonly string[], finish: (code: number) => void): Promise<void> {
  for (const { name, description, load } of COMMANDS) {
    const command = kms.command(name).description(description);
    if (asked.includes(command.name())) (await load())(command, finish);
  }
}
