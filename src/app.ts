/**
 * Builds every part of a server process from its settings, bottom up, and takes it down again in order. Used by the
 * server process and by tests; knows no supervisor.
 */

import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { ClientIdentity } from './api/client-identity.ts';
import type { Readiness } from './api/health.ts';
import { Listener } from './api/listener.ts';
import { okmsRoutes } from './api/okms/routes.ts';
import { apiServer, publicServer, type ServerOptions } from './api/server.ts';
import { createFloodGate } from './audit/flood.ts';
import { type AuditLog, openAuditLog } from './audit/log.ts';
import { authority } from './auth/client-certificate.ts';
import { randomHex } from './bytes.ts';
import type { Config } from './config.ts';
import { deriveKey } from './crypto/derived-key.ts';
import { CryptoEngine } from './crypto/engine.ts';
import { canaryOf, internalKey } from './crypto/internal-keys.ts';
import { KmsError } from './errors.ts';
import { paths, profilePath } from './home.ts';
import { Gate } from './keys/access.ts';
import { Invocations } from './keys/invocations.ts';
import type { Installation } from './keys/key.ts';
import { KeyLifecycle } from './keys/lifecycle.ts';
import { KeyOperations } from './keys/operations.ts';
import { PageTokens } from './keys/page-token.ts';
import { SelfTests } from './keys/self-test.ts';
import { labelPrefixes, loadProfile, Token } from './pkcs11/token.ts';
import { openSqliteStore } from './store/sqlite.ts';
import type { KeyStore } from './store/store.ts';
import { createLogger, type Logger } from './telemetry/log.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';

export interface AppEvents {
  /** The token is lost for this process: it must be replaced. */
  readonly lost: (reason: string) => void;
  /** The token cannot be used yet; it is tried again. */
  readonly waiting: () => void;
  /** Resolves when this process may log in. */
  readonly mayLogin: () => Promise<void>;
  /** The login is behind. */
  readonly loggedIn: () => void;
  /** Runs a change of the token while no other process of this host makes one. */
  readonly exclusively: <T>(run: () => Promise<T>) => Promise<T>;
}

export type Port = 'api' | 'public';

const STOP_MS = 500;
const SWEEP_MS = 60_000;
const POLL_MS = 20;

export class App {
  readonly #config: Config;
  readonly #store: KeyStore;
  readonly #audit: AuditLog;
  readonly #token: Token;
  readonly #invocations: Invocations;
  readonly #installation: Installation;
  readonly #flush: () => Promise<void>;
  readonly #lifecycle: KeyLifecycle;
  readonly #engine: CryptoEngine;
  readonly #selfTests: SelfTests;
  readonly #listeners: Readonly<Record<Port, Listener>>;
  readonly logger: Logger;
  readonly metrics: Metrics;
  #draining = false;
  #sweep: NodeJS.Timeout | undefined;

