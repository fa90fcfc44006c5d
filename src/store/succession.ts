/**
 * A move from one store to another (integrity §5), by what the two say themselves. The token's anchor is the switch: it
 * names one store, and the other is not ready. Steps of a move, each of which can be the last before a crash:
 *
 * 1. The copy is committed, with its new epoch. Not ready: the anchor names the source, which may still serve; so the
 *    copy is replaced when the move is tried again.
 * 2. The source's head is sealed `moved`, if it still is what was copied. Nobody serves now.
 * 3. The anchor names the copy, which may serve.
 * 4. Audit and settings. Each step begins by looking how far the move has come, so the same command goes on.
 */

import { KmsError } from '../errors.ts';
import { Changes } from './changes.ts';
import type { Engine } from './engine.ts';
import { authenticHead, findEntry, findHead, followChain, type JournalEnd } from './journal-statements.ts';
import { changeContext, MOVE } from './placement.ts';
import type { HeadTable } from './schema.ts';
import { sameBytes, type StoreMacs } from './seal.ts';
import { firstFilled } from './transfer.ts';

/**
 * What the target is to the source: `empty`; a copy of all there is (`copied`) or of an earlier state (`stale`), which
 * has not served; a copy of all there is that has served since (`ahead`).
 */
export type Succession = 'empty' | 'copied' | 'stale' | 'ahead';

/** The head of a store that may have been moved. @throws KmsError `integrity` */
export async function anyHead(engine: Engine, macs: StoreMacs): Promise<HeadTable> {
  return authenticHead(macs, await findHead(engine.reader), await engine.storeId());
}

/** @throws KmsError `conflict` when the target holds anything else */
export async function successionOf(source: Engine, target: Engine, macs: StoreMacs): Promise<Succession> {
  if ((await firstFilled(target.reader)) === undefined) return 'empty';
  const [from, to] = [await anyHead(source, macs), await targetHead(target, macs)];
  const first = await firstOfEpoch(target, to.epoch);
  const shared = first === undefined ? undefined : await findEntry(target.reader, first.seq - 1);
  const own = shared && (await findEntry(source.reader, shared.seq));
  const follows = first && shared && !('badSeq' in followChain(macs, shared, [first]));
  if (!own || !follows || !sameBytes(own.mac, shared.mac) || to.epoch !== from.epoch + 1 || to.status !== 'serving') throw notOurs();
  const untouched = to.seq === first.seq;
  if (shared.seq === from.seq) return untouched ? 'copied' : 'ahead';
  if (untouched) return 'stale';
  throw new KmsError('conflict', 'the target went on from an earlier state of this store: the two have different histories');
}

async function targetHead(target: Engine, macs: StoreMacs): Promise<HeadTable> {
  try {
    return await anyHead(target, macs);
  } catch (error) {
    if (error instanceof KmsError && error.code === 'integrity') throw notOurs(error);
    throw error;
  }
}

async function firstOfEpoch(target: Engine, epoch: number) {
  return target.reader
    .selectFrom('journal').selectAll().where('epoch', '=', epoch).where('request_id', '=', MOVE).orderBy('seq').limit(1).executeTakeFirst();
}

function notOurs(cause?: unknown): KmsError {
  return new KmsError('conflict', 'the target is not empty, and holds no copy of this store', { cause });
}

/**
 * Closes the source for good. Harmless when that was done before.
 * @param copied where its journal ended when it was copied
 * @throws KmsError `conflict` when it has changed since
 */
export async function sealMoved(source: Engine, macs: StoreMacs, bootId: string, copied: JournalEnd): Promise<void> {
  if ((await anyHead(source, macs)).status === 'moved') return;
  const context = changeContext(source, macs, await source.storeId(), bootId);
  await source.writer.transaction().execute(async (db) => {
    const changes = await Changes.begin(db, context, MOVE);
    const same = changes.head.seq === copied.seq && sameBytes(changes.head.mac, copied.mac);
    if (!same) throw new KmsError('conflict', 'the store changed while it was copied: stop every server, and run the command again');
    await changes.writeHead({ ...changes.head, status: 'moved' });
  });
}
