/**
 * Builds every part of a server process from its settings, bottom up, and takes it down again in order. Used by the
 * server process and by tests; knows no supervisor.
 */

import type { Socket } from 'node:net';
import { ClientIdentity } from './api/client-identity.ts';
import { Crowd } from './api/crowd.ts';
import type { Readiness } from './api/health.ts';
import { Listener } from './api/listener.ts';
import { apiServer, publicServer, type ServerOptions } from './api/server.ts';
import { createFloodGate } from './audit/flood.ts';
import { type AuditLog, openAuditLog } from './audit/log.ts';
import { builtInIssuer } from './auth/built-in-issuer.ts';
import { authority } from './auth/client-certificate.ts';
import { randomHex } from './bytes.ts';
import { type Config, endpointOf } from './config.ts';
import { CryptoEngine } from './crypto/engine.ts';
import { internalKey, signWithInternalKey } from './crypto/internal-keys.ts';
import { createDoors, createServices, type Services } from './doors.ts';
import { KmsError } from './errors.ts';
import { paths } from './home.ts';
import { type Call, Gate } from './keys/access.ts';
import { Anchoring } from './keys/anchoring.ts';
import { Evidence } from './keys/evidence.ts';
import { Fleet } from './keys/fleet.ts';
import { Invocations } from './keys/invocations.ts';
import type { Installation, Key } from './keys/key.ts';
import { Outbox } from './keys/outbox.ts';
import { PageTokens } from './keys/page-token.ts';
import { Purger } from './keys/purger.ts';
import type { Rates } from './keys/rate-limits.ts';
import { Reconciler } from './keys/reconcile.ts';
import { SelfTests } from './keys/self-test.ts';
import { birthOf, isRunning } from './own-process.ts';
import { OwnToken, type TokenEvents } from './own-token.ts';
import { openInstalled, tokenSetup } from './parts.ts';
import { labelPrefixes, type Token } from './pkcs11/token.ts';
import { Sealing } from './sealing.ts';
import { readTlsFiles, ServerCertificate, type TlsFiles } from './server-certificate.ts';
import type { KeyStore } from './store/store.ts';
import { createLogger, type Logger } from './telemetry/log.ts';
import { createMetrics, type Metrics } from './telemetry/metrics.ts';
import { openTrust, type Trust } from './trust.ts';
import { assertNotDebugged } from './runtime.ts';

export type Port = 'api' | 'public';

const STOP_MS = 500;
const POLL_MS = 20;
/** Milliseconds between looks for keys whose purge is due. */
const PURGE_MS = 60_000;

export class App {
  readonly #config: Config;
  readonly #store: KeyStore;
  readonly #audit: AuditLog;
  readonly #ownToken: OwnToken;
  readonly #token: Token;
  readonly #invocations: Invocations;
  readonly #installation: Installation;
  readonly #flush: () => Promise<void>;
  readonly #fleet: Fleet;
  readonly #evidence: Evidence;
  readonly #engine: CryptoEngine;
  readonly #selfTests: SelfTests;
  readonly #certificate: ServerCertificate;
  readonly #purger: Purger;
  readonly #listeners: Readonly<Record<Port, Listener>>;
  readonly #crowd = new Crowd(() => this.#connections());
  /** For doors, and for whoever drives the gate without one. */
  readonly gate: Gate;
  readonly services: Services;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly #sealing: Sealing;
  #draining = false;

