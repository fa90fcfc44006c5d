/**
 * The supervisor: holds the listening sockets and no keys, hands each connection to a ready server process, replaces a
 * sick process before it ends and restarts a dead one, at first at once, then with back-off (design §2).
 */

import cluster from 'node:cluster';
import type { Socket } from 'node:net';
import type { Port } from '../app.ts';
import type { Config } from '../config.ts';
import { NAME_SOURCE_FILES } from '../runtime.ts';
import type { Logger } from '../telemetry/log.ts';
import type { MetricsSnapshot } from '../telemetry/metrics.ts';
import type { InstallationKind, Turn } from './protocol.ts';
import { ServerChild } from './server-child.ts';
import { Sockets } from './sockets.ts';
import { Turns } from './turns.ts';

const BACKOFF_MS = [0, 250, 500, 1000, 2000, 5000];
/** At most one login a second on a host. */
const LOGIN_SPACING_MS = 1000;
/** A process that lived this long shows that restarting works. */
const STABLE_MS = 60_000;
/** For what a crowd of connections leaves behind: a young generation that stays small, and see api/crowd.ts. */
const MEMORY = ['--expose-gc', '--max-semi-space-size=4'];

export interface SupervisorEvents {
  /** All processes are ready for the first time. */
  readonly ready: (installation: InstallationKind) => void;
  /** The service cannot run; it has ended its processes. */
  readonly fatal: (message: string) => void;
}

export class Supervisor {
  readonly #config: Config;
  readonly #logger: Logger;
  readonly #events: SupervisorEvents;
  readonly #sockets: Sockets;
  readonly #children: ServerChild[] = [];
  readonly #restarts = new Map<string, number>();
  readonly #turns: Readonly<Record<Turn, Turns>> = { login: new Turns(LOGIN_SPACING_MS), change: new Turns(0) };
  /** What happened while no process was ready to record it. */
  #unrecorded: { readonly event: string; readonly detail: Readonly<Record<string, string | number>> }[] = [];
  #next = 0;
  #failures = 0;
  #announced = false;
  #stopping: (() => void) | undefined;

  constructor(config: Config, logger: Logger, events: SupervisorEvents) {
    this.#config = config;
    this.#logger = logger;
    this.#events = events;
    this.#sockets = new Sockets((port, socket) => this.#give(port, socket));
    const exec = new URL('./server-process.js', import.meta.url).pathname;
    cluster.setupPrimary({ exec, args: [], execArgv: [...process.execArgv, NAME_SOURCE_FILES, ...MEMORY], serialization: 'advanced' });
  }

  /** @returns the ports in use @throws KmsError `conflict` when one is taken */
  async start(): Promise<Readonly<Record<Port, number>>> {
    const { addresses, port, publicPort } = this.#config.server;
    const api = await this.#sockets.listen('api', addresses, port);
    const open = await this.#sockets.listen('public', addresses, publicPort);
    for (let index = 0; index < this.#config.server.processes; index += 1) this.#spawn();
    return { api, public: open };
  }

  restarts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#restarts);
  }

  async metrics(): Promise<readonly MetricsSnapshot[]> {
    const snapshots = await Promise.all(this.#live().map((child) => child.metrics()));
    return snapshots.filter((snapshot) => snapshot !== undefined);
  }

  /** Every process tests the token now. */
  selfTest(): void {
    for (const child of this.#live()) child.selfTest();
  }

  /** Stops accepting, drains every process, and resolves when the last one has ended. */
  stop(): Promise<void> {
    this.#sockets.close();
    return new Promise((resolve) => {
      this.#stopping = resolve;
      for (const child of this.#children) child.drain();
      if (this.#children.length === 0) resolve();
    });
  }

  #live(): ServerChild[] {
    return this.#children.filter(({ phase }) => !['draining', 'unreachable', 'ended'].includes(phase));
  }

  /** Ready processes in turn; else one that at least answers; else the connection waits. */
  #give(port: Port, socket: Socket): boolean {
    const ready = this.#children.filter(({ phase }) => phase === 'ready');
    const able = ready.length > 0 ? ready : this.#children.filter(({ phase }) => phase === 'listening');
    const child = able[this.#next++ % Math.max(able.length, 1)];
    child?.give(port, socket);
    return child !== undefined;
  }

  #spawn(): ServerChild {
    const child = new ServerChild({
      changed: (changed) => { this.#changed(changed); },
      asksTurn: (asking, what) => { this.#turns[what].ask(asking, { grant: () => { asking.grant(what); } }); },
      turnOver: (done, what) => { this.#turns[what].over(done); },
      replace: (sick, reason) => { this.#replace(sick, reason); },
      fatal: (message) => { this.#fatal(message); },
      returned: (port, socket) => { this.#sockets.takeBack(port, socket); },
      ended: (ended, planned, how) => { this.#ended(ended, planned, how); },
    });
    this.#children.push(child);
    return child;
  }

  #changed(child: ServerChild): void {
    this.#sockets.retry();
    this.#recordPending();
    const ready = this.#children.filter(({ phase }) => phase === 'ready').length;
    const { installation } = child;
    if (installation === undefined || child.phase !== 'ready' || this.#announced || ready < this.#config.server.processes) return;
    this.#announced = true;
    this.#events.ready(installation);
  }

  /** The replacement first: the sick one is drained when the new one listens, and answers 503 until then. */
  #replace(sick: ServerChild, reason: string): void {
    if (['draining', 'unreachable', 'ended'].includes(sick.phase) || this.#stopping !== undefined) return;
    this.#note('process.replace', reason, sick.pid);
    const fresh = this.#spawn();
    const watch = setInterval(() => {
      if (fresh.phase === 'starting') return;
      clearInterval(watch);
      sick.drain();
    }, 10);
  }

  #ended(child: ServerChild, planned: boolean, how: string): void {
    this.#children.splice(this.#children.indexOf(child), 1);
    for (const turns of Object.values(this.#turns)) turns.over(child);
    if (this.#stopping !== undefined) {
      if (this.#children.length === 0) this.#stopping();
      return;
    }
    if (!planned) this.#note('process.restart', how, child.pid);
    // One that was drained has its replacement, unless that ended meanwhile.
    if (this.#live().length >= this.#config.server.processes) return;
    this.#failures = performance.now() - child.startedMs > STABLE_MS ? 0 : this.#failures;
    const delay = BACKOFF_MS[Math.min(this.#failures++, BACKOFF_MS.length - 1)];
    setTimeout(() => {
      if (this.#stopping === undefined && this.#live().length < this.#config.server.processes) this.#spawn();
    }, delay);
  }

  #fatal(message: string): void {
    if (this.#stopping !== undefined) return;
    void this.stop().then(() => { this.#events.fatal(message); });
  }

  /** To log and metric at once, to the audit through the next ready process. */
  #note(event: string, reason: string, pid: number): void {
    this.#restarts.set(event, (this.#restarts.get(event) ?? 0) + 1);
    this.#logger.warn({ event, reason, process: pid }, 'server process');
    this.#unrecorded.push({ event, detail: { reason, process: pid } });
    this.#recordPending();
  }

  #recordPending(): void {
    const ready = this.#children.find(({ phase }) => phase === 'ready');
    if (ready === undefined) return;
    for (const { event, detail } of this.#unrecorded) ready.record(event, detail);
    this.#unrecorded = [];
  }
}
