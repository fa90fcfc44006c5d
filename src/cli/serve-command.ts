/** `kms serve` as a command. */

import type { Command } from 'commander';
import { serve } from './serve.ts';

export function serveCommand(command: Command, finish: (code: number) => void): void {
  command
    .option('--dev-exposed', 'let a development installation listen beyond loopback')
    .action(async ({ devExposed }: { devExposed?: boolean }) => { finish(await serve({ devExposed: devExposed === true })); });
}
