/**
 * `kms migrate`: brings the configured store to this program's schema. `kms migrate --to URL`: moves the store to a
 * PostgreSQL database, verified by its seals; the steps, and what a crash between them leaves, stand in
 * `store/succession.ts`.
 */

import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseDocument } from 'yaml';
import type { Config } from '../config.ts';
import { KmsError } from '../errors.ts';
import { paths, writeWhole } from '../home.ts';
import { migrateStore, openStoreEngine, storePassword } from '../parts.ts';
import type { Engine } from '../store/engine.ts';
import { findEntry, findHead, type JournalEnd } from '../store/journal-statements.ts';
import { place } from '../store/placement.ts';
import { preparePostgres } from '../store/postgres.ts';
import type { HeadTable } from '../store/schema.ts';
import { anyHead, sealMoved, successionOf } from '../store/succession.ts';
import { readTables } from '../store/transfer.ts';
import { anchorOf, assertAnchored, assertKnows, misfit } from './anchored.ts';
import { unknownStreams } from './host-streams.ts';
import { assertNoServers, type Session, withSession } from './session.ts';

export interface MoveReport {
  readonly from: string;
  readonly to: string;
  readonly epoch: number;
  readonly seq: number;
  /** False when the store was there already. */
  readonly moved: boolean;
}

/** Harmless when there is nothing to do. @throws KmsError `internal` without a store */
export async function migrateSchema(config: Config): Promise<void> {
  const missing = config.store.url === '' && !existsSync(paths.store(config.home));
  if (missing) throw new KmsError('internal', `no store in ${config.home}: run \`kms init\` first`);
  await migrateStore(config);
}

/** @returns why a URL is refused; undefined when it is not */
export function faultOfUrl(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['postgres:', 'postgresql:'].includes(url.protocol)) return 'expected postgres://user@host/database';
  const secret = url.password !== '' || url.searchParams.has('password');
  return secret ? 'a password never comes as an argument: put it into the file of store.passwordFile, or into PGPASSWORD' : undefined;
}

/** @param url without a password */
export function moveStore(config: Config, url: string, say: (line: string) => void): Promise<MoveReport> {
  return withSession(config, async (session) => {
    await preparePostgres(url, storePassword(config));
    const [source, target] = [await openStoreEngine(config, session.bootId), await openStoreEngine(config, session.bootId, url)];
    try {
      return await new Move(session, source, target, url, say).run();
    } finally {
      await Promise.all([source.close(), target.close()]);
    }
  });
}

class Move {
  readonly #session: Session;
  readonly #source: Engine;
  readonly #target: Engine;
  readonly #url: string;
  readonly #say: (line: string) => void;

  constructor(session: Session, source: Engine, target: Engine, url: string, say: (line: string) => void) {
    this.#session = session;
    this.#source = source;
    this.#target = target;
    this.#url = url;
    this.#say = say;
  }

