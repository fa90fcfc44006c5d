/** What the audit makes of a store that was rolled back, without a token: which restrictions stand, what is rebuilt. */

import { describe, expect, test } from '@jest/globals';
import type { AuditRecord } from '../../src/audit/record.ts';
import { KmsError } from '../../src/errors.ts';
import { beyond, Histories, standing } from '../../src/keys/aftermath.ts';
import type { Key, Vault } from '../../src/keys/key.ts';
import { makingDetail } from '../../src/keys/making.ts';
import { planAcceptance, type PlanOptions } from '../../src/keys/rollback.ts';

const DAY = 1_800_000_000_000;
const ID = 'k';

interface Said {
  readonly event: string;
  readonly at: number;
  readonly boot?: string;
  readonly request?: string;
  readonly reason?: string;
}

function record({ event, at, boot = 'a', request = `${event} ${at}`, reason }: Said, seq: number): AuditRecord {
  const frame = { seq, wall: DAY + at, mono: 0, boot, host: 'h', prev: '' };
  return { ...frame, event, result: 'success', requestId: request, vault: 'v', key: ID, ...(reason !== undefined && { detail: { reason } }) };
}

function stateOf(said: readonly Said[], journaled: readonly string[] = [], final = false): string {
  const histories = new Histories();
  said.map(record).forEach((one) => { histories.take(one); });
  const [history] = histories.all();
  if (history === undefined) return 'nothing';
  return standing(history, beyond(history, journaled), final)?.state ?? 'nothing';
}

const OFF = { event: 'key.deactivate', at: 0, reason: 'unspecified' };
const LOST = { event: 'key.deactivate', at: 0, reason: 'key_compromise' };
const ON = 'key.activate';

describe('a restriction', () => {
  test.each<[string, string, readonly Said[], readonly string[], boolean]>([
    ['stands', 'deactivated', [OFF], [], false],
    ['that the journal holds is no news', 'nothing', [OFF], ['key.deactivate 0'], false],
    ['is lifted later in its own stream', 'nothing', [OFF, { event: ON, at: 1 }], [], false],
    ['is not lifted by what came before', 'deactivated', [{ event: ON, at: -1 }, OFF], [], false],
    ['is lifted certainly later in another stream', 'nothing', [OFF, { event: ON, at: 2001, boot: 'b' }], [], false],
    ['stands in doubt between two clocks', 'deactivated', [OFF, { event: ON, at: 2000, boot: 'b' }], [], false],
    ['for compromise is lifted where that is reversible', 'nothing', [LOST, { event: ON, at: 1 }], [], false],
    ['for compromise is not lifted where that is final', 'compromised', [LOST, { event: ON, at: 1 }], [], true],
    ['for compromise outlives a weaker reason', 'compromised', [LOST, { ...OFF, at: 1 }], [], false],
    ['to the end is never lifted', 'destroyed', [OFF, { event: 'key.destroy', at: 1 }, { event: ON, at: 9999 }], [], false],
    ['to the end remembers the compromise', 'destroyed_compromised', [LOST, { event: 'key.destroy', at: 1 }], [], false],
    ['under a request id that was used before is news', 'deactivated', [{ event: 'key.update', at: -5, request: 'x' }, { ...OFF, request: 'x' }], ['x'], false],
    ['of a version stands', 'deactivated', [{ event: 'key.version.disable', at: 0 }], [], false],
    ['of a version is lifted by enabling it', 'nothing', [{ event: 'key.version.disable', at: 0 }, { event: 'key.version.enable', at: 1 }], [], false],
    ['of a version is not lifted by an activation', 'deactivated', [{ event: 'key.version.disable', at: 0 }, { event: ON, at: 1 }], [], false],
    ['by soft deletion stands', 'deactivated', [{ event: 'key.delete', at: 0 }], [], false],
    ['by soft deletion is lifted by a recovery', 'nothing', [{ event: 'key.delete', at: 0 }, { event: 'key.recover', at: 1 }], [], false],
    ['is not lifted by a recovery', 'compromised', [LOST, { event: 'key.delete', at: 1 }, { event: 'key.recover', at: 2 }], [], false],
    ['of a destruction that a reconciler completed', 'destroyed', [{ event: 'reconcile.destroyed', at: 3 }], [], false],
  ])('%s', (_what, expected, said, journaled, final) => {
    expect(stateOf(said, journaled, final)).toBe(expected);
  });

  test('that failed or was refused is none', () => {
    const histories = new Histories();
    histories.take({ ...record(OFF, 0), result: 'failed' });
    expect(histories.all()).toEqual([]);
  });
});

