/**
 * Whether the store may be believed, from start to end of a process: nothing is served before head, anchor and the
 * witnesses of the audit agree, nor after one of them disagreed (integrity §4–7). Then it goes on looking.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditLog } from '../audit/log.ts';
import { asKmsError, KmsError } from '../errors.ts';
import type { CompareCursor, Damage, KeyStore, StoreMacs, Witness } from '../store/store.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Anchoring } from './anchoring.ts';
import type { Fleet } from './fleet.ts';
import type { Finding, Reconciler } from './reconcile.ts';

export interface EvidenceOptions {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly logger: Logger;
  readonly bootId: string;
  readonly kind: 'dev' | 'prod';
  readonly fleet: Fleet;
  readonly anchoring: Anchoring;
  readonly reconciler: Reconciler;
  /** Gets the keys of store and audit from the token, and has the audit sealed. */
  readonly unseal: () => Promise<StoreMacs>;
  /** What the audit streams of this host saw of the store and the store does not know of. */
  readonly witnesses: () => Promise<readonly Witness[]>;
  /** Milliseconds between two full comparisons. */
  readonly compareMs: number;
}

const RETRY_MS = 2000;
const POLL_MS = 500;
const RENEW_MS = 1000;
const SWEEP_MS = 60_000;
const ADOPT_MS = 5000;
/** A full comparison rests so many times as long as a stretch of it took: it shares the event loop with everything else. */
const REST = 3;
const REST_MIN_MS = 2;
const REST_MAX_MS = 40;
const DUTY_MS = 60_000;
/** A duty is renewed after so long: each renewal is a commit. */
const DUTY_RENEW_MS = 15_000;
/** Counted, and nobody's alarm: what is not ours, and what is being made, or waits for the next sweep. */
const QUIET: ReadonlySet<Finding['kind']> = new Set(['foreign', 'unfinished']);

export class Evidence {
  readonly #options: EvidenceOptions;
  readonly #told = new Set<string>();
  readonly #timers: NodeJS.Timeout[] = [];
  #fault: KmsError | undefined = new KmsError('store-unavailable', 'the store is not verified yet', { retryAfter: 2 });
  #findings: readonly Finding[] = [];
  #damages = 0;
  #stopped = false;
  #examining: Promise<'done' | 'elsewhere' | 'failed'> | undefined;
  /** Changes store and audit, so that its end is waited for. */
  readonly #atWork = new Set<Promise<void>>();

