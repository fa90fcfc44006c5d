/**
 * kill -9 at random points of create, rotate and delete, two processes on one token (security C-13, C-14, S-20, S-22,
 * S-25): one is killed, or both, and successors take over while the other goes on. Then everything is looked at.
 */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { runKms } from '../support/files.ts';
import { times } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';
import { type Act, type Actor, Host } from './actors.ts';
import { auditStreams } from './audit-lines.ts';
import { Callers } from './callers.ts';
import { Ledger } from './ledger.ts';
import * as eyes from './other-eyes.ts';
import { deepest, type Phase, PHASES, phasesOf } from './phases.ts';
import { rowsOf } from './store-sql.ts';
import { allWorks } from './works.ts';

const CALLERS = 4;
/** Each third kill falls anywhere within this time of work, the others while a process is at one of these. */
const ANYWHERE_MS = 800;
const AIMS: readonly Act[] = ['rotate', 'delete', 'create'];
const BOTH_EVERY = 5;
const STARTING_EVERY = 7;
/** A sweep that another has in hand is repeated after a minute. */
const SETTLED_MS = 300_000;

/** Small, as segments of the killed are never cut, and each look reads them all. */
const SMALL = { KMS_AUDIT_SEGMENT_BYTES: '131072' };

export function killAtRandom(name: string, settings: () => Promise<NodeJS.ProcessEnv>): void {
  const count = times(10, 200);
  test(`${count} kills on ${name}: nothing acknowledged is lost, nothing is left over, no false alarm`, async () => {
    const kms = await Installation.make({ ...SMALL, ...(await settings()) });
    const kill9 = new Kill9(kms);
    try {
      await kill9.run(count);
    } finally {
      kill9.report(name);
      await kill9.end();
      await kms.remove();
    }
  }, 300_000 + 20_000 * count);
}

class Kill9 {
  readonly kms: Installation;
  readonly ledger = new Ledger();
  readonly #host: Host;
  readonly #callers = new Callers(this.ledger);
  readonly #phases: Phase[] = [];
  /** Of every step in flight at every kill. */
  readonly #steps: Phase[] = [];
  #actors: Actor[] = [];
  readonly #outputs: string[] = [];
  readonly #interrupted = new Set<string>();
  readonly #startMs = performance.now();
  #aimed = 0;

  constructor(kms: Installation) {
    this.kms = kms;
    this.#host = new Host(kms);
  }

