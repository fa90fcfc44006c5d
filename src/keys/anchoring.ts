/**
 * When the token's anchor is read and written (integrity §5). It names a recent head of the store, so that a store put
 * back together with its audit is found out. Read before the store is believed; written by one process for all, at
 * start, at regular times, soon after a restriction, and at shutdown.
 */

import type { Anchor } from '../crypto/anchor.ts';
import { KmsError } from '../errors.ts';
import type { Head, KeyStore } from '../store/store.ts';
import type { Logger } from '../telemetry/log.ts';

/** The anchors on the token; several at once are normal. */
export interface AnchorObjects {
  read(): Promise<{ readonly highest: Anchor | null; readonly damaged: number }>;
  write(anchor: Anchor): Promise<void>;
}

export interface AnchoringOptions {
  readonly anchors: AnchorObjects;
  readonly store: KeyStore;
  readonly bootId: string;
  readonly logger: Logger;
  readonly now: () => number;
  /** Milliseconds between two anchors while nothing is restricted. */
  readonly periodMs: number;
  /** Milliseconds between two anchors, whatever happens: spares the flash of an HSM. */
  readonly minIntervalMs: number;
  /** Digest of the audit heads that the store knows. */
  readonly auditHeads: () => Promise<Uint8Array>;
  /** The store is behind the anchor or beside it. */
  readonly onFault: (error: KmsError) => void;
}

const DUTY = 'anchor';
const DUTY_MS = 15_000;
/** A restriction is anchored within a second. */
const SOON_MS = 500;
/** The token may have been restored from a backup when it knows so much less than the store. */
const BEHIND_MS = 600_000;

export class Anchoring {
  readonly #options: AnchoringOptions;
  #writtenSeq = -1;
  #writtenMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: AnchoringOptions) {
    this.#options = options;
  }

  /**
   * Compares the store with the token's anchor, which is read first: it is written only after its commit, so it is
   * never ahead of an honest store.
   * @throws KmsError `integrity` when there is none, or it does not fit; `token-unavailable`
   */
  async check(): Promise<Anchor> {
    const { anchors, store } = this.#options;
    const highest = await checkAnchor(anchors, store);
    this.#warnIfBehind(highest, store.head());
    return highest;
  }

  /** Goes on until `stop`. */
  start(): void {
    this.#schedule(0);
  }

  /** A key was disabled, compromised or destroyed: its end must not be undone by a roll-back. */
  restricted(): void {
    this.#schedule(SOON_MS);
  }

  /** Writes a last anchor, if there is something new and the token still answers. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#writing;
    await this.#write().catch((err: unknown) => { this.#options.logger.warn({ err }, 'no last anchor'); });
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    const earliest = this.#writtenMs + this.#options.minIntervalMs - performance.now();
    this.#timer = setTimeout(() => { this.#writing = this.#round(); }, Math.max(delayMs, earliest)).unref();
  }

  async #round(): Promise<void> {
    try {
      await this.#write();
    } catch (err) {
      this.#options.logger.warn({ err }, 'anchor not written');
    }
    this.#schedule(this.#options.periodMs);
  }

  async #write(): Promise<void> {
    const { anchors, store, bootId, now, auditHeads, onFault } = this.#options;
    if (!(await store.takeDuty(DUTY, bootId, DUTY_MS))) return;
    try {
      const seen = await this.check();
      const { storeId, epoch, seq, mac } = store.head();
      if (seen.seq === seq && seen.epoch === epoch && this.#writtenSeq === seq) return;
      await anchors.write({ storeId, epoch, seq, journalMac: mac, auditHeads: await auditHeads(), writtenMs: now() });
      this.#writtenSeq = seq;
      this.#writtenMs = performance.now();
    } catch (error) {
      if (error instanceof KmsError && error.code === 'integrity') onFault(error);
      throw error;
    } finally {
      await store.takeDuty(DUTY, bootId, 0).catch(() => undefined);
    }
  }

  #warnIfBehind({ seq, writtenMs }: Anchor, head: Head): void {
    const { now, logger } = this.#options;
    if (head.seq - seq > 0 && now() - writtenMs > BEHIND_MS) {
      logger.warn({ event: 'token-behind', anchor: seq, head: head.seq, writtenMs }, 'the anchor is old: was the token restored from a backup?');
    }
  }
}

/**
 * Reads the anchor, then the head, and compares.
 * @throws KmsError as `Anchoring.check`
 */
export async function checkAnchor(anchors: Pick<AnchorObjects, 'read'>, store: KeyStore): Promise<Anchor> {
  const { highest, damaged } = await anchors.read();
  await store.pollHead();
  const fault = await contradiction(highest, damaged, store);
  if (fault !== null) throw misfit(fault);
  if (highest === null) throw misfit('the token holds no anchor');
  return highest;
}

/** @returns why the store is not the one that the token knows; null when it is */
export async function contradiction(highest: Anchor | null, damaged: number, store: KeyStore): Promise<string | null> {
  if (highest === null) return damaged > 0 ? 'no anchor on the token holds its mac' : 'the token holds no anchor of this installation';
  const head = store.head();
  if (highest.storeId !== head.storeId) return `the token's anchor names another store (${highest.storeId}); this one is ${head.storeId}`;
  const verdict = await store.examine({ epoch: highest.epoch, seq: highest.seq, mac: highest.journalMac });
  if (verdict === 'rolled-back') return `the store was rolled back: it ends at ${head.seq}, the token saw ${highest.seq}`;
  return verdict === 'forked' ? `the store was forked: its entry ${highest.seq} is not the one the token saw` : null;
}

function misfit(message: string): KmsError {
  return new KmsError('integrity', `${message}; see \`kms store accept-rollback\``, { retryAfter: 30 });
}
