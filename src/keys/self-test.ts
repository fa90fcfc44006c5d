/**
 * When the token is tested: before anything is served, on demand, and at regular times. A test that fails is repeated
 * until it passes; meanwhile nothing is served. Each result goes to log and audit.
 */

import type { AuditLog } from '../audit/log.ts';
import type { CryptoEngine } from '../crypto/engine.ts';
import type { Logger } from '../telemetry/log.ts';

export interface SelfTestOptions {
  readonly engine: CryptoEngine;
  readonly audit: AuditLog;
  readonly logger: Logger;
  /** Milliseconds between tests that pass. */
  readonly periodMs: number;
}

const RETRY_MS = 5_000;
/** Longer timeouts overflow and fire at once. */
const LONGEST_MS = 2 ** 31 - 1;

const LEVELS = { ok: 'info', failed: 'error', 'not-run': 'warn' } as const;

export class SelfTests {
  readonly #options: SelfTestOptions;
  readonly #firstPass: Promise<void>;
  #passed: () => void = () => undefined;
  #next: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: SelfTestOptions) {
    this.#options = options;
    options.engine.onSuspicion(() => { void this.run(); });
    this.#firstPass = new Promise((resolve) => { this.#passed = resolve; });
  }

  /** Resolves when a test has passed for the first time. */
  get firstPass(): Promise<void> {
    return this.#firstPass;
  }

  /** Now, and then at regular times. */
  async run(): Promise<void> {
    clearTimeout(this.#next);
    const { engine, logger, periodMs } = this.#options;
    const outcome = await engine.selfTest();
    if (this.#stopped) return;
    const ok = outcome === 'ok';
    logger[LEVELS[outcome]]({ outcome, state: engine.fitness, ...engine.capabilities }, 'self-test');
    this.#next = setTimeout(() => { void this.run(); }, Math.min(ok ? periodMs : RETRY_MS, LONGEST_MS)).unref();
    if (ok) this.#passed();
    if (outcome !== 'not-run') await this.#record(engine.fitness);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#next);
  }

  async #record(state: string): Promise<void> {
    const { audit, logger } = this.#options;
    const result = state === 'ok' ? ({ result: 'success' } as const) : ({ result: 'failed', reason: state } as const);
    try {
      await audit.append({ event: 'selftest', ...result });
    } catch (err) {
      // An audit that cannot be written stops every operation by itself.
      logger.warn({ err }, 'self-test not recorded');
    }
  }
}
