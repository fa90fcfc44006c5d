/**
 * One at a time in the whole installation: a session advisory lock, which the server gives out in order and frees
 * when the connection of its holder ends. Callers of this process queue here, so that they wait on one connection.
 */

import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../errors.ts';
import { sqlState } from './postgres-errors.ts';
import type { Connection, Connections } from './postgres-pool.ts';

/** The first key of all our advisory locks, "kms" and a version. They count per database. */
const OURS = 0x6b6d7301;
const LOCK_NOT_AVAILABLE = '55P03';
/** How much later than the server the driver gives up, in ms. */
const GRACE_MS = 1_000;

export class InstallationLock {
  readonly #connections: Connections;
  readonly #keys: readonly [number, number];
  readonly #waitMs: number;
  /** Ends when all before have ended. */
  #tail: Promise<void> = Promise.resolve();

  /** @param connections at least one, with no limit for statements */
  constructor(connections: Connections, purpose: string, waitMs: number) {
    this.#connections = connections;
    this.#keys = [OURS, createHash('sha256').update(purpose).digest().readInt32BE()];
    this.#waitMs = waitMs;
  }

  /**
   * Should the connection break while `run` runs, another may start beside it: `run` must be safe then, and its
   * outcome stands. It may not call `hold` itself.
   *
   * @throws KmsError `overloaded` when the turn did not come in time; what `run` throws
   */
  async hold<T>(run: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + this.#waitMs;
    const leave = await this.#turn();
    try {
      const connection = await this.#connections.connect();
      try {
        await this.#lock(connection, deadline - performance.now());
        return await this.#unlocking(connection, run);
      } finally {
        connection.release();
      }
    } finally {
      leave();
    }
  }

  /** @returns what lets the next one in */
  async #turn(): Promise<() => void> {
    const before = this.#tail;
    let leave = (): void => undefined;
    const mine = new Promise<void>((resolve) => {
      leave = resolve;
    });
    this.#tail = before.then(() => mine);
    const timer = new AbortController();
    const late = delay(this.#waitMs, true, { signal: timer.signal }).catch(() => false);
    const isLate = await Promise.race([before.then(() => false), late]);
    timer.abort();
    if (!isLate) return leave;
    leave();
    throw overloaded();
  }

  async #lock(connection: Connection, waitMs: number): Promise<void> {
    const ms = Math.max(1, Math.ceil(waitMs));
    try {
      await connection.query("select set_config('lock_timeout', $1, false)", [`${ms}ms`], ms + GRACE_MS);
      await connection.query('select pg_advisory_lock($1, $2)', this.#keys, ms + GRACE_MS);
    } catch (error) {
      connection.discard(); // the lock may have been given after all
      throw sqlState(error) === LOCK_NOT_AVAILABLE ? overloaded(error) : error;
    }
  }

  async #unlocking<T>(connection: Connection, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } finally {
      await connection.query('select pg_advisory_unlock($1, $2)', this.#keys, GRACE_MS).catch(() => connection.discard());
    }
  }
}

function overloaded(cause?: unknown): KmsError {
  return new KmsError('overloaded', 'other work of this kind has not ended yet', { retryAfter: 1, cause });
}
