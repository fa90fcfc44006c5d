/**
 * The anchor: a small data object on the token that names a recent head of the store, so that a store and an audit rolled
 * back together are found out (integrity §5, security S-3).
 *
 * Invariant: at every moment a reader finds an anchor that is at least as high as the last one written.
 */

import { KmsError } from '../errors.ts';
import { DATA_VALUE_MAX, type DataObject, labelPrefixes, type Token } from '../pkcs11/token.ts';
import { type Anchor, decodeAnchor, encodeAnchor } from './anchor-encoding.ts';
import type { Mac } from './integrity-keys.ts';

export { type Anchor, decodeAnchor, encodeAnchor } from './anchor-encoding.ts';

export interface AnchorsRead {
  /** By epoch, then seq; null when the token holds none. */
  readonly highest: Anchor | null;
  /** Highest first. Several at once are normal. */
  readonly all: readonly Anchor[];
  /** Objects under the label of anchors that are none of this installation's: edited, cut short, or of another key epoch. */
  readonly damaged: number;
}

interface Found {
  readonly anchor: Anchor;
  readonly object: DataObject;
}

/** The anchors of one installation. Any number of processes may write at once. */
export class Anchors {
  readonly #token: Token;
  readonly #installation: string;
  readonly #mac: Mac;
  readonly #application: string;
  readonly #label: string;

  /** @param mac under K_anchor */
  constructor(token: Token, installation: string, mac: Mac) {
    this.#token = token;
    this.#installation = installation;
    this.#mac = mac;
    this.#application = `kms:${installation}`;
    this.#label = `${labelPrefixes(installation).keys}anchor`;
  }

  /** @throws KmsError `token-unavailable` rather than find nothing on a token that is gone */
  async read(): Promise<AnchorsRead> {
    const { found, damaged } = await this.#find();
    const all = found.map(({ anchor }) => anchor).sort((a, b) => compare(b, a));
    return { highest: all[0] ?? null, all, damaged };
  }

  /**
   * Destroys what is lower, after the new one is there and read back. "The old one" it may not destroy: with several
   * writers each takes another's new one for that, and for a moment there is none (measured, integrity §5).
   * @throws KmsError; the anchor may be written then, and what was there before still is
   */
  async write(anchor: Anchor): Promise<void> {
    const value = encodeAnchor(anchor, this.#installation, this.#mac);
    if (value.length > DATA_VALUE_MAX) throw new KmsError('internal', `an anchor of ${value.length} bytes is too long`);
    const { found } = await this.#find();
    const obsolete = found.filter((old) => isObsolete(old.anchor, anchor)).map(({ object }) => object);
    await this.#token.replaceData(this.#application, this.#label, value, obsolete);
  }

  /** Other labels of our application are no anchors, and nothing is said about them. */
  async #find(): Promise<{ readonly found: readonly Found[]; readonly damaged: number }> {
    const objects = (await this.#token.readData(this.#application)).filter(({ label }) => label === this.#label);
    const found = objects
      .map((object) => ({ object, anchor: decodeAnchor(object.value, this.#installation, this.#mac) }))
      .filter((one): one is Found => one.anchor !== undefined);
    return { found, damaged: objects.length - found.length };
  }
}

/** By epoch, then seq, then time. */
function compare(a: Anchor, b: Anchor): number {
  return a.epoch - b.epoch || a.seq - b.seq || a.writtenMs - b.writtenMs;
}

/**
 * Of anchors with one epoch and seq only an earlier one that names the very same head may go, lest they pile up while
 * the store rests: one that differs shows that the store was forked.
 */
function isObsolete(old: Anchor, written: Anchor): boolean {
  if (old.epoch !== written.epoch || old.seq !== written.seq) return compare(old, written) < 0;
  const sameHead = old.storeId === written.storeId && Buffer.from(old.journalMac).equals(written.journalMac);
  return sameHead && old.writtenMs < written.writtenMs;
}
