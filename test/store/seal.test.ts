/** Seals and journal macs are over the bytes of integrity §3 and §4: written out here by hand, not with the code's parts. */

import { createHash } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { canonicalRow, isSealed, type JournalEntry, journalMac, partsOf, sealedBytes, sealOf } from '../../src/store/seal.ts';
import { type AnyRow, type ColumnType, TABLES, type Value } from '../../src/store/sealed-tables.ts';
import { hex, MACS, macsOf } from './fixtures.ts';

/** Hex with any spacing, and texts in double quotes. */
function bytes(text: string): Buffer {
  const parts = text.match(/"[^"]*"|[0-9a-f]{2}/g) ?? [];
  return Buffer.concat(parts.map((part) => (part.startsWith('"') ? Buffer.from(part.slice(1, -1), 'utf8') : Buffer.from(part, 'hex'))));
}

const KMS_SEAL = '"kms-seal" 01  00000002'; // magic, version, schema number

describe('the bytes of a seal', () => {
  it('of an assignment: texts, nulls, a time; unicode as it is stored', () => {
    const row = {
      id: 'a1', method: 'token', issuer: 'https://i', subject: 'Ünï', role: 'owner', vault_id: null, key_id: null,
      created_ms: 1_700_000_000_004, seq: 258, epoch: 3, revision: 1, seal: new Uint8Array(32),
    };
    expect(sealedBytes('assignment', row).toString('hex')).toBe(bytes(`${KMS_SEAL}
      0000000a "assignment"  00000003  0000000000000102  0000000000000001  0000000c
      0000000a "created_ms"  07 00000008 0000018bcfe56804
      00000005 "epoch"       03 00000008 0000000000000003
      00000002 "id"          01 00000002 "a1"
      00000006 "issuer"      01 00000009 "https://i"
      00000006 "key_id"      00 00000000
      00000006 "method"      01 00000005 "token"
      0000000b "permissions" 00 00000000
      00000008 "revision"    03 00000008 0000000000000001
      00000004 "role"        01 00000005 "owner"
      00000003 "seq"         03 00000008 0000000000000102
      00000007 "subject"     01 00000005 c39c6ec3af
      00000008 "vault_id"    00 00000000`).toString('hex'));
  });

  it('of an internal key: bytes, empty bytes', () => {
    const row = { name: 'canary', object_id: '00ff', proof: Uint8Array.of(0, 255, 7), public_key: new Uint8Array(), seq: 1, epoch: 1, revision: 0 };
    expect(sealedBytes('internal_key', row).toString('hex')).toBe(bytes(`${KMS_SEAL}
      0000000c "internal_key"  00000001  0000000000000001  0000000000000000  00000007
      00000005 "epoch"       03 00000008 0000000000000001
      00000004 "name"        01 00000006 "canary"
      00000009 "object_id"   01 00000004 "00ff"
      00000005 "proof"       02 00000003 00ff07
      0000000a "public_key"  02 00000000
      00000008 "revision"    03 00000008 0000000000000000
      00000003 "seq"         03 00000008 0000000000000001`).toString('hex'));
  });

  it('of an intent: a list keeps its order, and its repetitions', () => {
    const row = {
      id: 'i', action: 'destroy', state: 'announced', slot: null, vault_id: 'v', key_id: 'k', object_ids: '["bb","","aa","bb"]',
      boot_id: 'b', created_ms: 0, seq: 2, epoch: 1, revision: 0,
    };
    expect(sealedBytes('intent', row).toString('hex')).toBe(bytes(`${KMS_SEAL}
      00000006 "intent"  00000001  0000000000000002  0000000000000000  0000000c
      00000006 "action"      01 00000007 "destroy"
      00000007 "boot_id"     01 00000001 "b"
      0000000a "created_ms"  07 00000008 0000000000000000
      00000005 "epoch"       03 00000008 0000000000000001
      00000002 "id"          01 00000001 "i"
      00000006 "key_id"      01 00000001 "k"
      0000000a "object_ids"  05 0000001a 00000004 00000002 "bb" 00000000 00000002 "aa" 00000002 "bb"
      00000008 "revision"    03 00000008 0000000000000000
      00000003 "seq"         03 00000008 0000000000000002
      00000004 "slot"        00 00000000
      00000005 "state"       01 00000009 "announced"
      00000008 "vault_id"    01 00000001 "v"`).toString('hex'));
  });

  it('of a version: booleans; the least and the greatest integer', () => {
    const row = {
      vault_id: 'v', key_id: 'k', ordinal: Number.MAX_SAFE_INTEGER, id: 'x', enabled: 1, nbf_ms: -2, exp_ms: Number.MIN_SAFE_INTEGER,
      created_ms: 1, updated_ms: 2, public_key: null, tags: '["a","b"]', seq: 5, epoch: 1, revision: 0,
    };
    expect(sealedBytes('key_version', row).toString('hex')).toBe(bytes(`${KMS_SEAL}
      0000000b "key_version"  00000001  0000000000000005  0000000000000000  00000010
      0000000a "created_ms"  07 00000008 0000000000000001
      00000007 "enabled"     04 00000001 01
      00000005 "epoch"       03 00000008 0000000000000001
      00000006 "exp_ms"      07 00000008 ffe0000000000001
      00000002 "id"          01 00000001 "x"
      00000006 "key_id"      01 00000001 "k"
      00000008 "made_for"    00 00000000
      00000006 "nbf_ms"      07 00000008 fffffffffffffffe
      00000007 "ordinal"     03 00000008 001fffffffffffff
      0000000a "public_key"  00 00000000
      00000008 "revision"    03 00000008 0000000000000000
      00000003 "seq"         03 00000008 0000000000000005
      00000004 "tags"        05 0000000e 00000002 00000001 "a" 00000001 "b"
      0000000a "updated_ms"  07 00000008 0000000000000002
      00000006 "usages"      00 00000000
      00000008 "vault_id"    01 00000001 "v"`).toString('hex'));
    expect(sealedBytes('key_version', { ...row, enabled: 0 }).toString('hex')).toContain(bytes('"enabled" 04 00000001 00').toString('hex'));
  });

  it('of a key: its usages are a set, sorted by bytes', () => {
    const columns = Object.fromEntries(Object.keys(TABLES.key.columns).map((name) => [name, null]));
    const of = (usages: string) => sealedBytes('key', { ...columns, usages, seq: 1, epoch: 1, revision: 0 }).toString('hex');
    const sorted = '"usages" 06 00000019 00000003 00000002 "Zz" 00000004 "sign" 00000003 c3a961';
    expect(of('["éa","sign","Zz"]')).toContain(bytes(sorted).toString('hex'));
    expect(of('["Zz", "éa" ,"sign"]')).toBe(of('["sign","éa","Zz"]'));
    expect(of('["sign","sign"]')).not.toBe(of('["sign"]'));
    expect(of('["sig","n"]')).not.toBe(of('["sign"]'));
    expect(of('[]')).toContain(bytes('"usages" 06 00000004 00000000').toString('hex'));
  });

  it('of the head, which has neither revision nor seq of a journal entry that wrote it', () => {
    const row = {
      singleton: 1, epoch: 2, seq: 9, mac: Uint8Array.of(1), key_epoch: 1, live_rows: 4, tombstones: 0, store_id: 's', status: 'serving',
    };
    expect(sealedBytes('head', row).toString('hex')).toBe(bytes(`${KMS_SEAL}
      00000004 "head"  00000002  0000000000000009  0000000000000000  00000009
      00000005 "epoch"       03 00000008 0000000000000002
      00000009 "key_epoch"   03 00000008 0000000000000001
      00000009 "live_rows"   03 00000008 0000000000000004
      00000003 "mac"         02 00000001 01
      00000003 "seq"         03 00000008 0000000000000009
      00000009 "singleton"   03 00000008 0000000000000001
      00000006 "status"      01 00000007 "serving"
      00000008 "store_id"    01 00000001 "s"
      0000000a "tombstones"  03 00000008 0000000000000000`).toString('hex'));
  });

  it('include every column of every table but the seal', () => {
    for (const [table, { columns }] of Object.entries(TABLES)) {
      const text = sealedBytes(table as keyof typeof TABLES, {}).toString('latin1');
      for (const name of Object.keys(columns)) expect(text).toContain(`\0\0\0${String.fromCharCode(name.length)}${name}\0\0\0\0\0`);
      expect(Object.keys(columns)).not.toContain('seal');
    }
  });
});

