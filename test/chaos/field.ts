/**
 * One scenario in progress: an installation whose module is the fault shim, the load on it, the recorder behind the
 * load, and what can be seen of the service from outside: readiness, processes, memory, calls to the module.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseDocument } from 'yaml';
import { FaultShim } from '../fault/shim.ts';
import { auditRecords } from '../support/audit-records.ts';
import { Installation } from '../support/installation.ts';
import { eventually, PATIENCE_MS } from '../support/wait.ts';
import type { Disks } from './disks.ts';
import {
  type Ask, auditComplete, honestErrors, monotonicState, noAcknowledgedKeyLost, noLeak, noOrphan, nothingUndecryptable, rightKey,
} from './invariants.ts';
import { asking, ChaosClient, Load } from './load.ts';
import { type Entry, Recorder, succeeded } from './recorder.ts';
import type { Asked } from './requests.ts';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';
const PROFILE = 'hsm-config/softhsm-2.6.1.yaml';
const POLL_MS = 100;
/** Requests. */
const ENOUGH = 150;

export interface FieldOptions {
  /** Settings of the service beside those of the test. */
  readonly settings?: Readonly<Record<string, string>>;
  /** What the HSM profile says of handles; `fixed` unless the scenario moves them. */
  readonly handles?: 'fixed' | 'may-move';
  /** Further variables of the shim. */
  readonly shim?: Readonly<Record<string, string>>;
  readonly clients?: number;
  /** Of token, store and audit; else they are on one that nobody fills. */
  readonly disks?: Disks;
}

export interface Readiness {
  /** 0 when nobody answered. */
  readonly status: number;
  readonly checks: Readonly<Record<string, string>>;
}

/** Times are `performance.now()`. */
export interface Window {
  fromMs: number;
  /** When the service was first seen not to be ready. */
  noticedMs: number;
  /** When the last process was seen not to be ready. */
  downMs: number;
  toMs: number;
}

export class Field {
  readonly kms: Installation;
  readonly shim: FaultShim;
  readonly recorder = new Recorder();
  readonly load: Load;
  readonly fault: Window = { fromMs: Number.NaN, noticedMs: Number.NaN, downMs: Number.NaN, toMs: Number.NaN };
  /** From the end of the fault to the first `ready`. */
  recoveredMs = Number.NaN;
  readonly #directory: string;
  readonly #disks: Disks | undefined;

  private constructor(kms: Installation, shim: FaultShim, directory: string, { clients = 12, disks }: FieldOptions) {
    this.#disks = disks;
    this.kms = kms;
    this.shim = shim;
    this.#directory = directory;
    this.load = new Load(kms, this.recorder, clients);
  }

  static async make(options: FieldOptions): Promise<Field> {
    const { settings = {}, handles = 'fixed', shim: extra = {}, disks } = options;
    const directory = mkdtempSync(join(tmpdir(), 'kms-chaos-'));
    const shim = new FaultShim(directory, MODULE);
    const profile = shim.profile(PROFILE, extra);
    const document = parseDocument(readFileSync(profile, 'utf8'));
    document.set('handles', handles);
    writeFileSync(profile, document.toString());
    const kms = await Installation.make({ KMS_SERVER_PROCESSES: '2', KMS_HSM_PROFILE: profile, ...settings }, (home) => disks?.mount(home));
    return new Field(kms, shim, directory, options);
  }

