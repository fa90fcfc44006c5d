/** `kms doctor` as a command. */

import type { Command } from 'commander';
import { diagnose } from './doctor.ts';
import { formatDoctor, type Output, outputOption, print } from './output.ts';

export function doctorCommand(command: Command, finish: (code: number) => void): void {
  command.addOption(outputOption()).action(async (options: Output) => { finish(await doctor(options)); });
}

async function doctor({ output }: Output): Promise<number> {
  const report = await diagnose(process.env);
  print(output === 'json' ? JSON.stringify(report, null, 2) : formatDoctor(report));
  return report.ok ? 0 : 1;
}