  private constructor(config: Config, parts: Parts, events: TokenEvents) {
    const { store, audit, installation, bootId, logger, trust } = parts;
    const now = (): number => Date.now();
    const { hostId } = config;
    this.#config = config;
    this.#store = store;
    this.#audit = audit;
    this.#installation = installation;
    this.logger = logger;
    this.#ownToken = new OwnToken({ config, installation, store, logger, events });
    this.#token = this.#ownToken.token;
    this.#invocations = new Invocations(store);
    this.#engine = new CryptoEngine(this.#token, installation.id, internalKey(installation, 'import'));
    const outbox = new Outbox(store, bootId);
    this.#fleet = new Fleet({
      store, audit, outbox, logger, hostId, bootId, isRunning,
      birth: birthOf(process.pid) ?? { pid: process.pid, born: '' },
      startedMs: now(),
      readDead: (boot) => this.#sealing.readStream(boot),
      exclusively: (run) => events.exclusively(run),
    });
    const fleet = this.#fleet;
    this.#sealing = new Sealing({
      config, store, audit, installation,
      token: this.#token,
      peers: () => fleet.peers(),
      takeCounters: () => this.#invocations.takeNews(),
      isTrusted: () => this.#evidence.state === 'ok',
    });
    const reconciler = new Reconciler({
      engine: this.#engine, store, audit, outbox,
      internalKeys: installation.internalKeys,
      labels: Object.values(labelPrefixes(installation.id)),
      hasEnded: (boot) => fleet.hasEnded(boot),
    });
    const anchoring = new Anchoring({
      store, logger, bootId, now,
      anchors: this.#sealing,
      minIntervalMs: config.store.anchorMinIntervalMs,
      periodMs: config.store.anchorSeconds * 1000,
      auditHeads: () => this.#sealing.auditHeads(),
      onFault: (error) => { this.#evidence.condemn(error); },
    });
    this.#evidence = new Evidence({
      store, audit, logger, bootId, fleet, anchoring, reconciler,
      kind: installation.kind,
      unseal: () => this.#sealing.unseal(),
      witnesses: () => this.#sealing.witnesses(),
      compareMs: config.store.compareSeconds * 1000,
    });
    this.metrics = this.#createMetrics();
    const floods = createFloodGate({ append: (event) => audit.append(event), now });
    this.#flush = () => floods.flush();
    const assertServing = (): void => { this.#evidence.assertServing(); };
    const gate = new Gate({ store, audit, floods, outbox, installation, now, assertServing, rates: ratesOf(config) });
    this.gate = gate;
    const engine = this.#engine;
    this.#selfTests = new SelfTests({ engine, audit, logger, periodMs: config.hsm.selfTestSeconds * 1000 });
    this.services = createServices({
      gate, engine, store, bootId, now,
      invocations: this.#invocations,
      onRestriction: () => { anchoring.restricted(); },
      onBudgetSpent: (call, key) => { this.#budgetSpent(call, key); },
    });
    this.#purger = new Purger({
      store, audit, outbox, logger, bootId,
      alterations: this.services.alterations,
      clocks: { wallMs: now, databaseMs: () => store.nowMs(), monotonicMs: () => performance.now() },
      periodMs: PURGE_MS,
    });
    const issuer = builtInIssuer(installation, endpointOf(config), (key, bytes) => signWithInternalKey(this.#token, key, bytes));
    const identity = new ClientIdentity(gate, {
      accessCa: authority(installation.accessCa),
      authorities: trust.authorities,
      issuers: [...(issuer === null ? [] : [issuer]), ...trust.issuers],
    }, now);
    const pages = new PageTokens(() => this.#sealing.pageKey());
    const { hsmPlatform } = tokenSetup(config).profile;
    const files = readTlsFiles(config.home);
    this.#certificate = new ServerCertificate({
      home: config.home, token: this.#token, installation, logger,
      vaults: () => store.vaults(),
      exclusively: (run) => events.exclusively(run),
      onRenewed: (fresh) => { for (const listener of Object.values(this.#listeners)) listener.renew(fresh); },
    }, files.cert);
    this.#listeners = this.#createListeners({
      gate,
      identity,
      issuer,
      bodyLimit: config.server.bodyLimit,
      ...createDoors(this.services, { config, installation, gate, identity, pages, hsmPlatform }),
      ports: { api: config.server.port, public: config.server.publicPort },
      logger,
      metrics: this.metrics,
      readiness: () => this.readiness(),
      draining: () => this.#draining,
    }, files, [installation.accessCa, ...trust.authorities.map(({ certificate }) => certificate.toString())]);
  }

  /** Opens store and audit and starts the token; returns before the token is ready. @throws KmsError */
  static async start(config: Config, events: TokenEvents): Promise<App> {
    const bootId = randomHex(8);
    const logger = createLogger({ level: config.log.level, base: { pid: process.pid, boot: bootId } });
    const { store, installation } = await openInstalled(config, bootId, (err) => {
      logger.warn({ err }, 'the store does not answer yet');
    });
    assertNotDebugged(installation.kind);
    const trust = await openTrust(config, installation);
    const audit = await openAuditLog({
      directory: paths.audit(config.home),
      hostId: config.hostId,
      bootId,
      segmentBytes: config.audit.segmentBytes,
    });
    await audit.append({ event: 'process.start', result: 'success', detail: { pid: process.pid, node: process.version } });
    return new App(config, { store, audit, installation, bootId, logger, trust }, events);
  }

  get kind(): 'dev' | 'prod' {
    return this.#installation.kind;
  }

  get installation(): Installation {
    return this.#installation;
  }

  accept(port: Port, socket: Socket): void {
    this.#listeners[port].accept(socket);
  }

  readiness(): Readiness {
    const checks = {
      token: this.#ownToken.check,
      selfTest: this.#engine.fitness,
      store: this.#storeState(),
      audit: this.#audit.healthy() ? 'ok' : 'not writable',
      process: this.#draining ? 'draining' : 'ok',
    };
    return { ready: Object.values(checks).every((check) => check === 'ok'), kind: this.kind, checks };
  }

  /** Tests the token and compares store and token now; readiness falls if that fails. */
  async selfTest(): Promise<void> {
    await this.#selfTests.run();
    await this.#evidence.examine();
    await this.#certificate.refresh();
  }

  /** Resolves when the token can be used, the store is verified and the self-test has passed; rejects when the token is lost before. */
  async whenReady(): Promise<void> {
    await this.#token.whenReady();
    await this.#evidence.open();
    void this.#selfTests.run();
    await this.#selfTests.firstPass;
    this.#certificate.start();
    this.#purger.start();
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
    this.#selfTests.stop();
    this.#crowd.stop();
    this.#certificate.stop();
    await this.#purger.stop();
    const end = performance.now() + deadlineMs;
    const closeIdle = performance.now() + Math.min(this.#config.server.drainMs, deadlineMs);
    while (this.#connections() > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      if (performance.now() > closeIdle) for (const listener of Object.values(this.#listeners)) listener.closeIdle();
    }
    for (const listener of Object.values(this.#listeners)) listener.closeAll();
    return this.#close();
  }

  /** What needs the token comes first: the last anchor, and the last checkpoint, which closes the audit stream. */
  async #close(): Promise<'clean' | 'stuck'> {
    let stopped: 'clean' | 'stuck' = 'stuck';
    await settle(this.logger, [
      () => this.#invocations.close(),
      this.#flush,
      () => this.#evidence.stop(),
      async () => { if (this.#sealing.done) await this.#fleet.settle(); },
      () => this.record('process.stop', {}),
      () => this.#leave(),
      async () => { stopped = await this.#token.stop(STOP_MS); },
      () => this.#store.close(),
      () => this.logger.flush(),
    ]);
    return stopped;
  }

  /** A stream that still owes something, or could not be closed, is left to the successor. */
  async #leave(): Promise<void> {
    if (this.#sealing.done && !this.#fleet.settled) return;
    await this.#audit.close();
    if (this.#sealing.done && this.#audit.head().closed) await this.#fleet.leave();
  }

  #storeState(): string {
    try {
      this.#evidence.assertServing();
      this.#store.changeCounter();
      return 'ok';
    } catch (error) {
      return error instanceof KmsError ? error.message : 'does not answer';
    }
  }

  /** Somebody may be asking a padding oracle; the next hour's budget is told of anew. */
  #budgetSpent({ requestId, source, principal }: Call, { id: key, vaultId: vault }: Key): void {
    this.logger.warn({ requestId, key }, 'too many failed decryptions by one caller');
    const { method, issuer, subject } = principal;
    const event = { event: 'alarm.failure-budget', result: 'failed', requestId, source, vault, key, principal: { method, issuer, subject } } as const;
    this.#audit.append(event).catch((err: unknown) => { this.logger.warn({ err }, 'not recorded'); });
  }

  #connections(): number {
    return Object.values(this.#listeners).reduce((sum, { connections }) => sum + connections, 0);
  }

  #createListeners(options: ServerOptions, files: TlsFiles, clientAuthorities: readonly string[]): Readonly<Record<Port, Listener>> {
    const { connectionsMax, connectionSeconds, processes } = this.#config.server;
    const limits = { max: Math.ceil(connectionsMax / processes), lifetimeMs: connectionSeconds * 1000 };
    return {
      api: new Listener(apiServer(options), { ...files, clientAuthorities }, limits),
      public: new Listener(publicServer(options), { ...files, clientAuthorities: [] }, limits),
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
      integrityFailures: () => this.#evidence.damages,
      findings: () => this.#evidence.findings,
    });
  }
}

/** The host's, shared out among its processes. */
function ratesOf({ limits, server }: Config): Rates {
  const { useRate, readRate, manageRate } = limits;
  return { use: useRate / server.processes, read: readRate / server.processes, manage: manageRate / server.processes };
}

interface Parts {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly installation: Installation;
  readonly bootId: string;
  readonly logger: Logger;
  readonly trust: Trust;
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
