/**
 * Time windows and soft deletion by the clock, which the test holds: the service's parts on a real token and a real store,
 * with another `now`. Both flavours.
 */

import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createFloodGate } from '../../src/audit/flood.ts';
import { type AuditLog, openAuditLog } from '../../src/audit/log.ts';
import { createServices, type Services } from '../../src/doors.ts';
import { Gate, type Call } from '../../src/keys/access.ts';
import { Invocations } from '../../src/keys/invocations.ts';
import type { Vault } from '../../src/keys/key.ts';
import type { NamedSpec } from '../../src/keys/named-keys.ts';
import { Outbox } from '../../src/keys/outbox.ts';
import { Purger } from '../../src/keys/purger.ts';
import { createLogger } from '../../src/telemetry/log.ts';
import { assignment, installation, MACS, vault } from '../store/fixtures.ts';
import { openTwo, type SqliteStores } from '../store/sqlite-files.ts';
import { TestToken } from '../support/token.ts';

const DAY = 86_400_000;
const START = Date.parse('2030-01-01T00:00:00Z');
const SOFT_DAYS = 7;

let token: TestToken;
let stores: SqliteStores;
let audit: AuditLog;
let services: Services;
let outbox: Outbox;
let nowMs = START;

const VAULTS: readonly Vault[] = (['premium', 'managed-hsm'] as const).map((flavour) => ({
  ...vault({ flavour, name: flavour, softDeleteDays: SOFT_DAYS, profile: 'standard', purgeProtection: flavour === 'premium' }), revision: 0,
}));
const principal = { method: 'certificate', issuer: 'issuer', subject: 'subject', memberships: [], vaultId: null, credential: 'c' } as const;
let requests = 0;
const callOf = (of: Vault): Call => ({ principal, vault: of, requestId: `request-${(requests += 1)}`, source: '127.0.0.1' });

beforeAll(async () => {
  token = await TestToken.make({ profile: 'softhsm-2.6.1', tokenLabel: 'clock' });
  stores = await openTwo();
  const { a: store, boots: [bootId] } = stores;
  const made = installation();
  await store.createInstallation({ installation: made, vaults: VAULTS, credentials: [], assignments: [assignment()] }, MACS);
  audit = await openAuditLog({ directory: join(token.home, 'audit'), hostId: 'host', bootId, closeMs: 1 });
  const now = (): number => nowMs;
  outbox = new Outbox(store, bootId);
  const floods = createFloodGate({ append: (event) => audit.append(event), now });
  const gate = new Gate({ store, audit, floods, outbox, installation: { ...made, revision: 0 }, now, assertServing: () => undefined, rates: { use: 0, read: 0, manage: 0 } });
  const nothing = (): void => undefined;
  services = createServices({
    gate, store, bootId, now, engine: token.engine, invocations: new Invocations(store), onRestriction: nothing, onBudgetSpent: nothing,
  });
});
beforeEach(() => { nowMs = START; });
afterAll(async () => {
  await audit.close();
  await stores.dispose();
  await token.remove();
});

let names = 0;
async function make(of: Vault, over: Partial<NamedSpec> = {}): Promise<string> {
  const name = `key-${(names += 1)}`;
  const spec: NamedSpec = {
    kind: 'RSA', bits: 2048, curve: null, namedHsm: true, enabled: true, nbfMs: null, expMs: null, tags: [],
    usages: ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'], ...over,
  };
  await services.named.create(callOf(of), name, () => spec);
  return name;
}

const codeOf = (run: Promise<unknown>): Promise<string> => run.then(() => 'ok', (error: unknown) => {
  const { code, reason } = error as { code: string; reason?: string };
  return reason ?? code;
});