  /** Ends the service whatever state it is in. */
  async remove(): Promise<void> {
    // Calls that hang would hold the processes for as long as the supervisor lets them.
    this.shim.set(['release']);
    await this.load.stop();
    await this.kms.stop();
    this.#disks?.unmount();
    await this.kms.remove();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get processes(): number {
    return Number(this.kms.environment['KMS_SERVER_PROCESSES']);
  }

  get tokens(): string {
    return join(this.kms.home, 'softhsm', 'tokens');
  }

  get pinFile(): string {
    return join(this.kms.home, 'softhsm', 'user.pin');
  }

  /** Calls of a function of the module so far, by every process. */
  calls(name: string): number {
    return this.shim.counts().get(name)?.calls ?? 0;
  }

  /** Server processes started so far. */
  started(): number {
    return auditRecords(this.kms).filter(({ event }) => event === 'process.start').length;
  }

  /** What a newcomer is told; one connection for each question, as they stay with their process. */
  async readiness(): Promise<Readiness> {
    const client = this.kms.client(null);
    try {
      const asked = client.get(`https://localhost:${this.kms.publicPort}/readyz`);
      const { status, json } = await Promise.race([asked, sleep(5000, { status: 0, json: undefined }, { ref: false })]);
      return { status, checks: json?.checks ?? {} };
    } catch {
      return { status: 0, checks: {} };
    } finally {
      await client.close();
    }
  }

  /** How many processes say that they are ready. */
  readyProcesses(): Promise<number> {
    return this.kms.metric('kms_ready');
  }

  /** Resident bytes of the largest server process. */
  memory(): number {
    return Math.max(0, ...this.kms.serverProcesses().map((pid) => residentBytes(pid)));
  }

  /** Waits until no process is ready any more; readiness itself is the first to say so. */
  async unready(): Promise<void> {
    await eventually('not ready', async () => (await this.readiness()).status === 503);
    this.fault.noticedMs = performance.now();
    await eventually('no process is ready', async () => (await this.readyProcesses()) === 0);
    this.fault.downMs = performance.now();
  }

  /** A fault lasts for this time, and until enough was asked meanwhile for the answers to prove something. */
  async lasts(ms: number): Promise<void> {
    await sleep(ms);
    await eventually('enough is asked during the fault', () => this.#enough());
  }

  #enough(): boolean {
    const { downMs } = this.fault;
    const down = Number.isNaN(downMs) ? ENOUGH : this.recorder.between(downMs, performance.now()).length;
    return this.during().length >= ENOUGH && down >= ENOUGH;
  }

  /** As `lasts`; for a field with a load. @throws Error when the service says meanwhile that it is ready */
  async lastsDown(ms: number): Promise<void> {
    const end = performance.now() + ms;
    const over = performance.now() + PATIENCE_MS;
    while (performance.now() < end || (performance.now() < over && !this.#enough())) await this.staysDown(POLL_MS);
  }

  /** @throws Error when the service says that it is ready within this time */
  async staysDown(ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      const { status, checks } = await this.readiness();
      if (status === 200) throw new Error(`ready during the fault, ${JSON.stringify(checks)}`);
      await sleep(POLL_MS);
    }
  }

  /** From the end of the fault until a newcomer is told `ready`. @param quietMs I-8, on a quiet machine @throws Error after that */
  async recovered(quietMs: number): Promise<void> {
    const withinMs = quietMs * this.kms.slowness;
    let last: Readiness = { status: 0, checks: {} };
    while (performance.now() < this.fault.toMs + withinMs) {
      last = await this.readiness();
      this.recoveredMs = performance.now() - this.fault.toMs;
      if (last.status === 200) return;
      await sleep(POLL_MS);
    }
    throw new Error(`I-8: not ready ${withinMs / 1000} s after the end of the fault: ${JSON.stringify(last)}`);
  }

  /** Every process is ready, and the load gets its answers again. */
  async settled(): Promise<void> {
    await eventually('every process is ready', async () => (await this.readyProcesses()) === this.processes);
    await this.answered(100);
  }

  /** Waits for so many more successes: work done, not time passed. */
  async answered(more: number, withinMs = PATIENCE_MS): Promise<void> {
    const before = this.recorder.entries.length;
    const holds = (): boolean => this.recorder.entries.slice(before).filter(succeeded).length >= more;
    await eventually(`${more} successes`, holds, withinMs);
  }

  /** Clients that ask one thing over and over, beside the load. */
  askingAllTheTime(clients: number, asked: () => Asked): { readonly stop: () => Promise<void> } {
    let stopping = false;
    const running = Array.from({ length: clients }, async () => {
      const client = new ChaosClient(this.kms, this.recorder);
      while (!stopping) {
        await client.ask(asked());
        await sleep(POLL_MS);
      }
      client.close();
    });
    return {
      stop: async () => {
        stopping = true;
        await Promise.all(running);
      },
    };
  }

  /** Sent during the fault, which may still last. */
  during(): readonly Entry[] {
    const { fromMs, toMs } = this.fault;
    return this.recorder.between(fromMs, Number.isNaN(toMs) ? performance.now() : toMs);
  }

  /** Sent when every process had noticed, and the fault lasted. */
  whileDown(): readonly Entry[] {
    return this.recorder.between(this.fault.downMs, this.fault.toMs);
  }

  /** Every invariant but I-8, which `recovered` asserts. Ends the service. */
  async violations(): Promise<readonly string[]> {
    const { kms, recorder } = this;
    await this.load.stop();
    const state = monotonicState(recorder);
    const living = await this.asking(async (ask) => [
      ...(await noAcknowledgedKeyLost(recorder, ask)),
      ...(await nothingUndecryptable(recorder, ask)),
    ]);
    const exit = await kms.stop();
    return [
      ...honestErrors(recorder), ...rightKey(recorder), ...living, ...state,
      ...(exit === 0 ? [] : [`the service ended with ${String(exit)}`]),
      ...kms.output.split('\n').filter((line) => line.includes('uncaught exception')),
      ...noOrphan(kms).violations, ...(await auditComplete(kms, recorder)), ...noLeak(kms, recorder),
    ];
  }

  asking<T>(use: (ask: Ask) => Promise<T>): Promise<T> {
    return asking(this.kms, this.recorder, use);
  }
}

function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
  } catch {
    return 0;
  }
}

/** Tells every server process to test its token now. */
export function selfTestNow({ kms }: Field): void {
  process.kill(kms.pid, 'SIGHUP');
}
