/** The supervisor's view of one server process. */

import cluster, { type Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Port } from '../app.ts';
import type { MetricsSnapshot } from '../telemetry/metrics.ts';
import { DRAIN_DEADLINE_MS, type InstallationKind, type ToProcess, type ToSupervisor, type Turn } from './protocol.ts';

/** `unreachable`: its channel is closed, and its exit not yet told. Only `listening` and `ready` are given connections. */
export type ChildPhase = 'starting' | 'listening' | 'ready' | 'draining' | 'unreachable' | 'ended';

export interface ChildEvents {
  changed(child: ServerChild): void;
  asksTurn(child: ServerChild, what: Turn): void;
  turnOver(child: ServerChild, what: Turn): void;
  replace(child: ServerChild, reason: string): void;
  fatal(message: string): void;
  /** A connection that the process did not take. */
  returned(port: Port, socket: Socket): void;
  /** @param planned it was told to drain and said that it had */
  ended(child: ServerChild, planned: boolean, how: string): void;
}

/** After its own deadline the process had time to close; then it is killed. */
const KILL_AFTER_MS = DRAIN_DEADLINE_MS + 1000;
const METRICS_MS = 1000;

export class ServerChild {
  readonly #worker: Worker;
  readonly #events: ChildEvents;
  readonly startedMs = performance.now();
  #phase: ChildPhase = 'starting';
  #installation: InstallationKind | undefined;
  #drained = false;
  #metricsId = 0;
  #handovers = 0;
  readonly #given = new Map<number, { readonly port: Port; readonly socket: Socket }>();
  readonly #metrics = new Map<number, (snapshot: MetricsSnapshot) => void>();

  constructor(events: ChildEvents) {
    this.#events = events;
    this.#worker = cluster.fork();
    this.#worker.on('message', (message: ToSupervisor) => { this.#receive(message); });
    this.#worker.on('error', () => undefined);
    this.#worker.on('disconnect', () => { this.#unreachable(); });
    this.#worker.on('exit', (code, signal) => { this.#exit(code, signal); });
  }

  /** Known once it is ready. */
  get installation(): InstallationKind | undefined {
    return this.#installation;
  }

  get phase(): ChildPhase {
    return this.#phase;
  }

  get pid(): number {
    return this.#worker.process.pid ?? 0;
  }

  /** The connection stays open here until the process says that it has it: a dying process must not take it along. */
  give(port: Port, socket: Socket): void {
    const id = this.#handovers++;
    this.#given.set(id, { port, socket });
    this.#worker.process.send({ kind: 'socket', id, port }, socket, { keepOpen: true }, (error) => {
      // From a callback of nextTick: until those have run, the event loop cannot tell us of the exit.
      if (error !== null) this.#unreachable();
    });
  }

  record(event: string, detail: Readonly<Record<string, string | number>>): void {
    this.#send({ kind: 'record', event, detail });
  }

  grant(what: Turn): void {
    this.#send({ kind: 'turn', what });
  }

  selfTest(): void {
    this.#send({ kind: 'self-test' });
  }

  drain(): void {
    if (!this.#isServing()) return;
    this.#phase = 'draining';
    this.#send({ kind: 'drain' });
    this.#killLater();
  }

  /** Undefined when the process does not answer in time. */
  metrics(): Promise<MetricsSnapshot | undefined> {
    const id = this.#metricsId++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#metrics.delete(id);
        resolve(undefined);
      }, METRICS_MS);
      this.#metrics.set(id, (snapshot) => {
        clearTimeout(timer);
        resolve(snapshot);
      });
      this.#send({ kind: 'metrics', id });
    });
  }

  #send(message: ToProcess): void {
    // A process that just died is noticed by its exit.
    if (this.#worker.isConnected()) this.#worker.process.send(message, undefined, {}, () => undefined);
  }

  #isServing(): boolean {
    return ['starting', 'listening', 'ready'].includes(this.#phase);
  }

  /** Out of the running for good: it dies, or drains by itself because it has lost us. */
  #unreachable(): void {
    if (this.#isServing()) {
      this.#phase = 'unreachable';
      this.#killLater();
    }
    for (const id of [...this.#given.keys()]) this.#takeBack(id);
  }

  #killLater(): void {
    setTimeout(() => { this.#worker.process.kill('SIGKILL'); }, KILL_AFTER_MS).unref();
  }

  #takeBack(id: number): void {
    const given = this.#given.get(id);
    this.#given.delete(id);
    if (given !== undefined) this.#events.returned(given.port, given.socket);
  }

  #receive(message: ToSupervisor): void {
    switch (message.kind) {
      case 'listening':
      case 'ready':
        if (!this.#isServing()) return;
        this.#phase = message.kind;
        if (message.kind === 'ready') this.#installation = message.installation;
        this.#events.changed(this);
        return;
      case 'waiting':
        this.#events.changed(this);
        return;
      case 'asks-turn':
        this.#events.asksTurn(this, message.what);
        return;
      case 'turn-over':
        this.#events.turnOver(this, message.what);
        return;
      case 'replace':
        this.#events.replace(this, message.reason);
        return;
      case 'took':
        // Closes this process's end only.
        this.#given.get(message.id)?.socket.destroy();
        this.#given.delete(message.id);
        return;
      case 'drained':
        this.#drained = true;
        return;
      case 'fatal':
        this.#events.fatal(message.message);
        return;
      case 'metrics':
        this.#metrics.get(message.id)?.(message.snapshot);
        this.#metrics.delete(message.id);
    }
  }

  #exit(code: number, signal: string): void {
    this.#phase = 'ended';
    for (const id of [...this.#given.keys()]) this.#takeBack(id);
    this.#events.ended(this, this.#drained, signal === '' ? `exit code ${code}` : `signal ${signal}`);
  }
}
