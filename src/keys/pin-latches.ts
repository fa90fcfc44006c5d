/**
 * The part of the PIN latch that all hosts share (design §2): after a PIN error on one host nobody of the installation
 * logs in until the PIN source changes there or here; then one process tries first. Each host's own latch is a file
 * beside its PIN, written before anybody else gets a turn.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyStore, PinLatch } from '../store/store.ts';
import type { Logger } from '../telemetry/log.ts';

export interface PinLatchesOptions {
  readonly store: Pick<KeyStore, 'pinLatches' | 'setPinLatch' | 'clearPinLatches'>;
  readonly hostId: string;
  /** Fingerprint of the PIN source as it is now, never of the PIN. */
  readonly source: () => string;
  readonly logger: Logger;
}

const POLL_MS = 500;

export class PinLatches {
  readonly #options: PinLatchesOptions;
  #waiting = false;

  constructor(options: PinLatchesOptions) {
    this.#options = options;
  }

  /** A login may not be tried now. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** Resolves when a login may be tried. A store that does not answer cannot say so. */
  async released(): Promise<void> {
    while (!(await this.#mayTry())) {
      this.#waiting = true;
      await sleep(POLL_MS, undefined, { ref: false });
    }
    this.#waiting = false;
  }

  /** The PIN was refused. */
  async failed(): Promise<void> {
    const { store, hostId, source, logger } = this.#options;
    logger.error({ event: 'pin-latched' }, 'the PIN was refused: no login until its source changes');
    await store.setPinLatch({ hostId, source: source() });
  }

  /** A login succeeded: whoever waits may go on. */
  async passed(): Promise<void> {
    const { store } = this.#options;
    if ((await store.pinLatches()).length > 0) await store.clearPinLatches();
  }

  async #mayTry(): Promise<boolean> {
    try {
      const latches = await this.#options.store.pinLatches();
      return latches.length === 0 || (await this.#changedHere(latches));
    } catch (err) {
      this.#options.logger.warn({ err }, 'the store cannot say whether a login may be tried');
      return false;
    }
  }

  /** A host that learns of a failure elsewhere notes its own source, to know when that changes. */
  async #changedHere(latches: readonly PinLatch[]): Promise<boolean> {
    const { store, hostId, source } = this.#options;
    const now = source();
    const own = latches.find((latch) => latch.hostId === hostId);
    if (own === undefined) await store.setPinLatch({ hostId, source: now });
    return own !== undefined && own.source !== now;
  }
}