describe('a seal', () => {
  const row: AnyRow = { name: 'canary', object_id: 'o', proof: Uint8Array.of(1), public_key: null, seq: 1, epoch: 1, revision: 0 };

  it('fits its row, table and key alone', () => {
    const sealed = { ...row, seal: sealOf(MACS, 'internal_key', row) };
    expect(isSealed(MACS, 'internal_key', sealed)).toBe(true);
    expect(isSealed(MACS, 'vault', sealed)).toBe(false);
    expect(isSealed(macsOf({ seal: hex(), journal: hex() }), 'internal_key', sealed)).toBe(false);
    for (const change of [{ revision: 1 }, { seq: 2 }, { epoch: 2 }, { name: 'audit' }, { proof: null }]) {
      expect(isSealed(MACS, 'internal_key', { ...sealed, ...change })).toBe(false);
    }
  });

  it('that is none, or over what is no value of its type, does not fit', () => {
    for (const seal of [null, '', new Uint8Array(), new Uint8Array(31), new Uint8Array(33), 'x'.repeat(32)]) {
      expect(isSealed(MACS, 'internal_key', { ...row, seal })).toBe(false);
    }
    const seal = new Uint8Array(32);
    expect(isSealed(MACS, 'internal_key', { ...row, name: 5, seal })).toBe(false);
    expect(isSealed(MACS, 'internal_key', { ...row, seq: 1.5, seal })).toBe(false);
    expect(isSealed(MACS, 'internal_key', { ...row, epoch: -1, seal })).toBe(false);
    expect(isSealed(MACS, 'intent', { object_ids: '{', seq: 1, epoch: 1, revision: 0, seal })).toBe(false);
    expect(isSealed(MACS, 'intent', { object_ids: '[1]', seq: 1, epoch: 1, revision: 0, seal })).toBe(false);
  });
});

