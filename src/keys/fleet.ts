/**
 * The server processes of the installation, as one of them sees them: its lease, the streams of those that ended
 * without closing theirs, and the outcomes they owed the audit (integrity §7, design §7–8).
 */

import type { AuditLog, PeerHead } from '../audit/log.ts';
import type { DeadStream } from '../audit/dead-stream.ts';
import { adoptionEvent } from '../audit/stream-events.ts';
import { KmsError } from '../errors.ts';
import type { KeyStore, ProcessRow, StreamPosition } from '../store/store.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Outbox } from './outbox.ts';
import { recordOutcomes, settleOwn } from './recovery.ts';

/** A process of the operating system, named for good. */
export interface Birth {
  readonly pid: number;
  readonly born: string;
}

export interface FleetOptions {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly outbox: Outbox;
  readonly logger: Logger;
  readonly hostId: string;
  readonly bootId: string;
  readonly birth: Birth;
  readonly startedMs: number;
  /** Whether a process of this host still runs. */
  readonly isRunning: (birth: Birth) => boolean;
  /** Reads a stream of this host whose process has ended. */
  readonly readDead: (bootId: string) => Promise<DeadStream>;
  /** Runs while no other process of this host does. */
  readonly exclusively: (run: () => Promise<void>) => Promise<void>;
}

/** A process says each second that it lives; others of another host believe it for so long. */
export const LEASE_MS = 30_000;
/** Without a renewal for so long a process serves nothing: nobody waits for its acknowledgement any more. */
const FENCE_MS = 20_000;
/** So long is one process of a host the one that adopts. */
const ADOPT_MS = 15_000;
/** Heads of streams reach the store once a second: asking more often tells nothing new. */
const PEERS_MS = 1000;
/** Streams that ended longer ago are in everybody's checkpoints. */
const RECENT_MS = 600_000;

export class Fleet {
  readonly #options: FleetOptions;
  /** Streams that cannot be adopted are told of once. */
  readonly #damaged = new Set<string>();
  #renewedAt = Number.NEGATIVE_INFINITY;
  #peersAt = Number.NEGATIVE_INFINITY;
  #settled = false;
  #peers: Promise<readonly PeerHead[]> = Promise.resolve([]);

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** @throws KmsError `store-unavailable` */
  async enrol(): Promise<void> {
    const { store, hostId, bootId, birth, startedMs } = this.#options;
    const begun = performance.now();
    const known = (await store.processes()).some((row) => row.bootId === bootId);
    if (!known) await store.enrol({ bootId, hostId, ...birth, startedMs, stream: this.#position() });
    this.#renewedAt = begun;
  }

  /** Says that this process lives, how far its stream is, and which outcomes the audit holds. */
  async renew(): Promise<void> {
    const { store, bootId, outbox } = this.#options;
    const begun = performance.now();
    await store.renew(bootId, this.#position());
    this.#renewedAt = begun;
    await outbox.flush();
  }

  /** @throws KmsError `store-unavailable` when the others may believe that this process has ended */
  assertMember(): void {
    if (performance.now() - this.#renewedAt <= FENCE_MS) return;
    throw new KmsError('store-unavailable', 'this process could not say that it lives', { retryAfter: 1 });
  }

  /**
   * Adopts the streams of this host's dead processes and records what they owed; to be done before readiness. One of
   * several successors that start at once does it: nothing is recorded twice.
   */
  async adoptDead(): Promise<void> {
    if ((await this.#dead()).length === 0) return;
    await this.#options.exclusively(async () => {
      for (const row of await this.#dead()) await this.#adopt(row);
    });
  }

  /**
   * While this process runs: a process that was replaced before it ended may have been killed since. One process of the
   * host does it for all.
   */
  async adoptEnded(): Promise<void> {
    const { store, hostId, bootId } = this.#options;
    if (await store.takeDuty(`adopt ${hostId}`, bootId, ADOPT_MS)) await this.adoptDead();
  }

  /** What checkpoints, up to ten a second, say of the other streams: as the store knew them less than a second ago. */
  peers(): Promise<readonly PeerHead[]> {
    if (performance.now() - this.#peersAt > PEERS_MS) {
      this.#peersAt = performance.now();
      this.#peers = this.#readPeers();
    }
    return this.#peers;
  }

  /** An adopted one is not closed: it ends without a checkpoint of its own. */
  async #readPeers(): Promise<readonly PeerHead[]> {
    const { store, bootId } = this.#options;
    const nowMs = await store.nowMs();
    const rows = await store.processes();
    return rows
      .filter((row) => row.bootId !== bootId && (row.settledMs === null || nowMs - row.settledMs < RECENT_MS))
      .map(({ hostId, bootId: boot, stream, state }) => ({
        stream: `${hostId}/${boot}`, seq: stream.seq, head: stream.head, closed: state === 'closed',
      }));
  }

  /** Of this host: when the operating system says so. Of another: when it did not renew its lease for long. */
  async hasEnded(bootId: string): Promise<boolean> {
    const { store, hostId } = this.#options;
    const row = (await store.processes()).find((candidate) => candidate.bootId === bootId);
    if (row === undefined) return false;
    if (row.state !== 'open') return true;
    if (row.hostId === hostId) return !this.#runs(row);
    return (await store.nowMs()) - row.leaseMs > LEASE_MS;
  }

  /** Whether nothing is owed any more: only then may the stream be closed; else a successor adopts it, as after a kill. */
  get settled(): boolean {
    return this.#settled;
  }

  /** Before the last record of this process. */
  async settle(): Promise<void> {
    const { store, audit, hostId, bootId, outbox } = this.#options;
    await settleOwn(store, audit, outbox, { hostId, bootId });
    this.#settled = true;
  }

  /** After the last record of this process. */
  async leave(): Promise<void> {
    const { store, bootId } = this.#options;
    await store.settleStream(bootId, 'closed', this.#position());
  }

  async #dead(): Promise<readonly ProcessRow[]> {
    const { store, hostId, bootId } = this.#options;
    const rows = await store.processes();
    return rows.filter((row) => row.state === 'open' && row.hostId === hostId && row.bootId !== bootId && !this.#runs(row));
  }

  #runs({ pid, born }: ProcessRow): boolean {
    return this.#options.isRunning({ pid, born });
  }

  #position(): StreamPosition {
    const { seq, head, checkpoint } = this.#options.audit.head();
    return { seq, head, checkpoint };
  }

  async #adopt(row: ProcessRow): Promise<void> {
    const { audit, store, logger } = this.#options;
    const dead = await this.#options.readDead(row.bootId);
    const cut = dead.seq < row.stream.seq;
    if (dead.problem !== undefined || cut) {
      if (this.#damaged.has(row.bootId)) return;
      this.#damaged.add(row.bootId);
      const { file = '', line = 0, reason = `the store knows record ${row.stream.seq}, the last here is ${dead.seq}` } = dead.problem ?? {};
      logger.error({ event: 'audit-damaged', stream: dead.stream, file, line, reason }, 'a stream of the audit is damaged and was not adopted');
      await audit.append({ event: 'audit.damaged', result: 'failed', reason, detail: { stream: dead.stream, file, line } });
      return;
    }
    await store.raiseInvocations(dead.counters);
    await recordOutcomes(store, audit, row, (requests) => dead.outcomes(requests));
    await audit.append(adoptionEvent(dead));
    const { seq, head } = dead;
    await store.settleStream(row.bootId, 'adopted', { seq, head, checkpoint: row.stream.checkpoint });
  }
}