  constructor(options: EvidenceOptions) {
    this.#options = options;
    options.store.onDamage((damage) => { this.#damaged(damage); });
  }

  /** `ok`, or why nothing is served. */
  get state(): string {
    return this.#fault === undefined ? 'ok' : this.#fault.message;
  }

  /** Rows that failed their seals since the start. */
  get damages(): number {
    return this.#damages;
  }

  /** Of the newest look at store and token together, by kind. */
  get findings(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { kind } of this.#findings) counts[kind] = (counts[kind] ?? 0) + 1;
    return counts;
  }

  /** @throws KmsError `integrity` or `store-unavailable` while nothing may be served */
  assertServing(): void {
    if (this.#fault !== undefined) throw this.#fault;
    this.#options.fleet.assertMember();
  }

  /** Resolves when the store is verified and what dead processes of this host owed is recorded. Tries until then. */
  async open(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.#tryToOpen();
        this.#fault = undefined;
        this.#goOn();
        return;
      } catch (error) {
        this.condemn(asKmsError(error));
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
  }

  /** Nothing is served from here on. */
  condemn(error: KmsError): void {
    const { logger, audit } = this.#options;
    this.#fault = error;
    if (!this.#isNew(error.message)) return;
    logger.error({ event: 'store-refused', reason: error.message, err: error }, 'the store cannot be believed, or does not answer');
    if (error.code !== 'integrity') return;
    const event = { event: 'integrity.failure', result: 'failed', reason: 'integrity', detail: { place: error.message } } as const;
    audit.append(event).catch((err: unknown) => { logger.warn({ err }, 'not recorded'); });
  }

  /** Compares everything now: on demand, at start and at regular times. */
  async examine(): Promise<void> {
    await this.#examined();
  }

  /** Never rejects: what fails is logged. */
  #examined(): Promise<'done' | 'elsewhere' | 'failed'> {
    this.#examining ??= this.#examineOnce()
      .catch((error: unknown) => {
        this.#failed(asKmsError(error));
        return 'failed' as const;
      })
      .finally(() => { this.#examining = undefined; });
    return this.#examining;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#examining;
    await Promise.all(this.#atWork);
    if (this.#fault === undefined) await this.#options.anchoring.stop();
  }

  async #tryToOpen(): Promise<void> {
    const { store, fleet, anchoring, unseal, witnesses } = this.#options;
    await store.unlock(await unseal());
    await anchoring.check();
    for (const witness of await witnesses()) {
      const verdict = await store.examine(witness);
      if (verdict === 'rolled-back' || verdict === 'forked') throw contradicted(verdict, witness);
    }
    await fleet.enrol();
    await fleet.adoptDead();
  }

  #goOn(): void {
    const { store, fleet, anchoring, compareMs } = this.#options;
    anchoring.start();
    this.#every(POLL_MS, async () => { await store.pollHead(); });
    this.#every(RENEW_MS, () => fleet.renew());
    this.#every(ADOPT_MS, () => fleet.adoptEnded());
    this.#every(SWEEP_MS, () => this.#sweep());
    this.#every(Math.min(compareMs, 2 ** 31 - 1), () => this.examine());
    void this.#do(() => this.#sweep()).then(() => this.#firstLook());
  }

  /** One run at a time; what fails is tried again with the next. */
  #every(ms: number, work: () => Promise<void>): void {
    let running = false;
    this.#timers.push(setInterval(() => {
      if (running || this.#stopped) return;
      running = true;
      void this.#do(work).finally(() => { running = false; });
    }, ms).unref());
  }

  /** Never rejects: what fails is logged. */
  #do(work: () => Promise<void>): Promise<void> {
    const done = work()
      .catch((error: unknown) => { this.#failed(asKmsError(error)); })
      .finally(() => { this.#atWork.delete(done); });
    this.#atWork.add(done);
    return done;
  }

  #failed(error: KmsError): void {
    if (error.code === 'integrity') this.condemn(error);
    else this.#options.logger.warn({ err: error }, 'a look at the store failed');
  }

  async #sweep(): Promise<void> {
    const { store, bootId, reconciler } = this.#options;
    if (!(await store.takeDuty('reconcile', bootId, DUTY_MS))) return;
    try {
      await reconciler.complete(() => !this.#stopped);
    } finally {
      // Whoever starts next finds what is announced by then.
      await store.takeDuty('reconcile', bootId, 0).catch(() => undefined);
    }
  }

  /** A process that is gone may still have the duty: its successor compares as soon as it is free. */
  async #firstLook(): Promise<void> {
    for (;;) {
      const outcome = await this.#examined();
      if (outcome === 'done' || this.#stopped) return;
      // It begins anew each time: of a million rows that is no work for every other second.
      await sleep(outcome === 'failed' ? SWEEP_MS : RETRY_MS, undefined, { ref: false });
    }
  }

  async #examineOnce(): Promise<'done' | 'elsewhere'> {
    const { store, bootId, reconciler, kind } = this.#options;
    if (!(await store.takeDuty('compare', bootId, DUTY_MS))) return 'elsewhere';
    await this.#compareAll();
    this.#findings = await reconciler.report();
    for (const finding of this.#findings) if (!QUIET.has(finding.kind)) this.#found(finding);
    const exposed = this.#findings.some((finding) => finding.kind === 'extractable');
    if (kind === 'prod' && exposed) this.condemn(new KmsError('integrity', 'a key object on the token is extractable', { retryAfter: 30 }));
    return 'done';
  }

  /** As long as the duty is ours. */
  async #compareAll(): Promise<void> {
    const { store, bootId } = this.#options;
    let renewed = performance.now();
    let cursor: CompareCursor | undefined;
    do {
      const begun = performance.now();
      cursor = await store.compare(cursor);
      const tookMs = performance.now() - begun;
      await sleep(Math.min(Math.max(REST * tookMs, REST_MIN_MS), REST_MAX_MS), undefined, { ref: false });
      if (performance.now() - renewed < DUTY_RENEW_MS) continue;
      if (!(await store.takeDuty('compare', bootId, DUTY_MS))) return;
      renewed = performance.now();
    } while (cursor !== undefined && !this.#stopped);
  }

  #damaged({ table, row, reason }: Damage): void {
    this.#damages += 1;
    this.#alarm('integrity.failure', reason, { table, row });
    // Without its whole journal nobody can say which state of a row is the newest.
    if (reason === 'chain') this.condemn(new KmsError('integrity', `the journal was altered at entry ${row}`, { retryAfter: 30 }));
  }

  #found({ kind, objectId, part, about }: Finding): void {
    this.#alarm('reconcile.finding', kind, { objectId, part, about });
  }

  /** To log and audit, once. */
  #alarm(event: string, reason: string, detail: Readonly<Record<string, string>>): void {
    const { logger, audit } = this.#options;
    if (!this.#isNew(`${event} ${reason} ${JSON.stringify(detail)}`)) return;
    logger.error({ event, reason, ...detail }, 'store and token do not fit');
    audit.append({ event, result: 'failed', reason, detail }).catch((err: unknown) => { logger.warn({ err }, 'not recorded'); });
  }

  #isNew(text: string): boolean {
    const isNew = !this.#told.has(text);
    this.#told.add(text);
    return isNew;
  }
}

function contradicted(verdict: 'rolled-back' | 'forked', { seq }: Witness): KmsError {
  const what = verdict === 'forked' ? 'was forked' : 'was rolled back';
  const message = `the store ${what}: a checkpoint of the audit saw entry ${seq}; see \`kms store accept-rollback\``;
  return new KmsError('integrity', message, { retryAfter: 30 });
}
