/**
 * Creations beside searches. In SoftHSM 2.6.1 a search in one thread makes a creation in another fail, or leaves it
 * half-made: up to a fifth of them beside searches without pause. Nobody else's question may cost a caller a key.
 */

import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { failureOf } from '../contract/token/expectations.ts';
import { times } from '../support/form.ts';
import { newId, objectOf, oct, TestToken, THREADS } from '../support/token.ts';

const ROUNDS = times(40, 150);
const SHAPE = oct(256);
let at: TestToken;

beforeAll(async () => {
  at = await TestToken.make({ profile: 'softhsm-2.6.1', tokenLabel: 'kms-searched' });
});

afterAll(() => at.remove());

/** Each question for a key that nobody knows is a search. @returns how many were answered */
async function ask(until: () => boolean): Promise<number> {
  for (let asked = 0; ; asked += 1) {
    if (until()) return asked;
    const nobody = { objectId: newId(), part: 'secret' } as const;
    const failure = await failureOf(at.token.sign(nobody, { name: 'hmac', hash: 'sha256' }, randomBytes(1), 32, 'fast'));
    expect(failure.code).toBe('key-missing');
  }
}

describe('beside searches without pause', () => {
  test.each([
    ['imported', () => at.importOct(randomBytes(32), 'mac')],
    ['generated', async () => objectOf(await at.generate(SHAPE, ['mac']), 'mac')],
  ])('every key is %s, and no object is left of any', async (_how, make) => {
    const before = await at.engine.survey();
    let done = false;
    const searches = ask(() => done);
    const faults: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const failed = await make().then(({ objectId }) => at.engine.destroy([objectId])).catch((error: unknown) => String(error));
      if (failed !== undefined) faults.push(failed);
    }
    done = true;
    expect(await searches).toBeGreaterThan(ROUNDS / 2);
    expect(faults).toEqual([]);
    expect(await at.engine.survey()).toEqual(before);
  });
});

test('every key is made that is asked for while the other threads start', async () => {
  for (let round = 0; round < times(6, 20); round += 1) {
    await at.stop();
    await at.open({});
    while (at.token.stats().readyThreads < THREADS) {
      const made = newId();
      await at.token.create(made, at.label(newId(), 'mac'), { type: 'secret', purpose: 'mac' });
      await at.token.destroy([made]);
    }
  }
});
