/**
 * Whether a store is the one the token knows, for commands that copy it: they look before anything of them, such as a
 * checkpoint of their own audit stream, speaks for that store.
 */

import type { Anchors } from '../crypto/anchor.ts';
import { KmsError } from '../errors.ts';
import type { Engine } from '../store/engine.ts';
import type { StoreMacs, Witness } from '../store/evidence.ts';
import { judge } from '../store/head.ts';
import { anyHead } from '../store/succession.ts';

type Anchor = NonNullable<Awaited<ReturnType<Anchors['read']>>['highest']>;

/** @throws KmsError `integrity` when there is none */
export async function anchorOf(anchors: Anchors): Promise<Anchor> {
  const { highest } = await anchors.read();
  if (highest === null) throw misfit('the token holds no anchor of this installation');
  return highest;
}

/** @throws KmsError `integrity` when the store is behind the anchor or beside it */
export async function assertAnchored(engine: Engine, macs: StoreMacs, { storeId, epoch, seq, journalMac }: Anchor): Promise<void> {
  if (storeId !== (await engine.storeId())) throw misfit(`the token's anchor names another store (${storeId})`);
  await assertKnows(engine, macs, { epoch, seq, mac: journalMac }, 'the token');
}

/** @param who saw that of the store @throws KmsError `integrity` when the store is behind it or beside it */
export async function assertKnows(engine: Engine, macs: StoreMacs, witness: Witness, who: string): Promise<void> {
  const head = await anyHead(engine, macs);
  const verdict = await engine.snapshot((db) => judge(db, head, witness));
  if (verdict === 'rolled-back' || verdict === 'forked') throw misfit(`the store is ${verdict}: ${who} saw entry ${witness.seq} of it`);
}

export function misfit(message: string): KmsError {
  return new KmsError('integrity', `${message}; see \`kms store accept-rollback\``);
}
