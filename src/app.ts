/**
 * Builds every part of a server process from its settings, bottom up, and takes it down again in order. Used by the
 * server process and by tests; knows no supervisor.
 */

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { ClientIdentity } from './api/client-identity.ts';
import type { Readiness } from './api/health.ts';
import { Listener } from './api/listener.ts';
import { okmsDocument } from './api/okms/document.ts';
import { okmsRoutes } from './api/okms/routes.ts';
import { openApiDocument } from './api/openapi.ts';
import { apiServer, publicServer, type ServerOptions } from './api/server.ts';
import { readDeadStream } from './audit/dead-stream.ts';
import { createFloodGate } from './audit/flood.ts';
import { type AuditLog, openAuditLog } from './audit/log.ts';
import { authority } from './auth/client-certificate.ts';
import { randomHex } from './bytes.ts';
import type { Config } from './config.ts';
import { Anchors } from './crypto/anchor.ts';
import { deriveKey } from './crypto/derived-key.ts';
import { CryptoEngine } from './crypto/engine.ts';
import { deriveMacs, type Macs } from './crypto/integrity-keys.ts';
import { canaryOf, internalKey, signWithInternalKey } from './crypto/internal-keys.ts';
import { KmsError } from './errors.ts';
import { packageVersion, paths } from './home.ts';
import { Gate } from './keys/access.ts';
import { Anchoring } from './keys/anchoring.ts';
import { Evidence } from './keys/evidence.ts';
import { Fleet } from './keys/fleet.ts';
import { Invocations } from './keys/invocations.ts';
import type { Installation } from './keys/key.ts';
import { KeyLifecycle } from './keys/lifecycle.ts';
import { KeyOperations } from './keys/operations.ts';
import { Outbox } from './keys/outbox.ts';
import { PageTokens } from './keys/page-token.ts';
import { PinLatches } from './keys/pin-latches.ts';
import { Reconciler } from './keys/reconcile.ts';
import { SelfTests } from './keys/self-test.ts';
import { birthOf, isRunning } from './own-process.ts';
import { openInstalled, pinFile, tokenOptions, tokenSetup } from './parts.ts';
import { labelPrefixes, pinSource, Token } from './pkcs11/token.ts';
import type { KeyStore, Witness } from './store/store.ts';
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
const POLL_MS = 20;
/** Raised when the keys of seals and macs are to change (`kms store reseal`). */
const KEY_EPOCH = 1;

export class App {
  readonly #config: Config;
  readonly #store: KeyStore;
  readonly #audit: AuditLog;
  readonly #token: Token;
  readonly #invocations: Invocations;
  readonly #installation: Installation;
  readonly #flush: () => Promise<void>;
  readonly #fleet: Fleet;
  readonly #evidence: Evidence;
  readonly #latches: PinLatches;
  readonly #engine: CryptoEngine;
  readonly #selfTests: SelfTests;
  readonly #listeners: Readonly<Record<Port, Listener>>;
  /** For doors, and for whoever drives the gate without one. */
  readonly gate: Gate;
  readonly lifecycle: KeyLifecycle;
  readonly operations: KeyOperations;
  readonly logger: Logger;
  readonly metrics: Metrics;
  #macs: Macs | undefined;
  #sealed = false;
  #draining = false;

