/**
 * What was promised to callers of `actors.ts`, seen from outside: keys and versions that were acknowledged with their
 * public keys, what was made with them, and which ends of keys were asked for and acknowledged.
 */

import type { Actor, Answer, SeenKey, SeenVersion, Step, Type } from './actors.ts';

export interface PromisedKey {
  readonly id: string;
  readonly type: Type;
  /** Rotated by everybody, and deleted by nobody as long. */
  shared: boolean;
  acknowledged: boolean;
  /** By ordinal, as the first acknowledgement that named each. */
  readonly versions: Map<number, SeenVersion>;
  deleteSent: boolean;
  deleted: boolean;
}

export interface MadeText {
  readonly key: PromisedKey;
  readonly text: string;
  /** Ciphertext, or signature in base64. */
  readonly made: string;
}

export interface Exchange {
  readonly step: Step;
  readonly pid: number;
  answer: Answer | undefined;
}

export class Ledger {
  readonly keys = new Map<string, PromisedKey>();
  readonly sealed: MadeText[] = [];
  readonly signed: MadeText[] = [];
  readonly exchanges = new Map<string, Exchange>();
  /** Answers that no history explains. */
  readonly wrong: string[] = [];

  promise(id: string, type: Type, shared: boolean): PromisedKey {
    const key: PromisedKey = { id, type, shared, acknowledged: false, versions: new Map(), deleteSent: false, deleted: false };
    this.keys.set(id, key);
    return key;
  }

  /** Keys that were acknowledged and that nobody asked to delete. */
  living(): readonly PromisedKey[] {
    return [...this.keys.values()].filter(({ acknowledged, deleteSent }) => acknowledged && !deleteSent);
  }

  async ask(actor: Actor, step: Step): Promise<Answer> {
    const exchange: Exchange = { step, pid: actor.pid, answer: undefined };
    this.exchanges.set(step.id, exchange);
    const key = this.keys.get(step.keyId);
    if (key === undefined) throw new Error(`no such key: ${step.keyId}`);
    if (step.act === 'delete') key.deleteSent = true;
    const answer = await actor.ask(step);
    exchange.answer = answer;
    if (answer.kind === 'done') this.#learn(key, step, answer.value);
    return answer;
  }

  /** Of answers that are not silence, by act and code. */
  counts(): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { step, answer } of this.exchanges.values()) {
      const name = answer?.kind === 'failed' ? `${step.act} ${answer.code}` : `${step.act} ${answer?.kind ?? 'silence'}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  #learn(key: PromisedKey, step: Step, value: unknown): void {
    const text = step.text ?? '';
    switch (step.act) {
      case 'encrypt':
        this.sealed.push({ key, text, made: value as string });
        return;
      case 'sign':
        this.signed.push({ key, text, made: value as string });
        return;
      case 'decrypt':
        return;
      case 'delete':
        key.deleted = true;
        return;
      default:
        if (step.act === 'create') key.acknowledged = true;
        this.#learnVersions(key, step, value as SeenKey);
    }
  }

  /** Versions stand without gaps, and none becomes another one. */
  #learnVersions(key: PromisedKey, step: Step, { versions }: SeenKey): void {
    const about = `${step.act} ${step.id} of key ${key.id}`;
    versions.forEach(({ ordinal }, index) => {
      if (ordinal !== index) this.wrong.push(`${about}: version ${ordinal} in place ${index}`);
    });
    for (const version of versions) {
      const known = key.versions.get(version.ordinal);
      if (known === undefined) key.versions.set(version.ordinal, version);
      else if (known.id !== version.id || known.publicKey !== version.publicKey) {
        this.wrong.push(`${about}: version ${version.ordinal} is ${version.id} and was ${known.id}`);
      }
    }
  }
}
