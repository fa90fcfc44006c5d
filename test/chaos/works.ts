/** I-1, I-2 and the ends of keys, asked of one process: what was promised is there and works. */

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Act, Actor, Answer, SeenKey } from './actors.ts';
import type { Ledger, PromisedKey } from './ledger.ts';

const AT_ONCE = 6;
/** A store that did not answer in time is asked again, as clients are told to. */
const TRIES = 20;

/** @returns what does not hold */
export async function allWorks(actor: Actor, ledger: Ledger): Promise<readonly string[]> {
  const found: string[] = [];
  const ask = async (act: Act, { id: keyId }: PromisedKey, text?: string): Promise<Answer> => {
    for (let left = TRIES; ; left -= 1) {
      const answer = await ledger.ask(actor, { id: `${act}-${randomUUID()}`, act, keyId, ...(text !== undefined && { text }) });
      if (left === 0 || answer.kind !== 'failed' || answer.code !== 'store-unavailable') return answer;
      await sleep(500);
    }
  };
  const living = ledger.living();
  await inTurns([...ledger.keys.values()].filter(({ deleted }) => deleted), async (key) => {
    const answer = await ask('get', key);
    if (answer.kind !== 'failed' || answer.code !== 'not-found') found.push(`S-25: deleted key ${key.id} answers ${JSON.stringify(answer)}`);
  });
  await inTurns(living, async (key) => { found.push(...(await works(key, ask))); });
  await inTurns(ledger.sealed.filter(({ key }) => living.includes(key)), async ({ key, text, made }) => {
    const answer = await ask('decrypt', key, made);
    if (answer.kind !== 'done' || answer.value !== text) found.push(`I-2: a ciphertext of key ${key.id}: ${JSON.stringify(answer)}`);
  });
  return found;
}

async function works(key: PromisedKey, ask: (act: Act, key: PromisedKey, text?: string) => Promise<Answer>): Promise<readonly string[]> {
  const bad = (answer: Answer): readonly string[] => [`I-1: key ${key.id} was acknowledged: ${JSON.stringify(answer)}`];
  const got = await ask('get', key);
  if (got.kind !== 'done') return bad(got);
  const { state, versions } = got.value as SeenKey;
  const highest = Math.max(...key.versions.keys());
  if (versions.length <= highest) return [`I-1: key ${key.id} has ${versions.length} versions, and ${highest} was acknowledged`];
  if (state !== 'active') {
    const activated = await ask('activate', key);
    if (activated.kind !== 'done') return bad(activated);
  }
  // The ledger keeps what is made here; signatures are verified with what was given at the key's creation.
  const made = await ask(key.type === 'EC' ? 'sign' : 'encrypt', key, 'asked after all kills');
  return made.kind === 'done' ? [] : bad(made);
}

async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items[Symbol.iterator]();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const item of left) await work(item);
  }));
}