describe('a seal of the first schema', () => {
  const row: AnyRow = {
    vault_id: 'v', key_id: 'k', ordinal: 0, id: 'x', enabled: 1, nbf_ms: null, exp_ms: null, created_ms: 1, updated_ms: 1,
    public_key: null, usages: null, made_for: null, tags: null, seq: 1, epoch: 1, revision: 0,
  };
  const before = { ...row, seal: MACS.seal(sealedBytes('key_version', row, 1)) };

  it('is over the columns of then', () => {
    const text = sealedBytes('key_version', row, 1).toString('latin1');
    expect(sealedBytes('key_version', row, 1).readUInt32BE(9)).toBe(1);
    expect(text).toContain('nbf_ms');
    for (const name of ['made_for', 'tags', 'usages']) expect(text).not.toContain(name);
  });

  it('still fits, as long as the columns since then hold nothing', () => {
    expect(isSealed(MACS, 'key_version', before)).toBe(true);
    for (const change of [{ tags: '["a","b"]' }, { usages: '[]' }, { made_for: '["sign"]' }, { enabled: 0 }]) {
      expect(isSealed(MACS, 'key_version', { ...before, ...change })).toBe(false);
    }
  });
});

describe('the journal', () => {
  const entry: JournalEntry = {
    seq: 258, epoch: 1, at_ms: 1_700_000_000_004, tbl: 'key', pk: 'v/é', revision: 2, row_seal: Uint8Array.of(9, 9), stream: 'boot',
    request_id: 'req', canonical: '{}', prev: Uint8Array.of(7),
  };
  const over = (of: JournalEntry) => Buffer.from(journalMac({ ...MACS, journal: (text) => text }, of)).toString('hex');

  it('has macs over every member of an entry', () => {
    expect(over(entry)).toBe(bytes(`"kms-jrnl" 01  0000000000000102  00000001  0000018bcfe56804
      00000003 "key"  00000004 "v/" c3a9  0000000000000002  00000002 0909  00000004 "boot"  00000003 "req"
      01 00000002 "{}"  00000001 07`).toString('hex'));
    expect(over({ ...entry, canonical: null })).toContain(bytes('00000003 "req" 00 00000000 00000001 07').toString('hex'));
    expect(over({ ...entry, canonical: '' })).not.toBe(over({ ...entry, canonical: null }));
  });

  it('keeps a row with the digests of its bytes, and without its seal', () => {
    const row = { name: 'canary', object_id: 'o', proof: Uint8Array.of(1, 2), public_key: null, seq: 1, epoch: 1, revision: 0, seal: new Uint8Array(32) };
    const proof = createHash('sha256').update(Uint8Array.of(1, 2)).digest('hex');
    expect(JSON.parse(canonicalRow('internal_key', row))).toEqual({ name: 'canary', object_id: 'o', proof, public_key: null, seq: 1, epoch: 1, revision: 0 });
  });
});

