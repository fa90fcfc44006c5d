/** The audit streams on this host's disk that the store does not know of: those of commands, and later ones. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type DeadStream, readDeadStream } from '../audit/dead-stream.ts';
import type { Config } from '../config.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { paths } from '../home.ts';
import type { Session } from './session.ts';

/** @param known boot ids that the store knows; this run's own stream is never among what is returned */
export async function unknownStreams(
  { config, installation, macs, bootId }: Pick<Session, 'config' | 'installation' | 'macs' | 'bootId'>,
  known: readonly string[],
): Promise<readonly DeadStream[]> {
  const { publicKey } = internalKey(installation, 'audit');
  const keys = { mac: macs.tail, publicKey: publicKey ?? new Uint8Array() };
  const boots = bootsOf(config).filter((boot) => boot !== bootId && !known.includes(boot));
  return Promise.all(boots.map((boot) => readDeadStream(paths.audit(config.home), config.hostId, boot, keys)));
}

function bootsOf({ home, hostId }: Config): readonly string[] {
  const directory = join(paths.audit(home), hostId);
  if (!existsSync(directory)) return [];
  const entries = readdirSync(directory, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map(({ name }) => name);
}
