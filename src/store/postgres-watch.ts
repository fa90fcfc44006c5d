/**
 * Keeps the knowledge of the head: polls it twice a second, listens for the commits of other processes, says what it
 * has seen and waits for what others say.
 *
 * Channels: `kms_head` "<seq> <boot id>", sent by the transaction that moves the head; `kms_seen` "<boot id> <seq>".
 */

import { HeadKnowledge } from './head-knowledge.ts';
import { Listener } from './postgres-listener.ts';
import type { Server } from './postgres-pool.ts';
import { Speaker, Witnesses } from './postgres-seen.ts';

export const HEAD_CHANNEL = 'kms_head';
export const SEEN_CHANNEL = 'kms_seen';

/** From the begin of one poll to that of the next, in ms (integrity §4). */
const PERIOD_MS = 500;
/** How much faster than ours another host's clock may be taken to run: 10 %. */
const CLOCKS = 1.1;

export interface WatchOptions {
  readonly server: Server;
  readonly staleMaxMs: number;
  /** For the statements of the listening connection, in ms. */
  readonly timeoutMs: number;
  /** Reads the head's seq, on a connection that is not shared with slow work. */
  readSeq(): Promise<number>;
  /** Sends a notification. */
  notify(channel: string, payload: string): Promise<unknown>;
  /** The head was seen at `from` and is now at `to`. Called once; `counter` throws from then on. */
  onWentBack(from: number, to: number): void;
}

export class HeadWatch {
  readonly #options: WatchOptions;
  readonly #boot: string;
  readonly #knowledge: HeadKnowledge;
  readonly #witnesses = new Witnesses();
  readonly #speaker: Speaker;
  readonly #listener: Listener;
  #closed = false;
  #polling: Promise<void> | undefined;
  /** Whether the next poll shall begin at once, and what ends the pause before it. */
  #soon = false;
  #wake = (): void => undefined;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#boot = options.server.bootId;
    this.#knowledge = new HeadKnowledge(options.staleMaxMs, (from, to) => options.onWentBack(from, to));
    this.#speaker = new Speaker((seq) => options.notify(SEEN_CHANNEL, `${this.#boot} ${seq}`));
    const hearing = {
      channels: [HEAD_CHANNEL, SEEN_CHANNEL],
      onMessage: (channel: string, payload: string) => this.#message(channel, payload),
      onUp: () => this.#up(),
      onDown: () => this.#knowledge.deaf(),
    };
    this.#listener = new Listener(options.server, hearing, options.timeoutMs);
  }

  /** Resolves after the first poll; the listening connection follows. @throws what `readSeq` throws */
  async start(): Promise<void> {
    await this.#poll();
    this.#listener.start();
    this.#polling = this.#pollForEver();
  }

  counter(): number {
    return this.#knowledge.counter();
  }

  committed(seq: number): void {
    this.#knowledge.committed(seq);
  }

  seenEverywhere(seq: number, boots: readonly string[]): Promise<void> {
    const others = boots.filter((boot) => boot !== this.#boot);
    return this.#witnesses.wait(seq, others, CLOCKS * this.#options.staleMaxMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wake();
    this.#witnesses.close();
    await Promise.all([this.#listener.stop(), this.#polling]);
  }

  async #pollForEver(): Promise<void> {
    while (!this.#closed) {
      const next = performance.now() + PERIOD_MS;
      this.#soon = false;
      await this.#poll().catch(() => undefined); // the age of the last answer says it
      await this.#pause(next - performance.now());
    }
  }

  /** Shorter when woken; not at all when that happened before. */
  async #pause(ms: number): Promise<void> {
    if (this.#closed || this.#soon) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async #poll(): Promise<void> {
    const poll = this.#knowledge.begin();
    this.#knowledge.answered(poll, await this.#options.readSeq());
    this.#speaker.say(this.#knowledge.known);
  }

  #up(): void {
    this.#knowledge.listening({});
    this.#soon = true; // only a poll from now on shows that nothing was missed before
    this.#wake();
  }

  #message(channel: string, payload: string): void {
    const [first = '', second = ''] = payload.split(' ');
    if (channel === SEEN_CHANNEL) this.#seen(first, Number(second));
    else this.#moved(Number(first), second);
  }

  #moved(seq: number, boot: string): void {
    if (!Number.isSafeInteger(seq)) return;
    this.#knowledge.heard(seq);
    // The own commit that was not answered comes back here, too.
    if (boot !== this.#boot) this.#speaker.say(this.#knowledge.known);
  }

  #seen(boot: string, seq: number): void {
    if (Number.isSafeInteger(seq)) this.#witnesses.heard(boot, seq);
  }
}