  private constructor(config: Config, parts: Parts, events: AppEvents) {
    const { store, audit, installation, bootId, logger } = parts;
    const now = (): number => Date.now();
    const { hostId } = config;
    this.#config = config;
    this.#store = store;
    this.#audit = audit;
    this.#installation = installation;
    this.logger = logger;
    this.#latches = new PinLatches({ store, hostId, source: () => pinSource(pinFile(config)), logger });
    this.#token = this.#openToken(events);
    this.#invocations = new Invocations(store);
    this.#engine = new CryptoEngine(this.#token, installation.id, internalKey(installation, 'import'));
    const outbox = new Outbox(store, bootId);
    this.#fleet = new Fleet({
      store, audit, outbox, logger, hostId, bootId, isRunning,
      birth: birthOf(process.pid) ?? { pid: process.pid, born: '' },
      startedMs: now(),
      readDead: (boot) => this.#readStream(boot),
      exclusively: (run) => events.exclusively(run),
    });
    const fleet = this.#fleet;
    const reconciler = new Reconciler({
      engine: this.#engine, store, audit, outbox,
      internalKeys: installation.internalKeys,
      labels: Object.values(labelPrefixes(installation.id)),
      hasEnded: (boot) => fleet.hasEnded(boot),
    });
    const anchoring = this.#createAnchoring(bootId, now);
    this.#evidence = new Evidence({
      store, audit, logger, bootId, fleet, anchoring, reconciler,
      kind: installation.kind,
      unseal: () => this.#unseal(),
      witnesses: () => this.#witnesses(),
      compareMs: config.store.compareSeconds * 1000,
    });
    this.metrics = this.#createMetrics();
    const floods = createFloodGate({ append: (event) => audit.append(event), now });
    this.#flush = () => floods.flush();
    const assertServing = (): void => { this.#evidence.assertServing(); };
    const gate = new Gate({ store, audit, floods, outbox, installation, now, assertServing });
    this.gate = gate;
    const engine = this.#engine;
    this.#selfTests = new SelfTests({ engine, audit, logger, periodMs: config.hsm.selfTestSeconds * 1000 });
    this.lifecycle = new KeyLifecycle({ gate, engine, store, bootId, now, onRestriction: () => { anchoring.restricted(); } });
    this.operations = new KeyOperations(gate, engine, this.#invocations);
    const pages = new PageTokens(() => this.#pageKey());
    const identity = new ClientIdentity(gate, [authority(installation.accessCa)], now);
    const okms = okmsRoutes({ lifecycle: this.lifecycle, operations: this.operations, pages });
    this.#listeners = this.#createListeners({
      gate,
      identity,
      bodyLimit: config.server.bodyLimit,
      okms,
      documents: [{ door: okmsDocument, document: openApiDocument(okmsDocument, okms, packageVersion()) }],
      ports: { api: config.server.port, public: config.server.publicPort },
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
    const { store, installation } = await openInstalled(config, bootId, (err) => {
      logger.warn({ err }, 'the store does not answer yet');
    });
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

  get installation(): Installation {
    return this.#installation;
  }

  accept(port: Port, socket: Socket): void {
    this.#listeners[port].accept(socket);
  }

  readiness(): Readiness {
    const checks = {
      token: this.#tokenState(),
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
  }

  /** Resolves when the token can be used, the store is verified and the self-test has passed; rejects when the token is lost before. */
  async whenReady(): Promise<void> {
    await this.#token.whenReady();
    await this.#evidence.open();
    void this.#selfTests.run();
    await this.#selfTests.firstPass;
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
      () => this.record('process.stop', {}),
      () => this.#audit.close(),
      () => this.#leave(),
      async () => { stopped = await this.#token.stop(STOP_MS); },
      () => this.#store.close(),
      () => this.logger.flush(),
    ]);
    return stopped;
  }

  /** A stream that could not be closed is left to the successor. */
  async #leave(): Promise<void> {
    if (this.#sealed && this.#audit.head().closed) await this.#fleet.leave();
  }

  #tokenState(): string {
    if (this.#latches.waiting) return 'starting: pin-latched';
    const token = this.#token.state;
    return token.phase === 'ready' ? 'ok' : `${token.phase}: ${token.reason}`;
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

  #connections(): number {
    return Object.values(this.#listeners).reduce((sum, { connections }) => sum + connections, 0);
  }

  /** Derives the keys of seals and macs, and has the audit sealed with them. */
  async #unseal(): Promise<Macs> {
    const { id } = this.#installation;
    this.#macs ??= await deriveMacs(this.#token, internalKey(this.#installation, 'integrity'), id, KEY_EPOCH);
    if (!this.#sealed) this.#sealAudit(this.#macs);
    return this.#macs;
  }

  #sealAudit({ tail: mac }: Macs): void {
    const auditKey = internalKey(this.#installation, 'audit');
    this.#sealed = true;
    this.#audit.seal({
      installation: this.#installation.id,
      kind: this.kind,
      mac,
      sign: (bytes) => signWithInternalKey(this.#token, auditKey, bytes),
      publicKey: auditKey.publicKey ?? new Uint8Array(),
      storeHead: () => this.#storeHead(),
      peers: () => this.#fleet.peers(),
      takeCounters: () => this.#invocations.takeNews(),
      onCheckpoint: () => undefined,
    });
  }

  /**
   * Zeros while the store is not believed: a checkpoint that names the head of a forked store would stand against the
   * honest one when that comes back.
   */
  #storeHead(): { readonly epoch: number; readonly seq: number; readonly mac: string } {
    try {
      if (this.#evidence.state !== 'ok') throw new KmsError('store-unavailable', this.#evidence.state);
      const { epoch, seq, mac } = this.#store.head();
      return { epoch, seq, mac: Buffer.from(mac).toString('hex') };
    } catch {
      return { epoch: 0, seq: 0, mac: '0'.repeat(64) };
    }
  }

  #readStream(boot: string): ReturnType<typeof readDeadStream> {
    const { publicKey } = internalKey(this.#installation, 'audit');
    const keys = { mac: this.#macs?.tail ?? noKey, publicKey: publicKey ?? new Uint8Array() };
    return readDeadStream(paths.audit(this.#config.home), this.#config.hostId, boot, keys);
  }

  /** A store that was put back does not know of the streams that came later; their checkpoints know of it. */
  async #witnesses(): Promise<readonly Witness[]> {
    const known = new Set((await this.#store.processes()).map(({ bootId }) => bootId));
    const unknown = streamsIn(this.#config).filter((boot) => !known.has(boot));
    const streams = await Promise.all(unknown.map((boot) => this.#readStream(boot)));
    return streams.flatMap(({ lastCheckpoint }) => (lastCheckpoint === null ? [] : [toWitness(lastCheckpoint.store)]));
  }

  #createAnchoring(bootId: string, now: () => number): Anchoring {
    const { anchorSeconds, anchorMinIntervalMs: minIntervalMs } = this.#config.store;
    const anchors = (): Anchors => new Anchors(this.#token, this.#installation.id, this.#macs?.anchor ?? noKey);
    return new Anchoring({
      anchors: { read: () => anchors().read(), write: (anchor) => anchors().write(anchor) },
      store: this.#store,
      logger: this.logger,
      bootId,
      now,
      minIntervalMs,
      periodMs: anchorSeconds * 1000,
      auditHeads: () => this.#auditHeads(),
      onFault: (error) => { this.#evidence.condemn(error); },
    });
  }

  async #auditHeads(): Promise<Uint8Array> {
    const heads = (await this.#store.processes()).map(({ hostId, bootId, stream }) => `${hostId}/${bootId} ${stream.seq} ${stream.head}`);
    return createHash('sha256').update(heads.sort().join('\n')).digest();
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
      integrityFailures: () => this.#evidence.damages,
      findings: () => this.#evidence.findings,
    });
  }

  #pageKey(): Promise<Uint8Array> {
    return deriveKey(this.#token, internalKey(this.#installation, 'integrity'), this.#installation.id, 'page', KEY_EPOCH);
  }

  #openToken(events: AppEvents): Token {
    const { id, tokenLabel, tokenSerial } = this.#installation;
    return new Token({
      ...tokenOptions(this.#config),
      destroyable: labelPrefixes(id).keys,
      setup: {
        ...tokenSetup(this.#config),
        tokenLabel,
        tokenSerial,
        canary: canaryOf(this.#installation),
        provision: null,
      },
      mayLogin: async () => {
        await this.#latches.released();
        await events.mayLogin();
      },
      // First among the processes of this host, then among the hosts.
      exclusively: (run) => events.exclusively(() => this.#store.exclusively(run)),
      onLost: (reason) => { events.lost(reason); },
      onState: (state) => { this.#tokenChanged(state, events); },
    });
  }

  #tokenChanged(state: Token['state'], events: AppEvents): void {
    this.logger[state.phase === 'ready' ? 'info' : 'warn']({ token: state }, 'token');
    const latched = state.phase === 'starting' && state.reason === 'pin' ? this.#latches.failed() : undefined;
    const passed = state.phase === 'ready' ? this.#latches.passed() : undefined;
    Promise.all([latched, passed]).catch((err: unknown) => { this.logger.warn({ err }, 'the store does not know of the PIN'); });
    if (state.phase === 'starting') events.waiting();
    else events.loggedIn();
  }
}

interface Parts {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly installation: Installation;
  readonly bootId: string;
  readonly logger: Logger;
}

function noKey(): never {
  throw new KmsError('internal', 'the keys of the audit are not derived yet');
}

/** Boot ids of the streams of this host. */
function streamsIn({ home, hostId }: Config): readonly string[] {
  const host = join(paths.audit(home), hostId);
  return readdirSync(host, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name);
}

function toWitness({ epoch, seq, mac }: { readonly epoch: number; readonly seq: number; readonly mac: string }): Witness {
  return { epoch, seq, mac: Buffer.from(mac, 'hex') };
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