  async run(count: number): Promise<void> {
    await this.#ensureTwo();
    await this.#callers.prepare(this.#actors[0]!);
    await this.#suffer(Math.floor(count / 2));
    await this.#lookAround();
    await this.#suffer(count);
    await this.#lookAround();
    await this.#drain();
    expect(await this.#violations(new Set())).toEqual([]);
    expect(await examine(this.kms)).toEqual({ damages: [], findings: [] });
    expect(await runKms(this.kms.environment, 'audit', 'verify')).toEqual({ code: 0, stdout: expect.stringContaining('the audit is intact'), stderr: '' });
    this.#assertHit();
  }

  /** Kills that interrupt nothing would prove nothing. */
  #assertHit(): void {
    for (const phase of ['announced', 'destroying'] as const) expect(this.#steps).toContain(phase);
    const events = new Set(auditStreams(this.kms).flatMap(({ lines }) => lines.map(({ event }) => event)));
    for (const event of ['recovery', 'stream.adopt', 'reconcile.aborted', 'reconcile.destroyed']) expect(events).toContain(event);
  }

  /** For the log of the test, also when it failed. */
  report(name: string): void {
    const lines = auditStreams(this.kms).flatMap((stream) => stream.lines);
    const count = (event: string): number => lines.filter((line) => line.event === event).length;
    const numbers = [
      `${this.#phases.length} kills (${histogram(this.#phases)})`,
      `steps in flight: ${histogram(this.#steps)}`,
      `${count('recovery')} recoveries, ${count('stream.adopt')} streams adopted`,
      `${count('reconcile.aborted')} makings aborted, ${count('reconcile.destroyed')} destructions completed`,
      `${this.ledger.keys.size} keys, ${this.ledger.sealed.length} ciphertexts, ${this.ledger.signed.length} signatures`,
      Object.entries(this.ledger.counts()).map(([what, times]) => `${what} ${times}`).sort().join(', '),
      `${((performance.now() - this.#startMs) / 1000).toFixed(0)} s`,
    ];
    process.stderr.write(`${name}: ${numbers.join('; ')}\n`);
  }

  async end(): Promise<void> {
    await Promise.all(this.#actors.map((actor) => actor.kill()));
    await this.#callers.stop();
  }

  async #suffer(until: number): Promise<void> {
    for (const actor of this.#actors) this.#callers.employ(actor, CALLERS);
    for (let round = this.#phases.length; this.#phases.length < until; round += 1) {
      const victims = round % BOTH_EVERY === BOTH_EVERY - 1 ? [...this.#actors] : [this.#actors[round % 2]!];
      await this.#moment(victims[0]!, round);
      await Promise.all(victims.map(async (victim, index) => {
        await sleep(index * Math.random() * 100);
        await this.#kill(victim);
      }));
      if (round % STARTING_EVERY === STARTING_EVERY - 1) await this.#killWhileStarting();
      await this.#ensureTwo((actor) => { this.#callers.employ(actor, CALLERS); });
    }
    await this.#callers.stop();
  }

  /** Any moment, or one of the time that an act takes on this machine. */
  async #moment(victim: Actor, round: number): Promise<void> {
    if (round % 3 === 2) return sleep(Math.random() * ANYWHERE_MS);
    const aim = AIMS[this.#aimed++ % AIMS.length] ?? 'rotate';
    await new Promise<void>((resolve) => {
      victim.onBegun = (id) => { if (this.ledger.exchanges.get(id)?.step.act === aim) resolve(); };
    });
    await sleep(Math.random() * this.ledger.timeOf(aim));
  }

  async #kill(victim: Actor, starting = false): Promise<void> {
    const boot = await this.#bootOf(victim);
    await victim.kill();
    const begun = victim.begun.flatMap((id) => this.ledger.exchanges.get(id) ?? []);
    if (starting && boot !== undefined) this.#interrupted.add(boot);
    const phases = starting ? (['starting'] as const) : await phasesOf(this.kms, boot, begun);
    this.#phases.push(deepest(phases));
    if (!starting) this.#steps.push(...phases);
    this.#forget(victim);
  }

  /** The successor is killed, too: its own successor must do what both left. */
  async #killWhileStarting(): Promise<void> {
    const actor = this.#start();
    await actor.started;
    await eventually('it is enrolled, and begins to adopt', async () => actor.hasEnded || (await this.#bootOf(actor)) !== undefined);
    await sleep(Math.random() * ANYWHERE_MS);
    await this.#kill(actor, !actor.isReady);
  }

  async #bootOf({ pid }: Actor): Promise<string | undefined> {
    const [row] = await rowsOf(this.kms, `select boot_id from process where pid = ${pid} order by started_ms desc`);
    return row?.['boot_id'] as string | undefined;
  }

  /** Both at once where both are gone. */
  async #ensureTwo(employ: (actor: Actor) => void = () => undefined): Promise<void> {
    const fresh = Array.from({ length: 2 - this.#actors.length }, () => this.#start());
    await Promise.all(fresh.map(async (actor) => {
      await actor.ready;
      employ(actor);
    }));
  }

  #start(): Actor {
    const actor = this.#host.start();
    this.#actors.push(actor);
    return actor;
  }

  #forget(actor: Actor): void {
    this.#actors = this.#actors.filter((other) => other !== actor);
    this.#outputs.push(actor.output);
  }

  async #drain(): Promise<void> {
    const leaving = [...this.#actors];
    expect(await Promise.all(leaving.map((actor) => actor.drain()))).toEqual(leaving.map(() => 0));
    for (const actor of leaving) this.#forget(actor);
  }

  /** Two processes that saw nothing of it: when they have cleared up, all that was promised is there, for each of them. */
  async #lookAround(): Promise<void> {
    await this.#drain();
    await this.#ensureTwo();
    await this.#settled();
    for (const actor of this.#actors) expect(await allWorks(actor, this.ledger)).toEqual([]);
    const boots = await Promise.all(this.#actors.map((actor) => this.#bootOf(actor)));
    // The record of what was completed follows the end of its intent.
    await eventually('all is recorded', async () => (await this.#unrecorded()).length === 0).catch(() => undefined);
    expect(await this.#violations(new Set(boots.map(String)))).toEqual([]);
  }

  async #unrecorded(): Promise<readonly string[]> {
    const rows = await eyes.readRows(this.kms);
    return eyes.everyChangeRecorded(rows, auditStreams(this.kms), this.ledger, { running: new Set(), interrupted: this.#interrupted });
  }

  async #settled(): Promise<void> {
    const left = (): Promise<readonly unknown[]> => rowsOf(this.kms, 'select id from intent');
    await eventually('nothing announced is left', async () => (await left()).length === 0, SETTLED_MS);
  }

  async #violations(running: ReadonlySet<string>): Promise<readonly string[]> {
    const ended = { running, interrupted: this.#interrupted };
    const rows = await eyes.readRows(this.kms);
    const streams = auditStreams(this.kms);
    return [
      ...this.ledger.wrong,
      ...surprises(this.ledger),
      ...eyes.keysAsPromised(rows, this.ledger),
      ...eyes.tokenIsRows(this.kms, rows),
      ...eyes.signaturesHold(rows, this.ledger),
      ...eyes.noFalseAlarm(streams),
      ...eyes.streamsEnded(streams, ended),
      ...eyes.everyChangeRecorded(rows, streams, this.ledger, ended),
      ...this.#outputs.flatMap(errorsIn),
    ];
  }
}

/** Refusals that the callers of two processes give each other; the store is far when the machine has no time to ask it. */
const HONEST: ReadonlySet<string> = new Set(['wrong-state', 'not-found', 'conflict', 'overloaded', 'store-unavailable']);

function surprises(ledger: Ledger): readonly string[] {
  return [...ledger.exchanges.values()].flatMap(({ step, answer }) =>
    (answer?.kind === 'failed' && !HONEST.has(answer.code) ? [`I-7: ${step.id}: ${answer.code} ${answer.message}`] : []));
}

/** Lines of a process's own log that somebody would be woken for. */
function errorsIn(output: string): readonly string[] {
  return output.split('\n').filter((line) => /"level":"(?:error|fatal)"/.test(line)).map((line) => `in the log: ${line}`);
}

async function examine({ environment }: Installation): Promise<unknown> {
  const script = fileURLToPath(new URL('examine.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [script], { env: environment });
  return JSON.parse(stdout);
}

function histogram(phases: readonly Phase[]): string {
  const counts = PHASES.map((phase) => [phase, phases.filter((other) => other === phase).length] as const);
  return counts.filter(([, times]) => times > 0).map(([phase, times]) => `${phase} ${times}`).join(', ');
}