describe.each(VAULTS.map((of) => [of.flavour, of] as const))('in a vault of the flavour %s', (_flavour, of) => {
  const value = Buffer.alloc(256, 1);
  const digest = Buffer.alloc(32, 1);
  /** Protect: encrypt, wrapKey, sign. Process: decrypt, unwrapKey, verify, which fail only because of what is inside. */
  async function outcomes(name: string): Promise<string[]> {
    const { cryptography } = services;
    const at = { key: { name }, versionId: null };
    const oaep = { alg: 'RSA-OAEP', value: Buffer.from('x') };
    return Promise.all([
      codeOf(cryptography.encrypt(callOf(of), 'encrypt', at, () => oaep)),
      codeOf(cryptography.encrypt(callOf(of), 'wrapKey', at, () => oaep)),
      codeOf(cryptography.sign(callOf(of), at, () => ({ alg: 'RS256', digest }))),
      codeOf(cryptography.decrypt(callOf(of), 'decrypt', at, () => ({ alg: 'RSA1_5', value }))),
      codeOf(cryptography.decrypt(callOf(of), 'unwrapKey', at, () => ({ alg: 'RSA1_5', value: Buffer.alloc(3) }))),
      codeOf(cryptography.verify(callOf(of), at, () => ({ alg: 'RS256', digest, signature: value }))),
    ]);
  }
  const processed = expect.stringMatching(/ok|decrypt|internal/);
  const all = (protect: string): unknown[] => [protect, protect, protect, processed, processed, 'ok'];

  test('nbf is the first moment inside, exp the first outside', async () => {
    const name = await make(of, { nbfMs: START + 1000, expMs: START + 5000 });
    for (const [at, protect] of [[999, 'not-yet-valid'], [1000, 'ok'], [4999, 'ok'], [5000, 'expired'], [DAY, 'expired']] as const) {
      nowMs = START + at;
      expect([at, await outcomes(name)]).toEqual([at, all(protect)]);
    }
  });

  test('management goes on outside the window', async () => {
    const name = await make(of, { expMs: START - 1 });
    expect(await outcomes(name)).toEqual(all('expired'));
    await services.named.get(callOf(of), name, null);
    await services.named.update(callOf(of), name, null, () => ({ expMs: START + 10 }));
    expect(await outcomes(name)).toEqual(all('ok'));
    const rotated = await services.lifecycle.rotate(callOf(of), { name });
    expect(rotated.versions.map(({ nbfMs, expMs }) => [nbfMs, expMs])).toEqual([[null, START + 10], [null, null]]);
    await services.named.delete(callOf(of), name);
    await services.named.recover(callOf(of), name);
  });

  test('a key that is deleted is destroyed on its date, not before, and can be recovered until then', async () => {
    const due = START + SOFT_DAYS * DAY;
    const [lost, kept] = [await make(of), await make(of)];
    for (const name of [lost, kept]) {
      const { key: { deletion } } = await services.named.delete(callOf(of), name);
      expect(deletion).toEqual({ atMs: START, scheduledPurgeMs: due });
    }
    const { key } = await services.named.getDeleted(callOf(of), lost);
    const ids = key.versions.flatMap(({ objects }) => objects.map(({ objectId }) => objectId));
    const purger = purgerAt();
    nowMs = due - 1;
    expect(await purger.purge()).toBe(0);
    await services.named.recover(callOf(of), kept);
    expect(await outcomes(kept)).toEqual(all('ok'));
    nowMs = due;
    // By a purger that did not see the clock jump: here the days went by.
    expect(await purgerAt().purge()).toBe(1);
    expect(await codeOf(services.named.recover(callOf(of), lost))).toBe('not-found');
    expect((await stores.a.findKey(of.id, key.id))!.state).toBe('destroyed');
    const shown = new Set((await token.engine.survey()).map(({ objectId }) => objectId));
    expect(ids.some((id) => shown.has(id))).toBe(false);
    expect(ids).toHaveLength(2);
  });
});

let monotonicMs = 0;
const jumped: string[] = [];

function purgerAt(databaseMs: () => number = () => nowMs): Purger {
  const { a: store, boots: [bootId] } = stores;
  const logger = createLogger({ level: 'silent', base: {} });
  const watched = { ...audit, append: (event: Parameters<AuditLog['append']>[0]) => { jumped.push(event.event); return audit.append(event); } };
  return new Purger({
    store, alterations: services.alterations, audit: watched, outbox, logger, bootId, periodMs: 60_000,
    clocks: { wallMs: () => nowMs, databaseMs: () => Promise.resolve(databaseMs()), monotonicMs: () => monotonicMs },
  });
}

describe('a clock that cannot be believed destroys nothing', () => {
  const [, hsm] = VAULTS as [Vault, Vault];
  const past = (ms: number): void => { nowMs += ms; monotonicMs += ms; };

  test('when host and database disagree', async () => {
    const name = await make(hsm);
    await services.named.delete(callOf(hsm), name);
    const database = (): number => nowMs - 61_000;
    nowMs = START + 8 * DAY;
    expect(await purgerAt(database).purge()).toBe(0);
    expect(await purgerAt(() => nowMs + 61_000).purge()).toBe(0);
    expect(await purgerAt(() => nowMs + 1000).purge()).toBe(1);
    expect(await codeOf(services.named.getDeleted(callOf(hsm), name))).toBe('not-found');
  });

  test.each([['the host', 'host'], ['the database', 'database'], ['both', 'both']])('for a day after a jump of %s, which raises an alarm', async (_name, which) => {
    const name = await make(hsm);
    await services.named.delete(callOf(hsm), name);
    let database = nowMs;
    const purger = purgerAt(() => database);
    expect(await purger.purge()).toBe(0);
    jumped.length = 0;
    const jump = 8 * DAY;
    if (which !== 'database') nowMs += jump;
    if (which !== 'host') database += jump;
    monotonicMs += 60_000;
    expect(await purger.purge()).toBe(0);
    expect(jumped).toContain('alarm.clock');
    // Set right again is a jump as well.
    if (which === 'host') database = nowMs;
    if (which === 'database') nowMs = database;
    await purger.purge();
    for (let hours = 0; hours < 23; hours += 1) {
      past(3_600_000);
      database += 3_600_000;
      expect(await purger.purge()).toBe(0);
    }
    past(3_700_000);
    database += 3_700_000;
    expect(await purger.purge()).toBe(1);
  });
});
