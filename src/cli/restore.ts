/**
 * `kms restore --from FILE`: puts the store of a backup into the empty one of this home, whose token is the
 * installation's. The store is behind the token's anchor then, or beside it, and serves nothing: to accept that is a
 * decision of its own, with a reason (`kms store accept-rollback`).
 */

import type { Config } from '../config.ts';
import { openStoreEngine, prepareStore } from '../parts.ts';
import { headOf } from '../store/backup-format.ts';
import { readBackup } from '../store/backup-reader.ts';
import type { Engine } from '../store/engine.ts';
import type { JournalEnd } from '../store/journal-statements.ts';
import { place } from '../store/placement.ts';
import { type BackupSession, withBackup } from './backup-session.ts';

export interface RestoreReport {
  readonly installation: string;
  readonly storeId: string;
  readonly epoch: number;
  readonly seq: number;
  readonly digest: string;
  /** What is left to do. */
  readonly next: string;
}

export function restore(config: Config, path: string): Promise<RestoreReport> {
  return withBackup(config, path, async (session) => {
    await prepareStore(config);
    const engine = await openStoreEngine(config, session.bootId);
    try {
      return await fill(session, engine);
    } finally {
      await engine.close();
    }
  });
}

async function fill(session: BackupSession, target: Engine): Promise<RestoreReport> {
  const { backup, macs, bootId, audit, anchors } = session;
  const { digest, header } = backup;
  const storeId = await target.storeId();
  // Before the commit: a restored store without the record of its restoring cannot exist.
  const beforeCommit = ({ seq }: JournalEnd): Promise<void> =>
    audit.append({ event: 'backup.restore', result: 'success', detail: { digest, epoch: header.epoch, seq, from: header.storeId, storeId } });
  const { head } = await place({ target, macs, bootId, head: headOf(header), batches: readBackup(backup), mode: 'copy', beforeCommit });
  const { highest } = await anchors.read();
  const known = highest === null ? 'the token holds no anchor' : `the token's anchor names ${highest.storeId} at entry ${highest.seq}`;
  const next = `${known}; this store is ${storeId} at entry ${head.seq}, and serves nothing before \`kms store accept-rollback --reason …\``;
  return { installation: header.installation, storeId, epoch: header.epoch, seq: head.seq, digest, next };
}
