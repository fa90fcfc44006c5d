/**
 * `kms backup --out FILE`: the store of the installation and the heads of its audit in one signed file, while servers
 * run. It holds no key material; what it does hold is confidential (docs/backup.md).
 */

import type { Config } from '../config.ts';
import { derSignature } from '../crypto/der-signature.ts';
import { internalKey, signWithInternalKey } from '../crypto/internal-keys.ts';
import { openStoreEngine } from '../parts.ts';
import { type BackupStream, headerOf } from '../store/backup-format.ts';
import { BackupWriter } from '../store/backup-writer.ts';
import type { Engine } from '../store/engine.ts';
import { checkedHead, findHead } from '../store/journal-statements.ts';
import { isSealed } from '../store/seal.ts';
import { type AnyRow, keyText, TABLES } from '../store/sealed-tables.ts';
import { type Batch, readTables } from '../store/transfer.ts';
import { anchorOf, assertAnchored } from './anchored.ts';
import { unknownStreams } from './host-streams.ts';
import { type Session, withSession } from './session.ts';

export interface BackupReport {
  readonly file: string;
  /** SHA-256 of the file, hex. */
  readonly digest: string;
  readonly installation: string;
  readonly epoch: number;
  readonly seq: number;
  readonly rows: number;
  /** Rows that fail their seals, by table and key: `kms restore` will refuse the file. */
  readonly damaged: readonly string[];
}

export function backup(config: Config, path: string): Promise<BackupReport> {
  return withSession(config, async (session) => {
    const engine = await openStoreEngine(config, session.bootId);
    try {
      await assertAnchored(engine, session.macs, await anchorOf(session.anchors));
      await session.store.unlock(session.macs);
      return await write(session, engine, path);
    } finally {
      await engine.close();
    }
  });
}

async function write(session: Session, engine: Engine, path: string): Promise<BackupReport> {
  const { token, installation, audit, bootId } = session;
  const writer = new BackupWriter(path, bootId);
  try {
    const copied = await copy(session, engine, writer);
    writer.streams(await streamsOf(session));
    const key = internalKey(installation, 'audit');
    const digest = await writer.finish(async (bytes) => derSignature(await signWithInternalKey(token, key, bytes)));
    const report = { file: path, digest, installation: installation.id, ...copied };
    const { epoch, seq, rows, damaged } = copied;
    const outcome = damaged.length === 0 ? ({ result: 'success' } as const) : ({ result: 'failed', reason: 'integrity' } as const);
    await audit.append({ event: 'backup.create', ...outcome, detail: { digest, epoch, seq, rows, damaged: damaged.length } });
    return report;
  } catch (error) {
    writer.abandon();
    throw error;
  }
}

/** Everything is of one moment, whatever servers commit meanwhile. */
async function copy({ macs, installation }: Session, engine: Engine, writer: BackupWriter): Promise<Pick<BackupReport, 'epoch' | 'seq' | 'rows' | 'damaged'>> {
  const storeId = await engine.storeId();
  return engine.snapshot(async (db) => {
    const head = checkedHead(macs, await findHead(db), storeId);
    writer.header(headerOf(head, installation, new Date()));
    let rows = 0;
    const damaged: string[] = [];
    for await (const batch of readTables(db)) {
      writer.rows(batch);
      rows += batch.rows.length;
      damaged.push(...brokenIn(macs, batch));
    }
    return { epoch: head.epoch, seq: head.seq, rows, damaged };
  });
}

function brokenIn(macs: Session['macs'], { table, rows }: Batch): string[] {
  if (!(table in TABLES)) return [];
  const sealed = table as keyof typeof TABLES;
  return rows.filter((row: AnyRow) => !isSealed(macs, sealed, row)).map((row) => `${table} ${keyText(sealed, row)}`);
}

/** As the store knows them, and those on this host's disk that it does not know. */
async function streamsOf(session: Session): Promise<readonly BackupStream[]> {
  const rows = await session.store.processes();
  const known = rows.map(({ hostId, bootId, stream, state }) => ({ stream: `${hostId}/${bootId}`, seq: stream.seq, head: stream.head, state }));
  const others = await unknownStreams(session, rows.map(({ bootId }) => bootId));
  const here = others.map(({ stream, seq, head, closed }) => ({ stream, seq, head, state: closed ? 'closed' : 'open' }));
  return [...known, ...here];
}