const VAULT = { id: 'v', compromiseRule: 'reversible' } as Vault;
const hex = (of: string): string => of.repeat(32);
const version = (ordinal: number, id: string): Key['versions'][number] => ({
  id: hex(id), ordinal, enabled: true, nbfMs: null, expMs: null, createdMs: 0, updatedMs: 0, publicKey: null, revision: 0,
  usages: ['encrypt', 'decrypt'], madeFor: ['encrypt', 'decrypt'], tags: [],
  objects: [{ family: 'gcm', objectId: hex(id), proof: new Uint8Array() }],
});
const KEY = {
  vaultId: 'v', id: ID, kind: 'oct', bits: 256, curve: null, usages: ['encrypt', 'decrypt'], origin: 'generated', backupClass: 'never',
  state: 'active', deactivatedMs: null, compromisedMs: null, versions: [version(0, '0')],
} as unknown as Key;

function making(event: string, ordinal: number, id: string): AuditRecord {
  const made = version(ordinal, id);
  return { ...record({ event, at: ordinal }, ordinal), version: ordinal, algorithm: 'oct', bits: 256, objectIds: [hex(id)], detail: makingDetail(KEY, made) };
}

/** @param gone CKA_IDs that the token does not show */
function plan(records: readonly AuditRecord[], known: Key | undefined, gone: readonly string[] = [], intents: readonly object[] = []) {
  const histories = new Histories();
  records.forEach((one) => { histories.take(one); });
  const options = {
    store: {
      vaults: () => Promise.resolve([VAULT]), findKey: () => Promise.resolve(known),
      changesOf: () => Promise.resolve(['key.create 0']), intents: () => Promise.resolve(intents),
    },
    engine: {
      recognise: (_shape: unknown, _id: string, planned: readonly { objectId: string; family: string }[]) => {
        if (planned.some(({ objectId }) => gone.includes(objectId))) return Promise.reject(new KmsError('key-missing', 'not there'));
        return Promise.resolve({ publicKey: null, objects: planned.map((object) => ({ ...object, proof: new Uint8Array(1) })) });
      },
    },
    ...{ bootId: 'me', nowMs: DAY + 99, above: 1, totals: {} },
  } as unknown as PlanOptions;
  return planAcceptance(histories.all(), options);
}

describe('what was made in the gap', () => {
  const rotated = [making('key.create', 0, '0'), making('key.rotate', 1, '1'), making('key.rotate', 2, '2')];

  test('versions of a key that is there come back, and it is deactivated', async () => {
    const { acceptance, rebuilt, lost } = await plan(rotated, KEY);
    expect(acceptance.versions.map(({ keyId, version: { id } }) => [keyId, id])).toEqual([[ID, hex('1')], [ID, hex('2')]]);
    expect(acceptance.changes).toEqual([{ vaultId: 'v', keyId: ID, change: expect.objectContaining({ state: 'deactivated', deactivatedMs: DAY + 99 }) }]);
    expect([rebuilt.map(({ versions }) => versions), lost]).toEqual([[[1, 2]], []]);
  });

  test('a version after a lost one is lost: ordinals have no gaps', async () => {
    const { acceptance, lost } = await plan(rotated, KEY, [hex('1')]);
    expect([acceptance.versions, acceptance.changes]).toEqual([[], []]);
    expect(lost.map(({ version: of, objectIds, why }) => [of, objectIds, why])).toEqual([
      [1, [hex('1')], 'not there'],
      [2, [hex('2')], expect.stringContaining('a version before it is lost')],
    ]);
  });

  test('a key comes back with all its versions', async () => {
    const { acceptance } = await plan(rotated, undefined);
    expect(acceptance.keys.map(({ key, versions }) => [key.id, key.state, key.usages, versions.map(({ id }) => id)])).toEqual([
      [ID, 'deactivated', ['encrypt', 'decrypt'], [hex('0'), hex('1'), hex('2')]],
    ]);
  });

  test('an imported key is lost: nothing tells which material it was', async () => {
    const [create] = rotated;
    const imported = { ...create, detail: { ...create?.detail, origin: 'imported-clear' } } as AuditRecord;
    const { acceptance, lost } = await plan([imported], undefined);
    expect([acceptance.keys, lost.length]).toEqual([[], 1]);
  });

  test('announced work that was completed is withdrawn, other is not', async () => {
    const intents = [
      { id: 'done', action: 'create', objectIds: [hex('0')] },
      { id: 'open', action: 'create', objectIds: [hex('9')] },
      { id: 'end', action: 'destroy', objectIds: [hex('0')] },
    ];
    expect((await plan(rotated, undefined, [hex('0')], intents)).acceptance.withdrawn).toEqual(['done']);
  });
});
