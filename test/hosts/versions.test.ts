/**
 * Versions of one key made by two hosts at the same time (security C-14): each has its place, its objects and its
 * ciphertexts, whoever made it. Rotation has no route, so the hosts are server processes without doors.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Actor, type Answer, Host, type SeenKey, type Type } from '../chaos/actors.ts';
import { auditStreams } from '../chaos/audit-lines.ts';
import { Ledger, type PromisedKey } from '../chaos/ledger.ts';
import * as eyes from '../chaos/other-eyes.ts';
import { allWorks } from '../chaos/works.ts';
import { runKms } from '../support/files.ts';
import { Pair } from './pair.ts';

const PER_HOST = 10;
/** A store that is asked for the same head by many may say that it does not come to it; callers then ask again. */
const TRIES = 60;
const PAUSE_MS = 100;

const ledger = new Ledger();
let pair: Pair;
let actors: readonly Actor[] = [];

beforeAll(async () => {
  pair = await Pair.make();
  actors = pair.hosts.map((host) => new Host(host).start());
  await Promise.all(actors.map(({ ready }) => ready));
}, 300_000);

afterAll(async () => {
  await Promise.all(actors.map((actor) => actor.kill()));
  await pair.remove();
}, 120_000);

function ask(actor: Actor, act: 'create' | 'rotate' | 'encrypt' | 'decrypt' | 'get', key: PromisedKey, text?: string): Promise<Answer> {
  return ledger.ask(actor, { id: `${act}-${randomUUID()}`, act, keyId: key.id, type: key.type, ...(text !== undefined && { text }) });
}

/** What was refused for a reason that passes is asked again. @returns refusals of another kind */
async function rotate(actor: Actor, key: PromisedKey): Promise<readonly string[]> {
  for (let left = TRIES; ; left -= 1) {
    const answer = await ask(actor, 'rotate', key);
    if (answer.kind === 'done') return [];
    if (answer.kind === 'silence') return ['silence'];
    if (left === 0 || !['store-unavailable', 'overloaded', 'conflict'].includes(answer.code)) return [`${answer.code}: ${answer.message}`];
    await sleep(PAUSE_MS);
  }
}

test.each<Type>(['oct', 'EC'])('20 versions of one key, 10 from each host at once: %s', async (type) => {
  const [a, b] = actors as readonly [Actor, Actor];
  const key = ledger.promise(randomUUID(), type, true);
  expect(await ask(a, 'create', key)).toMatchObject({ kind: 'done' });
  if (type === 'oct') for (const actor of actors) expect(await ask(actor, 'encrypt', key, 'before all')).toMatchObject({ kind: 'done' });

  const rotations = actors.flatMap((actor) => Array.from({ length: PER_HOST }, () => rotate(actor, key)));
  // Ciphertexts of versions in between.
  const between = actors.map(async (actor, index) => {
    for (let n = 0; type === 'oct' && n < PER_HOST; n += 1) await ask(actor, 'encrypt', key, `${index} ${n}`);
  });
  expect((await Promise.all(rotations)).flat()).toEqual([]);
  await Promise.all(between);

  const seen = await Promise.all(actors.map((actor) => ask(actor, 'get', key)));
  for (const answer of seen) {
    expect(answer).toMatchObject({ kind: 'done' });
    const { versions } = (answer as { value: SeenKey }).value;
    expect(versions.map(({ ordinal }) => ordinal)).toEqual(Array.from({ length: 1 + 2 * PER_HOST }, (_, ordinal) => ordinal));
  }
  expect(seen[0]).toMatchObject({ value: (seen[1] as { value: SeenKey }).value });
  expect(ledger.wrong).toEqual([]);
  if (type === 'oct') expect(ledger.sealed.length).toBe(actors.length * (1 + PER_HOST));
  expect(await allWorks(a, ledger)).toEqual([]);
  expect(await allWorks(b, ledger)).toEqual([]);
}, 300_000);

test('rows and token hold exactly that, and nothing is left to do', async () => {
  expect(ledger.keys.size).toBe(2);
  for (const actor of actors) expect(await actor.drain()).toBe(0);
  const rows = await eyes.readRows(pair.a);
  expect(rows.versions.length).toBe(2 * (1 + 2 * PER_HOST));
  expect(rows.intents).toEqual([]);
  expect(eyes.keysAsPromised(rows, ledger)).toEqual([]);
  expect(eyes.tokenIsRows(pair.a, rows)).toEqual([]);
  expect(eyes.signaturesHold(rows, ledger)).toEqual([]);
  for (const host of pair.hosts) {
    expect(eyes.noFalseAlarm(auditStreams(host))).toEqual([]);
    const { code, stdout } = await runKms(host.environment, 'audit', 'verify');
    expect({ code, stdout }).toEqual({ code: 0, stdout });
  }
}, 180_000);
