/**
 * What commands on a backup file need: the token of the installation that the file tells of, and an audit stream of
 * this home. There may be no store; the file's own rows name the token, and only the token's keys make them believed.
 */

import { createPublicKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { type AuditLog, openAuditLog } from '../audit/log.ts';
import { randomHex } from '../bytes.ts';
import type { Config } from '../config.ts';
import { Anchors } from '../crypto/anchor.ts';
import { CryptoEngine } from '../crypto/engine.ts';
import { deriveMacs, type Macs } from '../crypto/integrity-keys.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { paths } from '../home.ts';
import { headOf, refused } from '../store/backup-format.ts';
import { type Backup, verifyBackup } from '../store/backup-reader.ts';
import { isSealed } from '../store/seal.ts';
import { sealingParts, withToken } from './session.ts';

export interface BackupSession {
  readonly config: Config;
  readonly backup: Backup;
  readonly engine: CryptoEngine;
  readonly macs: Macs;
  readonly anchors: Anchors;
  readonly audit: AuditLog;
  readonly bootId: string;
}

/**
 * Verifies the file, then opens token and audit.
 * @throws KmsError `integrity` naming what of the file was altered; `token-unavailable` also for the token of another
 * installation
 */
export async function withBackup<T>(config: Config, path: string, run: (session: BackupSession) => Promise<T>): Promise<T> {
  const backup = verifyBackup(path, auditKey(config));
  const { installation, header } = backup;
  return withToken(config, installation, async (token) => {
    const macs = await deriveMacs(token, internalKey(installation, 'integrity'), installation.id, header.keyEpoch);
    if (!isSealed(macs, 'head', { ...headOf(header) })) throw refused('its head fails its seal: is this the token of the installation?');
    const bootId = randomHex(8);
    const audit = await openAuditLog({ directory: paths.audit(config.home), hostId: config.hostId, bootId });
    try {
      audit.seal(sealingParts(token, installation, installation.internalKeys, macs, null));
      const engine = new CryptoEngine(token, installation.id, internalKey(installation, 'import'));
      const anchors = new Anchors(token, installation.id, macs.anchor);
      return await run({ config, backup, engine, macs, anchors, audit, bootId });
    } finally {
      await audit.close();
    }
  });
}

/** The home's own copy goes before the one in the file. */
function auditKey({ home }: Config): Uint8Array | undefined {
  const path = paths.auditKey(home);
  if (!existsSync(path)) return undefined;
  return createPublicKey(readFileSync(path)).export({ format: 'der', type: 'spki' });
}