  private constructor(config: Config, parts: Parts, events: AppEvents) {
    const { store, audit, installation, bootId, logger } = parts;
    const now = (): number => Date.now();
    this.#config = config;
    this.#store = store;
    this.#audit = audit;
    this.#installation = installation;
    this.logger = logger;
    this.#token = openToken(config, installation, logger, events);
    this.#invocations = new Invocations(store);
    this.metrics = this.#createMetrics();
    const floods = createFloodGate({ append: (event) => audit.append(event), now });
    this.#flush = () => floods.flush();
    const gate = new Gate({ store, audit, floods, installation, now });
    this.#engine = new CryptoEngine(this.#token, installation.id, internalKey(installation, 'import'));
    const engine = this.#engine;
    this.#selfTests = new SelfTests({ engine, audit, logger, periodMs: config.hsm.selfTestSeconds * 1000 });
    this.#lifecycle = new KeyLifecycle({ gate, engine, store, bootId, now });
    const operations = new KeyOperations(gate, engine, this.#invocations);
    const pages = new PageTokens(() => this.#pageKey());
    const identity = new ClientIdentity(gate, [authority(installation.accessCa)], now);
    this.#listeners = this.#createListeners({
      gate,
      identity,
      bodyLimit: config.server.bodyLimit,
      okms: okmsRoutes({ lifecycle: this.#lifecycle, operations, pages }),
      logger,
      metrics: this.metrics,
      readiness: () => this.readiness(),
      draining: () => this.#draining,
    });
  }

  /** Opens store and audit and starts the token; returns before the token is ready. @throws KmsError */
  static async start(config: Config, events: AppEvents): Promise<App> {
    const bootId = randomHex(8);
    const logger = createLogger({ level: config.log.level, base: { pid: process.pid, boot: bootId } });
    const store = await openSqliteStore(paths.store(config.home));
    const installation = await store.installation();
    if (installation === undefined) throw new KmsError('internal', 'no installation here: run `kms init` first');
    const audit = await openAuditLog({
      directory: paths.audit(config.home),
      hostId: config.hostId,
      bootId,
      segmentBytes: config.audit.segmentBytes,
    });
    await audit.append({ event: 'process.start', result: 'success', detail: { pid: process.pid, node: process.version } });
    return new App(config, { store, audit, installation, bootId, logger }, events);
  }

  get kind(): 'dev' | 'prod' {
    return this.#installation.kind;
  }

  accept(port: Port, socket: Socket): void {
    this.#listeners[port].accept(socket);
  }

  readiness(): Readiness {
    const token = this.#token.state;
    const checks = {
      token: token.phase === 'ready' ? 'ok' : `${token.phase}: ${token.reason}`,
      selfTest: this.#engine.fitness,
      store: this.#storeAnswers() ? 'ok' : 'does not answer',
      audit: this.#audit.healthy() ? 'ok' : 'not writable',
      process: this.#draining ? 'draining' : 'ok',
    };
    return { ready: Object.values(checks).every((check) => check === 'ok'), kind: this.kind, checks };
  }

  /** Tests the token now; readiness falls if it fails. */
  selfTest(): Promise<void> {
    return this.#selfTests.run();
  }

  /** Resolves when the token can be used and has passed its self-test; rejects when it is lost before. */
  async whenReady(): Promise<void> {
    await this.#token.whenReady();
    void this.#selfTests.run();
    await this.#selfTests.firstPass;
    const sweep = (): void => {
      this.#lifecycle.completeDestructions().catch((err: unknown) => { this.logger.warn({ err }, 'destruction not completed'); });
    };
    sweep();
    this.#sweep = setInterval(sweep, SWEEP_MS).unref();
  }

  /** Writes an event of the process itself. */
  record(event: string, detail: Readonly<Record<string, string | number | boolean>>): Promise<void> {
    return this.#audit.append({ event, result: 'success', detail });
  }

  /**
   * Answers what is there, tells clients to leave, and resolves when none is left or the deadline passes; then store
   * and audit are closed.
   * @returns `stuck` when a native call holds a thread: such a process can only be ended by SIGKILL
   */
  async drain(deadlineMs: number): Promise<'clean' | 'stuck'> {
    this.#draining = true;
    clearInterval(this.#sweep);
    this.#selfTests.stop();
    const end = performance.now() + deadlineMs;
    const closeIdle = performance.now() + Math.min(this.#config.server.drainMs, deadlineMs);
    while (this.#connections() > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (performance.now() > closeIdle) for (const listener of Object.values(this.#listeners)) listener.closeIdle();
    }
    for (const listener of Object.values(this.#listeners)) listener.closeAll();
    return this.#close();
  }

  async #close(): Promise<'clean' | 'stuck'> {
    const stopped = await this.#token.stop(STOP_MS);
    await settle(this.logger, [
      () => this.#invocations.close(),
      this.#flush,
      () => this.record('process.stop', { stopped }),
      () => this.#audit.close(),
      () => this.#store.close(),
      () => this.logger.flush(),
    ]);
    return stopped;
  }

  #storeAnswers(): boolean {
    try {
      this.#store.changeCounter();
      return true;
    } catch {
      return false;
    }
  }

  #connections(): number {
    return Object.values(this.#listeners).reduce((sum, { connections }) => sum + connections, 0);
  }

  #createListeners(options: ServerOptions): Readonly<Record<Port, Listener>> {
    const cert = readFileSync(paths.serverCertificate(this.#config.home), 'utf8');
    const key = readFileSync(paths.serverKey(this.#config.home), 'utf8');
    const clientAuthorities = [this.#installation.accessCa];
    return {
      api: new Listener(apiServer(options), { cert, key, clientAuthorities }),
      public: new Listener(publicServer(options), { cert, key, clientAuthorities: [] }),
    };
  }

  #createMetrics(): Metrics {
    return createMetrics({
      tokenQueueDepth: () => this.#token.stats().depth,
      tokenThreadsLost: () => this.#token.stats().lostThreads,
      auditRecords: () => this.#audit.stats().records,
      auditHealthy: () => this.#audit.healthy(),
      ready: () => this.readiness().ready,
      gcmReserved: () => this.#invocations.reserved,
    });
  }

  #pageKey(): Promise<Uint8Array> {
    return deriveKey(this.#token, internalKey(this.#installation, 'integrity'), this.#installation.id, 'page', 1);
  }
}

interface Parts {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly installation: Installation;
  readonly bootId: string;
  readonly logger: Logger;
}

function openToken(config: Config, installation: Installation, logger: Logger, events: AppEvents): Token {
  return new Token({
    ...tokenOptions(config),
    destroyable: labelPrefixes(installation.id).keys,
    setup: {
      ...tokenSetup(config),
      tokenLabel: installation.tokenLabel,
      tokenSerial: installation.tokenSerial,
      canary: canaryOf(installation),
      provision: null,
    },
    mayLogin: events.mayLogin,
    exclusively: events.exclusively,
    onLost: events.lost,
    onState: (state) => {
      logger[state.phase === 'ready' ? 'info' : 'warn']({ token: state }, 'token');
      if (state.phase === 'starting') events.waiting();
      else events.loggedIn();
    },
  });
}

/** The part of a token's setup that comes from the settings. */
export function tokenSetup(config: Config): { profile: ReturnType<typeof loadProfile>; pinFile: string; latchFile: string } {
  const profile = loadProfile(profilePath(config.hsm.profile), { KMS_HOME: config.home });
  return { profile, pinFile: join(config.home, config.hsm.pinFile), latchFile: paths.pinLatch(config.home) };
}

export function tokenOptions({ hsm }: Config): {
  threads: number;
  batchMax: number;
  queueMax: number;
  callTimeoutMs: number;
  createTimeoutMs: number;
  lostThreadsMax: number;
} {
  const { workers: threads, batchMax, callTimeoutMs, createTimeoutMs, lostThreadsMax } = hsm;
  const queueMax = hsm.queueMax === 0 ? threads * batchMax * 4 : hsm.queueMax;
  return { threads, batchMax, queueMax, callTimeoutMs, createTimeoutMs, lostThreadsMax };
}

/** Each step runs whatever became of the ones before. */
async function settle(logger: Logger, steps: readonly (() => Promise<void>)[]): Promise<void> {
  for (const step of steps) {
    try {
      await step();
    } catch (err) {
      logger.warn({ err }, 'shutdown step failed');
    }
  }
}
