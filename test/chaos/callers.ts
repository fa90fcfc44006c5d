/**
 * Callers that keep actors at work: each asks one thing after another of its actor until that ends. Most of it makes
 * or destroys key material; every caller of every actor rotates the same few keys (C-14).
 */

import { randomUUID } from 'node:crypto';
import type { Act, Actor, Answer, Type } from './actors.ts';
import type { Ledger, PromisedKey } from './ledger.ts';

const SHARED = 3;
/** Each look at the token reads every object: a key of so many versions is handed over to its end. */
const VERSIONS_MAX = 30;
/** Keys that nobody asked to delete; more make the checks long and show nothing else. */
const LIVING_MAX = 24;

export class Callers {
  readonly ledger: Ledger;
  readonly #running = new Set<Promise<void>>();
  #stopping = false;
  #number = 0;

  constructor(ledger: Ledger) {
    this.ledger = ledger;
  }

  /** Makes the keys that all share. */
  async prepare(actor: Actor): Promise<void> {
    for (let n = 0; n < SHARED; n += 1) {
      const answer = await this.#share(actor, n % 2 === 0 ? 'EC' : 'oct');
      if (answer.kind !== 'done') throw new Error(`a shared key was not made: ${JSON.stringify(answer)}`);
    }
  }

  /** @param count callers of this actor */
  employ(actor: Actor, count: number): void {
    this.#stopping = false;
    for (let n = 0; n < count; n += 1) {
      const running = this.#work(actor).finally(() => { this.#running.delete(running); });
      this.#running.add(running);
    }
  }

  /** After the answers to what is on its way. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
  }

  async #work(actor: Actor): Promise<void> {
    while (!this.#stopping && !actor.hasEnded) await this.#next(actor);
  }

  async #next(actor: Actor): Promise<void> {
    const living = this.ledger.living();
    const old = living.find(({ shared, versions }) => shared && versions.size > VERSIONS_MAX);
    if (old !== undefined && (await this.#share(actor, old.type)).kind === 'done') old.shared = false;
    const own = living.filter(({ shared }) => !shared);
    const dice = Math.random();
    if (dice < 0.3 && own.length < LIVING_MAX) await this.#create(actor);
    else if (dice < 0.6) await this.#ask(actor, 'rotate', any(Math.random() < 0.6 ? living.filter(({ shared }) => shared) : living));
    else if (dice < 0.85 && own.length > 2) await this.#end(actor, any(own));
    else await this.#use(actor, any(living));
  }

  #share(actor: Actor, type: Type): Promise<Answer> {
    return this.#ask(actor, 'create', this.ledger.promise(randomUUID(), type, true));
  }

  async #create(actor: Actor): Promise<void> {
    const type: Type = Math.random() < 0.5 ? 'EC' : 'oct';
    const key = this.ledger.promise(randomUUID(), type, false);
    const answer = await this.#ask(actor, 'create', key);
    if (answer.kind === 'done') await this.#use(actor, key);
  }

  async #end(actor: Actor, key: PromisedKey): Promise<void> {
    await this.#ask(actor, 'deactivate', key);
    await this.#ask(actor, 'delete', key);
  }

  async #use(actor: Actor, key: PromisedKey): Promise<void> {
    const text = `chaos ${this.#number++}`;
    const made = await this.#ask(actor, key.type === 'EC' ? 'sign' : 'encrypt', key, text);
    if (made.kind !== 'done' || key.type === 'EC') return;
    const opened = await this.#ask(actor, 'decrypt', key, made.value as string);
    if (opened.kind === 'done' && opened.value !== text) this.ledger.wrong.push(`decrypt of key ${key.id}: another text`);
  }

  #ask(actor: Actor, act: Act, { id: keyId, type }: PromisedKey, text?: string): Promise<Answer> {
    const id = `${act}-${randomUUID()}`;
    return this.ledger.ask(actor, { id, act, keyId, type, ...(text !== undefined && { text }) });
  }
}

function any<T>(list: readonly T[]): T {
  const one = list[Math.floor(Math.random() * list.length)];
  if (one === undefined) throw new Error('nothing to choose from');
  return one;
}