it('the parts of a key are a digest over seals in byte order, each with its length', () => {
  const [low, high] = [Uint8Array.of(1, 2), Uint8Array.of(2)];
  const expected = createHash('sha256').update(bytes('00000002 0102 00000001 02')).digest('hex');
  expect(Buffer.from(partsOf([high, low])).toString('hex')).toBe(expected);
  expect(Buffer.from(partsOf([low, high])).toString('hex')).toBe(expected);
});

const VALUES: Readonly<Record<ColumnType, fc.Arbitrary<Value>>> = {
  text: fc.oneof(fc.string({ unit: 'binary', maxLength: 8 }), fc.constantFrom('', 'a', '[]', '0')),
  bytes: fc.uint8Array({ maxLength: 8 }),
  int: fc.maxSafeInteger(),
  flag: fc.constantFrom(0, 1),
  time: fc.maxSafeInteger(),
  'json-list': fc.array(fc.string({ maxLength: 3 }), { maxLength: 3 }).map((list) => JSON.stringify(list)),
  'json-set': fc.array(fc.string({ maxLength: 3 }), { maxLength: 3 }).map((list) => JSON.stringify(list)),
};
const UNSIGNED = new Set(['epoch', 'seq', 'revision']);

/** Any row of any table, mostly of small and equal values, so that two are often nearly the same. */
const anyRow = fc.constantFrom(...(Object.keys(TABLES) as (keyof typeof TABLES)[])).chain((table) =>
  fc.record(Object.fromEntries(Object.entries(TABLES[table].columns).map(([name, type]: [string, ColumnType]) =>
    [name, UNSIGNED.has(name) ? fc.nat({ max: 3 }) : fc.option(VALUES[type])]))).map((row) => ({ table, row: row })));

function same(table: keyof typeof TABLES, left: AnyRow, right: AnyRow): boolean {
  return Object.entries(TABLES[table].columns).every(([name, type]: [string, ColumnType]) => {
    const [x, y] = [left[name] ?? null, right[name] ?? null].map((value) => {
      if (value === null) return 'null';
      if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
      const list = type === 'json-list' || type === 'json-set' ? (JSON.parse(String(value)) as string[]) : undefined;
      return `=${JSON.stringify(type === 'json-set' ? list?.sort() : list ?? value)}`;
    });
    return x === y;
  });
}

describe('two different rows', () => {
  it('never give the same bytes', () => {
    fc.assert(fc.property(anyRow, anyRow, (one, two) => {
      const equal = one.table === two.table && same(one.table, one.row, two.row);
      return sealedBytes(one.table, one.row).equals(sealedBytes(two.table, two.row)) === equal;
    }), { numRuns: 2_000 });
  });

  it('never do when one column differs, or moves to its neighbour', () => {
    fc.assert(fc.property(anyRow, fc.nat(), fc.nat(), ({ table, row }, at, to) => {
      const names = Object.keys(TABLES[table].columns);
      const types: Readonly<Record<string, ColumnType>> = TABLES[table].columns;
      const [from, into] = [names[at % names.length] ?? '', names[to % names.length] ?? ''];
      if (types[from] !== types[into] || UNSIGNED.has(from) !== UNSIGNED.has(into)) return true;
      const moved = { ...row, [from]: row[into] ?? null, [into]: row[from] ?? null };
      return sealedBytes(table, moved).equals(sealedBytes(table, row)) === same(table, moved, row);
    }), { numRuns: 2_000 });
  });
});
