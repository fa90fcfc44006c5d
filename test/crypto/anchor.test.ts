/**
 * Anchors on a real token behind the fault shim: several writers, forged objects, failures between any two calls, and a
 * token that is gone (integrity §5, security S-3).
 */

import { createHmac, randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import type { Anchor, Anchors as AnchorsType } from '../../src/crypto/anchor.ts';
import { failureOf } from '../contract/token/expectations.ts';
import { FAULT_MODULE, FaultShim } from '../fault/shim.ts';
import { SOFTHSM } from '../fault/token.ts';
import { Anchors, decodeAnchor, encodeAnchor } from '../support/built.ts';
import { rows, times } from '../support/form.ts';
import { INSTALLATION, oct, objectOf, present, TestToken } from '../support/token.ts';

const APPLICATION = `kms:${INSTALLATION}`;
const LABEL = `${APPLICATION}:anchor`;
const KEY = randomBytes(32);
const mac = (bytes: Uint8Array): Uint8Array => createHmac('sha256', KEY).update(bytes).digest();

let at: TestToken;
let shim: FaultShim;

beforeAll(async () => {
  at = await TestToken.make({
    profile: 'softhsm-2.6.1',
    tokenLabel: 'kms-anchors',
    patch: (profile) => {
      shim = new FaultShim(join(profile.environment['SOFTHSM2_CONF']!, '..', 'shim'), SOFTHSM);
      return { ...profile, module: FAULT_MODULE, environment: { ...profile.environment, ...shim.environment() } };
    },
  });
});

afterAll(() => at.remove());

/** New rules, in force in every thread. */
async function rules(...lines: readonly string[]): Promise<void> {
  shim.set(lines);
  await delay(3);
}

afterEach(async () => {
  await rules();
  for (const handle of at.raw.dataOf(APPLICATION)) at.raw.destroy(handle);
});

const writer = (): AnchorsType => new Anchors(at.token, INSTALLATION, mac);

function anchor(seq: number, more: Partial<Anchor> = {}): Anchor {
  const journalMac = createHmac('sha256', 'journal').update(String(seq)).digest();
  return { storeId: 'store', epoch: 1, seq, journalMac, auditHeads: Buffer.alloc(32, 7), writtenMs: 1_700_000_000_000, ...more };
}

/** As it comes back: other classes of bytes. */
const plain = (value: Anchor | null | undefined): object | null =>
  value === null || value === undefined ? null : { ...value, journalMac: Buffer.from(value.journalMac).toString('hex'), auditHeads: Buffer.from(value.auditHeads).toString('hex') };

/** What somebody with the PIN sees: [epoch, seq] of each valid object. */
function onToken(): readonly (readonly [number, number])[] {
  return at.raw.dataOf(APPLICATION)
    .map((handle) => decodeAnchor(at.raw.attribute(handle, ck.CKA_VALUE), INSTALLATION, mac))
    .filter((found) => found !== undefined)
    .map(({ epoch, seq }) => [epoch, seq] as const)
    .sort(([a, b], [c, d]) => a - c || b - d);
}

describe('one writer', () => {
  test('none at first', async () => {
    expect(await writer().read()).toEqual({ highest: null, all: [], damaged: 0 });
  });

  test('what was written is read, and replaces what is lower', async () => {
    const anchors = writer();
    await anchors.write(anchor(1));
    await anchors.write(anchor(2));
    const { highest, all, damaged } = await anchors.read();
    expect(plain(highest)).toEqual(plain(anchor(2)));
    expect([all.length, damaged]).toEqual([1, 0]);
    const [handle] = at.raw.dataOf(APPLICATION);
    expect(at.raw.label(handle!)).toBe(LABEL);
    expect(at.raw.attribute(handle!, ck.CKA_VALUE)).toEqual(Buffer.from(encodeAnchor(anchor(2), INSTALLATION, mac)));
    expect([ck.CKA_TOKEN, ck.CKA_PRIVATE, ck.CKA_MODIFIABLE].map((type) => at.raw.flag(handle!, type))).toEqual([true, true, false]);
  });

  test('epoch before seq', async () => {
    const anchors = writer();
    await anchors.write(anchor(900));
    await anchors.write(anchor(3, { epoch: 2, storeId: 'moved' }));
    expect(onToken()).toEqual([[2, 3]]);
    await anchors.write(anchor(901));
    expect(onToken()).toEqual([[1, 901], [2, 3]]);
    expect((await anchors.read()).highest).toMatchObject({ epoch: 2, seq: 3, storeId: 'moved' });
  });

  test('of one head, the earlier one goes; of two heads with one number, both stay', async () => {
    const anchors = writer();
    const later = { writtenMs: 1_700_000_000_001 };
    await anchors.write(anchor(5));
    await anchors.write(anchor(5));
    expect(onToken()).toEqual([[1, 5], [1, 5]]);
    await anchors.write(anchor(5, later));
    expect(onToken()).toEqual([[1, 5]]);
    await anchors.write(anchor(5, { writtenMs: 1_700_000_000_002, journalMac: Buffer.alloc(32, 1) }));
    await anchors.write(anchor(5, { writtenMs: 1_700_000_000_003, storeId: 'copy' }));
    const { all, highest } = await anchors.read();
    expect(all.map(({ writtenMs }) => writtenMs % 10)).toEqual([3, 2, 1]);
    expect(highest?.storeId).toBe('copy');
  });

  test('one that does not fit the token is not written', async () => {
    expect((await failureOf(writer().write(anchor(1, { storeId: 'x'.repeat(400) })))).code).toBe('internal');
    expect(onToken()).toEqual([]);
  });
});

describe('forged objects', () => {
  test('are counted and passed over, and stay', async () => {
    const anchors = writer();
    await anchors.write(anchor(7));
    const good = Buffer.from(encodeAnchor(anchor(99), INSTALLATION, mac));
    const edited = Buffer.from(good);
    edited[70]! ^= 1;
    const foreign = encodeAnchor(anchor(99), INSTALLATION.replace('1', '2'), mac);
    const other = encodeAnchor(anchor(99), INSTALLATION, (bytes) => createHmac('sha256', 'other').update(bytes).digest());
    const forged = [edited, foreign, other, good.subarray(0, -1), Buffer.concat([good, good]), Buffer.from('x')];
    for (const value of forged) at.raw.createData(APPLICATION, LABEL, value);
    // An anchor under another label or application is none at all.
    at.raw.createData(APPLICATION, `${LABEL}s`, good);
    const elsewhere = at.raw.createData('kms:', LABEL, good);
    expect(await anchors.read()).toMatchObject({ highest: { seq: 7 }, all: [{ seq: 7 }], damaged: forged.length });
    await anchors.write(anchor(8));
    expect(await anchors.read()).toMatchObject({ highest: { seq: 8 }, all: [{ seq: 8 }], damaged: forged.length });
    expect(at.raw.dataOf(APPLICATION).length).toBe(forged.length + 2);
    at.raw.destroy(elsewhere);
  });

  test('an old one that is put back does not lower the highest', async () => {
    const anchors = writer();
    await anchors.write(anchor(8));
    at.raw.createData(APPLICATION, LABEL, encodeAnchor(anchor(3), INSTALLATION, mac));
    expect((await anchors.read()).highest?.seq).toBe(8);
    await anchors.write(anchor(9));
    expect(onToken()).toEqual([[1, 9]]);
  });
});

describe('three writers', () => {
  test('at no moment is there no anchor, or one lower than was acknowledged', async () => {
    const WRITES = times(15, 40);
    let next = 1;
    let acknowledged = 0;
    let writing = true;
    await writer().write(anchor(0));
    const write = async (phase: number): Promise<void> => {
      const anchors = writer();
      for (let n = 0; n < WRITES; n += 1) {
        const seq = (next += 1);
        // One that dawdles writes a lower one after the others' higher ones.
        for (let left = 3 * ((n + phase) % 3); left > 0; left -= 1) await anchors.read();
        await anchors.write(anchor(seq));
        acknowledged = Math.max(acknowledged, seq);
      }
    };
    const seen: number[] = [];
    const watch = async (): Promise<void> => {
      const anchors = writer();
      while (writing) {
        const floor = acknowledged;
        const { highest, damaged } = await anchors.read();
        expect([damaged, (highest?.seq ?? -1) >= floor]).toEqual([0, true]);
        seen.push(present(highest).seq);
      }
    };
    const watching = [watch(), watch()];
    try {
      await Promise.all([0, 1, 2].map(write));
    } finally {
      writing = false;
    }
    await Promise.all(watching);
    // The readers did see the writers at work.
    expect(new Set(seen).size).toBeGreaterThan(10);
    await writer().write(anchor(next + 1));
    expect(onToken()).toEqual([[1, next + 1]]);
  });

  test('a lost race is harmless: who destroys what another destroyed already', async () => {
    await writer().write(anchor(1));
    // Each finds the same anchor to destroy before any of them writes.
    await Promise.all([2, 3, 4].map((seq) => writer().write(anchor(seq))));
    expect((await writer().read()).highest?.seq).toBe(4);
    expect(onToken()).not.toContainEqual([1, 1]);
  });
});

describe('failures', () => {
  /** CKR_DEVICE_ERROR takes the session with it, CKR_GENERAL_ERROR says nothing. */
  const CODES = ['0x30', '0x5'];
  const FUNCTIONS = ['C_CreateObject', 'C_DestroyObject', 'C_GetAttributeValue', 'C_FindObjectsInit', 'C_FindObjects', 'C_FindObjectsFinal', 'C_Sign'];
  const cases = FUNCTIONS.flatMap((name) => CODES.flatMap((rv) => [`${name} rv=${rv}`, `${name} rv=${rv} after=forward`]));

  test.each(cases)('%s, at each of its calls: one valid anchor is left, the new one if it was acknowledged', async (rule) => {
    const anchors = writer();
    let last = 1;
    await anchors.write(anchor(last));
    const [before, name] = [shim.counts(), rule.slice(0, rule.indexOf(' '))];
    await anchors.write(anchor((last += 1)));
    const calls = (shim.counts().get(name)?.calls ?? 0) - (before.get(name)?.calls ?? 0);
    expect(calls).toBeGreaterThan(0);
    let failed = 0;
    const places = rows(Array.from({ length: calls }, (_, index) => index + 1), 3);
    for (const n of places) {
      const written = last + 1;
      await rules(`${rule} nth=${n}`);
      const acknowledged = await anchors.write(anchor(written)).then(() => true, () => false);
      await rules();
      if (!acknowledged) failed += 1;
      const { highest, damaged } = await anchors.read();
      const found = present(highest).seq;
      expect(acknowledged ? [written] : [last, written]).toContain(found);
      expect(damaged).toBe(0);
      last = found;
    }
    // What failed while it destroyed or found left more than one; the next one that succeeds clears them away.
    await anchors.write(anchor(last + 1));
    expect(onToken()).toEqual([[1, last + 1]]);
    if (name === 'C_CreateObject') expect(failed).toBe(places.length);
  });

  test('an object of a survey that cannot be read is shown all the same', async () => {
    const { objectId } = objectOf(await at.generate(oct(256), ['gcm']), 'gcm');
    const whole = await at.token.survey();
    // CKR_ATTRIBUTE_VALUE_INVALID, as half-written objects of SoftHSM answer.
    await rules('C_GetAttributeValue rv=0x13');
    const unread = await at.token.survey();
    expect(unread.map(({ part }) => part).sort()).toEqual(whole.map(({ part }) => part).sort());
    for (const object of unread) expect(object).toMatchObject({ objectId: '', label: null, extractable: null });
    await rules();
    await at.engine.destroy([objectId]);
  });

  test('a survey on a session that is lost is none', async () => {
    await rules('C_GetAttributeValue rv=0x30');
    expect((await failureOf(at.token.survey())).code).toBe('token-unavailable');
  });
});

// The last one: this process cannot use the token afterwards.
test('on a token that is gone there is an error, and not no anchor', async () => {
  await writer().write(anchor(1));
  const tokens = join(at.home, 'softhsm', 'tokens');
  renameSync(tokens, `${tokens}.away`);
  try {
    const failures = await Promise.all([failureOf(writer().read()), failureOf(writer().write(anchor(2))), failureOf(at.token.survey())]);
    expect(failures.map(({ code }) => code)).toEqual(['token-unavailable', 'token-unavailable', 'token-unavailable']);
  } finally {
    renameSync(`${tokens}.away`, tokens);
  }
  await at.reopen();
  expect((await writer().read()).highest?.seq).toBe(1);
});
