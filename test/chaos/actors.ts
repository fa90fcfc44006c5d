/**
 * Server processes without doors (`actor.mjs`), and their supervisor's part: turns for logins and for changes of the
 * token, kept as `kms serve` keeps them.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Turns } from '../../src/cli/turns.ts';
import type { Turn } from '../../src/cli/protocol.ts';
import type { Installation } from '../support/installation.ts';

export type Act = 'create' | 'rotate' | 'get' | 'activate' | 'deactivate' | 'delete' | 'encrypt' | 'decrypt' | 'sign';
export type Type = 'oct' | 'EC';

export interface Step {
  /** The request id. */
  readonly id: string;
  readonly act: Act;
  readonly keyId: string;
  readonly type?: Type;
  readonly text?: string;
}

export interface SeenVersion {
  readonly id: string;
  readonly ordinal: number;
  /** SubjectPublicKeyInfo, base64. */
  readonly publicKey: string | null;
  readonly objectIds: readonly string[];
}

export interface SeenKey {
  readonly state: string;
  readonly versions: readonly SeenVersion[];
}

export type Answer =
  /** A key, a text, or nothing. */
  | { readonly kind: 'done'; readonly value?: unknown }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string }
  /** The process ended before it answered. */
  | { readonly kind: 'silence' };

type FromActor =
  | { readonly kind: 'asks-turn' | 'turn-over'; readonly what: Turn }
  | { readonly kind: 'started' | 'ready' }
  | { readonly kind: 'lost'; readonly reason: string }
  | { readonly kind: 'begun'; readonly id: string }
  | ({ readonly id: string } & Answer);

const LOGIN_SPACING_MS = 1000;
const ENTRY = fileURLToPath(new URL('actor.mjs', import.meta.url));

export class Host {
  readonly turns: Readonly<Record<Turn, Turns>> = { login: new Turns(LOGIN_SPACING_MS), change: new Turns(0) };
  readonly environment: NodeJS.ProcessEnv;

  /** A joined host has no administrator of its own. */
  constructor({ environment, admin }: Installation) {
    this.environment = { ...environment, ADMIN_CERTIFICATE: admin.cert };
  }

  start(): Actor {
    return new Actor(this);
  }
}

export class Actor {
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #open = new Map<string, (answer: Answer) => void>();
  readonly #begun = new Set<string>();
  readonly #started = deferred();
  readonly #ready = deferred();
  readonly ended: Promise<unknown>;
  /** Standard output and error. */
  output = '';
  isReady = false;
  hasEnded = false;
  /** Called with the step that it has begun. */
  onBegun: (id: string) => void = () => undefined;

  constructor(host: Host) {
    this.#host = host;
    this.#child = fork(ENTRY, [], { execArgv: [], env: host.environment, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', (chunk: Buffer) => { this.output += chunk.toString(); });
    }
    this.#child.on('message', (message: FromActor) => { this.#receive(message); });
    this.ended = once(this.#child, 'close').then(() => { this.#end(); });
    for (const { promise } of [this.#started, this.#ready]) promise.catch(() => undefined);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when its audit stream is open. */
  get started(): Promise<unknown> {
    return this.#started.promise;
  }

  /** Rejects when the process ends before. */
  get ready(): Promise<unknown> {
    return this.#ready.promise;
  }

  /** Steps that it has begun and not answered. */
  get begun(): readonly string[] {
    return [...this.#begun];
  }

  ask(step: Step): Promise<Answer> {
    if (this.hasEnded) return Promise.resolve({ kind: 'silence' });
    return new Promise((resolve) => {
      this.#open.set(step.id, resolve);
      this.#child.send({ kind: 'do', step }, () => undefined);
    });
  }

  /** SIGKILL. Resolves when nothing more can come from it. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** @returns its exit code */
  async drain(): Promise<number | null> {
    this.#child.send({ kind: 'drain' }, () => undefined);
    await this.ended;
    return this.#child.exitCode;
  }

  #receive(message: FromActor): void {
    const { turns } = this.#host;
    switch (message.kind) {
      case 'asks-turn':
        turns[message.what].ask(this, { grant: () => { this.#child.send({ kind: 'turn', what: message.what }, () => undefined); } });
        return;
      case 'turn-over':
        turns[message.what].over(this);
        return;
      case 'started':
        this.#started.resolve();
        return;
      case 'ready':
        this.isReady = true;
        this.#ready.resolve();
        return;
      case 'begun':
        this.#begun.add(message.id);
        this.onBegun(message.id);
        return;
      case 'lost':
        this.output += `lost: ${message.reason}\n`;
        return;
      case 'done':
      case 'failed':
      case 'silence':
        this.#begun.delete(message.id);
        this.#open.get(message.id)?.(message);
        this.#open.delete(message.id);
    }
  }

  /** Who waited is told last: what was begun can still be read then. */
  #end(): void {
    this.hasEnded = true;
    const gone = new Error(`the actor ended with ${String(this.#child.exitCode ?? this.#child.signalCode)}:\n${this.output.slice(-4000)}`);
    this.#started.reject(gone);
    this.#ready.reject(gone);
    for (const turns of Object.values(this.#host.turns)) turns.over(this);
    for (const answer of this.#open.values()) answer({ kind: 'silence' });
    this.#open.clear();
  }
}

interface Deferred {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function deferred(): Deferred {
  let settle: Pick<Deferred, 'resolve' | 'reject'> = { resolve: () => undefined, reject: () => undefined };
  const promise = new Promise<void>((resolve, reject) => { settle = { resolve, reject }; });
  return { promise, ...settle };
}
