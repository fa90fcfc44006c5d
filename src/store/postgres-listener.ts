/** The one connection that listens. Whatever happens to it, it comes back, at first soon, then every two seconds. */

import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { newClient, SETTINGS, type Server } from './postgres-pool.ts';

const FIRST_BACK_OFF_MS = 100;
const LAST_BACK_OFF_MS = 2_000;
/** A connection that died without a word is noticed after this and the timeout of a statement. */
const HEARTBEAT_MS = 1_000;

export interface Hearing {
  readonly channels: readonly string[];
  onMessage(channel: string, payload: string): void;
  /** From here no message is missed, until `onDown`. */
  onUp(): void;
  onDown(): void;
}

export class Listener {
  readonly #server: Server;
  readonly #hearing: Hearing;
  readonly #timeoutMs: number;
  readonly #stopping = new AbortController();
  #client: pg.Client | undefined;
  #running: Promise<void> | undefined;
  #up = false;
  #beating = false;

  constructor(server: Server, hearing: Hearing, timeoutMs: number) {
    this.#server = server;
    this.#hearing = hearing;
    this.#timeoutMs = timeoutMs;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    if (this.#client) this.#cut(this.#client);
    await this.#running;
  }

  async #run(): Promise<void> {
    let backOff = FIRST_BACK_OFF_MS / 2;
    while (!this.#stopping.signal.aborted) {
      const wasUp = await this.#session();
      backOff = wasUp ? FIRST_BACK_OFF_MS : Math.min(2 * backOff, LAST_BACK_OFF_MS);
      await delay(backOff, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  /** From connecting to the end of the connection. @returns whether it listened */
  async #session(): Promise<boolean> {
    const client = newClient(this.#server, this.#timeoutMs);
    this.#client = client;
    client.on('notification', ({ channel, payload }) => this.#hearing.onMessage(channel, payload ?? ''));
    const ended = new Promise<void>((resolve) => client.once('end', resolve));
    try {
      // A client that is ended while it connects never settles `connect`.
      await Promise.race([this.#connect(client), ended.then(() => Promise.reject(new Error('ended')))]);
    } catch {
      void client.end();
      return false;
    }
    await this.#listen(client, ended);
    return true;
  }

  async #connect(client: pg.Client): Promise<void> {
    await client.connect();
    await client.query([SETTINGS, ...this.#hearing.channels.map((channel) => `listen ${channel}`)].join('; '));
  }

  async #listen(client: pg.Client, ended: Promise<void>): Promise<void> {
    this.#up = true;
    this.#hearing.onUp();
    const timer = setInterval(() => void this.#beat(client), HEARTBEAT_MS);
    await ended;
    clearInterval(timer);
    this.#up = false;
    this.#hearing.onDown();
  }

  /** A failed one ends the connection. */
  async #beat(client: pg.Client): Promise<void> {
    if (this.#beating) return;
    this.#beating = true;
    await client.query('select 1 as beat').catch(() => client.end());
    this.#beating = false;
  }

  /** Amid a query pg closes at once; else it says good-bye, and waits for a server that may stand still. */
  #cut(client: pg.Client): void {
    if (this.#up) void this.#beat(client);
    void client.end();
  }
}
