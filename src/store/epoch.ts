/**
 * A new epoch of the store (integrity §5, §6): begun when an operator accepts a store that was rolled back, or moves it
 * to another database. The chain of the journal goes on; what anchors, checkpoints and peers saw in earlier epochs is
 * past, and contradicts nothing any more.
 */

import type { Changes } from './changes.ts';
import { damaged } from './seal.ts';

/**
 * To be called before anything else is written in this transaction. The first entry of the epoch is the installation's
 * row, which stays as it is.
 *
 * @param storeId the database the head belongs to from now on: for a restored or moved store another one than before
 * @param above the greatest epoch that any witness has seen: a lost future may have had epochs of its own
 * @throws KmsError `integrity` without an installation
 */
export async function beginEpoch(changes: Changes, storeId: string, above = 0): Promise<void> {
  changes.enterEpoch(Math.max(changes.head.epoch, above) + 1, storeId);
  const there = await changes.update('installation', { singleton: 1 }, null, {});
  if (!there) throw damaged('the store holds no installation');
}
