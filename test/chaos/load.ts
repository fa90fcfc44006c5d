/**
 * The mixed load of `security.md` §4.3: 70 % operations on key material, 20 % reads, 10 % life cycle, over mutual TLS
 * from several keep-alive clients, each with one request at a time.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Installation } from '../support/installation.ts';
import { Wire } from '../support/wire.ts';
import type { Ask } from './invariants.ts';
import { type ChaosKey, type Entry, type Kind, type Recorder, succeeded } from './recorder.ts';
import { type Asked, create, dataKey, deactivate, decrypt, destroy, encrypt, get, list, sign, verify } from './requests.ts';

/** A client that waited this long has found a request that is never answered. */
const PATIENCE_MS = 90_000;
/** Clients that ask for the checks at the end. */
const CHECKERS = 6;
/** Leaves the machine some time for the other suites. */
const PAUSE_MS = 10;
const PAUSE_AFTER_FAILURE_MS = 40;
/** Connections that break in a row, for one request, before the client goes on to another one. */
const BREAKS = 5;
/** Keys that live as long as the load; half of them make ciphertexts, half signatures. */
const LASTING: readonly Kind[] = ['oct', 'oct', 'oct', 'EC', 'EC', 'RSA'];
/** Keys of its own that one client keeps at most. */
const OWN_MAX = 4;

/** One connection and the recorder behind it. */
export class ChaosClient {
  readonly #wire: Wire;
  readonly #recorder: Recorder;

  constructor(kms: Installation, recorder: Recorder) {
    this.#wire = new Wire(kms);
    this.#recorder = recorder;
  }

  /** A connection that breaks is "no answer", recorded as such, and the request is made again on a new one. */
  async ask(asked: Asked): Promise<Entry> {
    for (let breaks = 1; ; breaks += 1) {
      const entry = await this.#attempt(asked);
      if (entry.status !== 0 || breaks === BREAKS) return entry;
      await sleep(PAUSE_AFTER_FAILURE_MS);
    }
  }

  close(): void {
    this.#wire.close();
  }

  async #attempt(asked: Asked): Promise<Entry> {
    const tainted = this.#recorder.tainting;
    this.#recorder.sending(asked);
    const timer = setTimeout(() => { this.#wire.close(); }, PATIENCE_MS);
    try {
      return this.#recorder.record(asked, await this.#wire.call(asked.method, asked.path, asked.body), tainted);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** For checks: several clients, each with one request at a time. */
export async function asking<T>(kms: Installation, recorder: Recorder, use: (ask: Ask) => Promise<T>): Promise<T> {
  const clients = Array.from({ length: CHECKERS }, () => new ChaosClient(kms, recorder));
  const idle = [...clients];
  try {
    return await use(async (asked) => {
      const client = idle.pop() ?? new ChaosClient(kms, recorder);
      try {
        return await client.ask(asked);
      } finally {
        idle.push(client);
      }
    });
  } finally {
    for (const client of idle) client.close();
  }
}

export class Load {
  readonly #recorder: Recorder;
  readonly #clients: readonly ChaosClient[];
  #running: readonly Promise<void>[] = [];
  #stopping = false;

  constructor(kms: Installation, recorder: Recorder, clients: number) {
    this.#recorder = recorder;
    this.#clients = Array.from({ length: clients }, () => new ChaosClient(kms, recorder));
  }

  /** Makes the lasting keys. @throws Error when one cannot be made */
  async prepare(): Promise<void> {
    for (const kind of LASTING) {
      const entry = await this.#clients[0]!.ask(create(kind));
      if (!succeeded(entry) || entry.wrong !== null) throw new Error(`before any fault: ${this.#recorder.describe(entry)}`);
    }
  }

  start(): void {
    this.#running = this.#clients.map((client) => this.#run(client));
  }

  /** After the answers to what is on its way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    for (const client of this.#clients) client.close();
  }

  async #run(client: ChaosClient): Promise<void> {
    const own: ChaosKey[] = [];
    while (!this.#stopping) {
      const dice = Math.random();
      const asked = dice < 0.7 ? this.#crypto() : dice < 0.9 ? this.#read() : this.#lifecycle(own);
      const entry = await client.ask(asked);
      if (entry.act === 'create' && succeeded(entry)) own.push(this.#recorder.keys.get(entry.json.id)!);
      await sleep(succeeded(entry) ? PAUSE_MS : PAUSE_AFTER_FAILURE_MS);
    }
  }

  #crypto(): Asked {
    const dice = Math.random();
    const usable = this.#recorder.usable();
    const cipher = one(usable.filter(({ kind }) => kind === 'oct'))!;
    const signer = one(usable.filter(({ kind }) => kind !== 'oct'))!;
    if (dice < 0.25) return encrypt(cipher);
    if (dice < 0.35) return dataKey(cipher);
    if (dice < 0.6) return this.#decrypt() ?? encrypt(cipher);
    if (dice < 0.8) return sign(signer);
    return this.#verify() ?? sign(signer);
  }

  #decrypt(): Asked | undefined {
    const sealed = one(this.#recorder.sealed.filter(({ key, entry }) => inUse(key) && !entry.tainted));
    return sealed === undefined ? undefined : decrypt(sealed);
  }

  /** Of a right signature, and now and then of a wrong one. */
  #verify(): Asked | undefined {
    const signed = one(this.#recorder.signed.filter(({ key, entry }) => inUse(key) && !entry.tainted));
    return signed === undefined ? undefined : verify(signed, Math.random() < 0.75);
  }

  #read(): Asked {
    return Math.random() < 0.5 ? list() : get(one(this.#recorder.living())!);
  }

  /** Makes keys, ends their life step by step, and tries to use those that are dead. */
  #lifecycle(own: ChaosKey[]): Asked {
    const [oldest] = own;
    if (oldest === undefined || (own.length < OWN_MAX && Math.random() < 0.4)) return create(Math.random() < 0.5 ? 'oct' : 'EC');
    if (Number.isFinite(oldest.deletedMs)) {
      own.shift();
      return get(oldest);
    }
    if (!Number.isFinite(oldest.deactivatedMs)) return deactivate(oldest);
    if (Math.random() < 0.4) return oldest.kind === 'oct' ? encrypt(oldest) : sign(oldest);
    return destroy(oldest);
  }
}

function inUse({ deactivateSentMs }: ChaosKey): boolean {
  return deactivateSentMs === Number.POSITIVE_INFINITY;
}

function one<T>(items: readonly T[]): T | undefined {
  return items[Math.floor(Math.random() * items.length)];
}