  async run(): Promise<MoveReport> {
    const [from, to] = [await this.#source.storeId(), await this.#target.storeId()];
    if (from === to) return this.#report(from, to, false);
    const anchored = await this.#anchored(to);
    const { macs, store } = this.#session;
    const { status } = await anyHead(this.#source, macs);
    if (status === 'serving') {
      await store.unlock(macs);
      await assertNoServers(store, this.#session.config);
    }
    await this.#copy(anchored, status);
    await this.#close();
    if (anchored === 'source') await this.#anchor();
    return this.#settle(from, to);
  }

  /**
   * Which of the two the token's anchor names. A store that was rolled back must not be moved: its new epoch would
   * hide it.
   * @throws KmsError `integrity` for a third one, none, or a source that does not fit its anchor
   */
  async #anchored(to: string): Promise<'source' | 'target'> {
    const { anchors, macs } = this.#session;
    const anchor = await anchorOf(anchors);
    if (anchor.storeId === to) {
      await assertAnchored(this.#target, macs, anchor);
      return 'target';
    }
    await assertAnchored(this.#source, macs, anchor);
    await this.#assertWitnessed();
    return 'source';
  }

  /** As a server does at its start: streams of this host that the store does not know of saw it, too. */
  async #assertWitnessed(): Promise<void> {
    const rows = await this.#source.reader.selectFrom('process').select('boot_id').execute();
    const streams = await unknownStreams(this.#session, rows.map(({ boot_id }) => boot_id));
    for (const { stream, lastCheckpoint } of streams) {
      if (lastCheckpoint === null) continue;
      const { epoch, seq, mac } = lastCheckpoint.store;
      await assertKnows(this.#source, this.#session.macs, { epoch, seq, mac: Buffer.from(mac, 'hex') }, `the audit stream ${stream}`);
    }
  }

  /** A copy is made anew while the source may have served since: its counters stand outside the journal. */
  async #copy(anchored: 'source' | 'target', status: HeadTable['status']): Promise<void> {
    const state = await successionOf(this.#source, this.#target, this.#session.macs);
    if (anchored === 'target') {
      if (state === 'copied' || state === 'ahead') return;
      throw misfit('the token has the target as this installation’s store already, which has another history');
    }
    if (state === 'copied' && status === 'moved') return;
    if (state === 'ahead') throw misfit('the target has served, and the token does not know of it');
    this.#say('copying and verifying');
    const { macs, bootId } = this.#session;
    await this.#source.snapshot(async (db) => {
      const head = await headIn(db);
      await place({ target: this.#target, macs, bootId, head, batches: readTables(db), mode: 'move', replace: state !== 'empty' });
    });
    this.#say('copied and verified');
  }

  /** The end of the copied journal is the entry before the one that began the new epoch. */
  async #close(): Promise<void> {
    const { macs, bootId, store } = this.#session;
    const { seq } = await anyHead(this.#source, macs);
    const copied: JournalEnd | undefined = await findEntry(this.#target.reader, seq);
    if (copied === undefined) throw misfit('the copy lacks the newest entry');
    const { status } = await anyHead(this.#source, macs);
    if (status === 'serving') await assertNoServers(store, this.#session.config);
    await sealMoved(this.#source, macs, bootId, copied);
    this.#say('the old store is closed for good');
  }

  async #anchor(): Promise<void> {
    const { anchors, macs } = this.#session;
    const { store_id: storeId, epoch, seq, mac } = await anyHead(this.#target, macs);
    const rows = await this.#target.reader.selectFrom('process').selectAll().execute();
    const heads = rows.map(({ host_id, boot_id, stream_seq, head }) => `${host_id}/${boot_id} ${stream_seq} ${head}`);
    const auditHeads = createHash('sha256').update(heads.sort().join('\n')).digest();
    await anchors.write({ storeId, epoch, seq, journalMac: mac, auditHeads, writtenMs: Date.now() });
    this.#say('the token knows the new store');
  }

  async #settle(from: string, to: string): Promise<MoveReport> {
    const { audit, config } = this.#session;
    const report = await this.#report(from, to, true);
    const { epoch, seq } = report;
    await audit.append({ event: 'store.move', result: 'success', detail: { from, to, epoch, seq } });
    writeStoreUrl(join(config.home, 'kms.yaml'), this.#url);
    return report;
  }

  async #report(from: string, to: string, moved: boolean): Promise<MoveReport> {
    const { epoch, seq } = await anyHead(this.#target, this.#session.macs);
    return { from, to, epoch, seq, moved };
  }
}

async function headIn(db: Parameters<typeof findHead>[0]): Promise<HeadTable> {
  const head = await findHead(db);
  if (head === undefined) throw misfit('the store has no head');
  return head;
}

/** Comments and everything else of the file stay. */
function writeStoreUrl(path: string, url: string): void {
  const document = parseDocument(existsSync(path) ? readFileSync(path, 'utf8') : '');
  document.setIn(['store', 'url'], url);
  writeWhole(path, document.toString(), 0o600);
}
