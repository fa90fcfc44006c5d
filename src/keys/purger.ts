/** Destroys keys whose days of soft deletion are over (design §3), one process for all, while the clocks can be believed. */

import { randomUUID } from 'node:crypto';
import type { AuditLog } from '../audit/log.ts';
import { asKmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Alterations } from './alteration.ts';
import { type Clocks, ClockWatch, type Jump } from './clock-watch.ts';
import type { Key } from './key.ts';
import type { Outbox } from './outbox.ts';

export interface PurgerOptions {
  readonly store: Pick<KeyStore, 'listDuePurges' | 'takeDuty'>;
  readonly alterations: Alterations;
  readonly audit: AuditLog;
  readonly outbox: Outbox;
  readonly logger: Logger;
  readonly clocks: Clocks;
  readonly bootId: string;
  /** Milliseconds between looks. */
  readonly periodMs: number;
}

const AT_ONCE = 50;

export class Purger {
  readonly #options: PurgerOptions;
  readonly #watch: ClockWatch;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(options: PurgerOptions) {
    this.#options = options;
    this.#watch = new ClockWatch(options.clocks, (jump) => { this.#jumped(jump); });
  }

  start(): void {
    this.#timer = setInterval(() => { this.#look(); }, this.#options.periodMs).unref();
    this.#look();
  }

  /** Resolves when nothing is under way. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  /** One look: destroys what is due. @returns how many keys that were */
  async purge(): Promise<number> {
    const { store, bootId, periodMs } = this.#options;
    const nowMs = await this.#watch.look();
    if (nowMs === null || !(await store.takeDuty('purge', bootId, 2 * periodMs))) return 0;
    const due = await store.listDuePurges(nowMs, AT_ONCE);
    for (const key of due) await this.#purgeOne(key);
    return due.length;
  }

  async #purgeOne(key: Key): Promise<void> {
    const { alterations, audit, outbox, logger } = this.#options;
    const requestId = `purge-${randomUUID()}`;
    const about = { event: 'key.destroy', requestId, vault: key.vaultId, key: key.id } as const;
    const state = key.state === 'compromised' ? 'destroyed_compromised' : 'destroyed';
    const buried = await alterations.bury({ requestId }, key, state).then(
      (objectIds) => ({ result: 'success', objectIds, detail: { scheduledPurgeMs: key.deletion?.scheduledPurgeMs ?? 0 } } as const),
      (error: unknown) => ({ result: 'failed', reason: asKmsError(error).code } as const),
    );
    await audit.append({ ...about, ...buried });
    outbox.recorded(requestId);
    if (buried.result === 'failed') logger.warn({ requestId, key: key.id, reason: buried.reason }, 'a scheduled purge failed');
  }

  #look(): void {
    this.#running ??= this.purge()
      .catch((err: unknown) => { this.#options.logger.warn({ err }, 'a scheduled purge failed'); })
      .then(() => { this.#running = undefined; });
  }

  #jumped({ clock, byMs }: Jump): void {
    const { logger, audit } = this.#options;
    logger.error({ event: 'alarm.clock', clock, byMs }, 'a clock jumped: nothing is purged for a day');
    audit.append({ event: 'alarm.clock', result: 'failed', reason: 'jumped', detail: { clock, byMs } })
      .catch((err: unknown) => { logger.warn({ err }, 'not recorded'); });
  }
}
