/**
 * Starts and watches the token threads of one process and keeps the one answer to "can the token be used".
 * The first thread initialises, logs in and lists; only then do the others start.
 */

import type { Dispatcher } from './dispatcher.ts';
import type { FromThread, ObjectHandle, StartFailure, TokenSetup } from './job.ts';
import { tokenUnavailable } from './return-value.ts';
import { type Lane, ThreadHandle } from './thread-handle.ts';

export type TokenState =
  | { readonly phase: 'starting'; readonly reason: StartFailure | 'starting'; readonly code: number; readonly detail: string }
  | { readonly phase: 'ready'; readonly serial: string }
  | { readonly phase: 'lost'; readonly reason: string };

export interface ThreadPoolOptions {
  readonly setup: TokenSetup;
  readonly threads: number;
  readonly lostThreadsMax: number;
  readonly dispatcher: Dispatcher;
  readonly list: () => Promise<void>;
  /** Resolves when this process may log in: one at a time on a host. */
  readonly mayLogin: () => Promise<void>;
  readonly onLost: (reason: string) => void;
  readonly onState: (state: TokenState) => void;
}

/** See dispatcher.ts: the first creates and searches, the second is kept for fast jobs, the others serve both. */
const FIRST: readonly Lane[] = ['create', 'slow', 'fast'];
const SECOND: readonly Lane[] = ['fast'];
const FURTHER: readonly Lane[] = ['slow', 'fast'];

export class ThreadPool {
  readonly #options: ThreadPoolOptions;
  readonly #threads: ThreadHandle[] = [];
  readonly #ready: Promise<void>;
  #settle: { readonly resolve: () => void; readonly reject: (error: Error) => void };
  #state: TokenState = { phase: 'starting', reason: 'starting', code: 0, detail: '' };
  #canaryHandle: ObjectHandle | null = null;
  #lostThreads = 0;
  #stopping = false;

  constructor(options: ThreadPoolOptions) {
    this.#options = options;
    this.#settle = { resolve: () => undefined, reject: () => undefined };
    this.#ready = new Promise((resolve, reject) => { this.#settle = { resolve, reject }; });
    // Whoever cares awaits it; the state says the same.
    this.#ready.catch(() => undefined);
    this.#start(FIRST, true);
  }

  get state(): TokenState {
    return this.#state;
  }

  /** Threads that take jobs. */
  get readyThreads(): number {
    return this.#options.dispatcher.threads;
  }

  get lostThreads(): number {
    return this.#lostThreads;
  }

  whenReady(): Promise<void> {
    return this.#ready;
  }

  async stop(timeoutMs: number): Promise<'clean' | 'stuck'> {
    this.#stopping = true;
    const [first, ...others] = this.#threads;
    await Promise.all(others.map((thread) => thread.stop(timeoutMs)));
    await first?.stop(timeoutMs);
    return this.#lostThreads === 0 && this.#threads.every((thread) => !thread.busy) ? 'clean' : 'stuck';
  }

  #start(lanes: readonly Lane[], first: boolean): void {
    this.#threads.push(new ThreadHandle({ ...this.#options.setup, first, canaryHandle: this.#canaryHandle }, lanes, {
      mayLogin: () => this.#options.mayLogin(),
      ready: (thread, message) => { void this.#threadReady(thread, message); },
      waiting: (thread, { reason, code, detail }) => {
        if (thread.first) this.#setState({ phase: 'starting', reason, code, detail });
      },
      canary: (ok) => { if (!ok) this.lose('the canary does not answer'); },
      lost: (thread, reason) => { this.#threadLost(thread, reason); },
    }));
  }

  async #threadReady(thread: ThreadHandle, { serial, canaryHandle }: FromThread & { kind: 'ready' }): Promise<void> {
    this.#options.dispatcher.addThread(thread);
    if (!thread.first) return;
    this.#canaryHandle = canaryHandle;
    try {
      await this.#options.list();
    } catch {
      this.lose('the token could not be listed');
      return;
    }
    for (let index = 1; index < this.#options.threads; index += 1) this.#start(index === 1 ? SECOND : FURTHER, false);
    this.#setState({ phase: 'ready', serial });
    this.#settle.resolve();
  }

  /** Its work goes on in a new thread; several lost ones mean that the module itself hangs. */
  #threadLost(thread: ThreadHandle, reason: string): void {
    this.#options.dispatcher.removeThread(thread);
    if (this.#stopping) return;
    this.#lostThreads += 1;
    if (this.#lostThreads > this.#options.lostThreadsMax || this.#state.phase !== 'ready') this.lose(reason);
    else this.#start(thread.lanes, false);
  }

  /** The token cannot be used by this process any more. */
  lose(reason: string): void {
    if (this.#state.phase === 'lost' || this.#stopping) return;
    this.#setState({ phase: 'lost', reason });
    this.#options.dispatcher.refuse(tokenUnavailable());
    this.#settle.reject(tokenUnavailable());
    this.#options.onLost(reason);
  }

  #setState(state: TokenState): void {
    if (this.#state.phase === 'lost') return;
    this.#state = state;
    this.#options.onState(state);
  }
}
