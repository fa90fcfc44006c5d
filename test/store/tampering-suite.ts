/**
 * Tampering at store level, as a table. Each attack starts from the same contents with a store that has been unlocked,
 * and is judged by four things: what the running store still answers, what it reports, what a full comparison reports,
 * and whether a process that starts now unlocks the store.
 */

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type ColumnType, keyText, SEALED_TABLES, type SealedTable, TABLES } from '../../src/store/sealed-tables.ts';
import { StatementStore } from '../../src/store/statements.ts';
import type { Damage } from '../../src/store/store.ts';
import { FULL } from '../support/form.ts';
import { another } from './another.ts';
import { type Behind, type Ground, keyColumns, type Row } from './behind.ts';
import * as make from './fixtures.ts';
import { type Answers, ask, believed, compared, type Populated, populate, PRINCIPAL, PRINCIPAL_TEXT, refused, texts } from './populated.ts';

const { REQUEST } = make;
const INTEGRITY = { code: 'integrity' };
type Table = keyof typeof TABLES;

/** Tables without which a process does not start. */
const FIRST: ReadonlySet<string> = new Set(['installation', 'internal_key', 'head']);

/** In the short form the first of each kind that stands for itself: its type, and what it is for. */
function someColumns(columns: readonly string[], kindOf: (column: string) => unknown): readonly string[] {
  const kinds = columns.map((column) => JSON.stringify(kindOf(column)));
  return FULL ? columns : columns.filter((_, index) => kinds.indexOf(kinds[index]!) === index);
}

/** Of an assignment, whose new principal is refused and whose old one has lost it. */
const LOOKED_UP_BY: ReadonlySet<string> = new Set(['method', 'issuer', 'subject']);

/** Those of a table, with its seal. */
function columnsOf(table: Table): readonly string[] {
  const types: Readonly<Record<string, ColumnType>> = TABLES[table].columns;
  return someColumns([...Object.keys(types), 'seal'], (column) =>
    [types[column], keyColumns(table).includes(column), table === 'assignment' && LOOKED_UP_BY.has(column)]);
}

export function tamperingSuite(name: string, open: () => Promise<Ground>): void {
  describe(`tampering with ${name}`, () => {
    let ground: Ground;
    let behind: Behind;
    let data: Populated;
    let pristine: Answers;
    let store: StatementStore;
    let damage: Damage[];

    beforeAll(async () => {
      ground = await open();
      ({ behind } = ground);
      data = await populate(ground);
      pristine = await ask(await started(), behind, data.contents);
    });
    afterAll(() => ground.dispose());
    beforeEach(async () => {
      store = await started();
      damage = [];
      store.onDamage((of) => damage.push(of));
    });
    afterEach(() => behind.restore(data.contents));

    /** As another process that starts now. @throws what its unlocking throws */
    async function started(): Promise<StatementStore> {
      const process = new StatementStore(ground.engine, 'boot');
      await process.unlock(make.MACS);
      return process;
    }

    const rowsOf = (table: Table) => data.contents[table] ?? [];
    /** The first row, or the one whose columns are these. */
    const rowOf = (table: Table, columns: Row = {}): Row =>
      rowsOf(table).find((row) => Object.entries(columns).every(([column, value]) => row[column] === value))!;
    const keyRow = (id: string) => rowOf('key', { id });

    /** What all questions have in common: nothing forged is believed. @returns what is refused */
    async function refusals(): Promise<string[]> {
      const answers = await ask(store, behind, data.contents);
      expect(believed(answers, pristine)).toEqual([]);
      return refused(answers);
    }

    it('finds nothing where nothing was done', async () => {
      expect(await refusals()).toEqual([]);
      await compared(store);
      expect(damage).toEqual([]);
      expect(pristine.get('intents')).toHaveLength(2);
      expect(pristine.get('processes')).toHaveLength(2);
      expect(pristine.get(`list ${data.vaultId}`)).toHaveLength(3);
      expect(pristine.get(`assignments ${PRINCIPAL_TEXT}`)).toHaveLength(2);
    });

    /** Which questions about a row are refused. */
    const REFUSED: Readonly<Record<SealedTable, (row: Row) => readonly string[]>> = {
      installation: () => [],
      internal_key: () => [],
      vault: () => ['vaults'],
      credential: (row) => [`credential ${keyText('credential', row)}`],
      assignment: () => [`assignments ${PRINCIPAL_TEXT}`],
      custom_role: () => [],
      token_client: (row) => [`client ${keyText('token_client', row)}`],
      key: (row) => [`key ${keyText('key', row)}`],
      key_version: (row) => [`key ${String(row['vault_id'])}/${String(row['key_id'])}`],
      key_object: (row) => [`key ${String(row['vault_id'])}/${String(row['key_id'])}`],
      intent: () => [],
    };
    const columns = SEALED_TABLES.flatMap((table) => columnsOf(table).map((column) => [table, column] as const));
    it.each(columns)('%s.%s edited: refused, and reported with its place', async (table, column) => {
      const row = table === 'key' || table.startsWith('key_') ? placed(table) : rowOf(table);
      const types: Readonly<Record<string, ColumnType>> = TABLES[table].columns;
      const value = another(column, types[column] ?? 'bytes', row[column] ?? null);
      await behind.edit(table, row, { [column]: value });
      const moved = keyColumns(table).includes(column);
      if (FIRST.has(table)) await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: expect.stringContaining(table) });

      const expected = table === 'assignment' && LOOKED_UP_BY.has(column)
        ? [`assignments ${['method', 'issuer', 'subject'].map((of) => String(of === column ? value : row[of])).join(' ')}`]
        : REFUSED[table](row);
      expect(await refusals()).toEqual(expect.arrayContaining([...expected]));
      const place = keyText(table, { ...row, [column]: value });
      if (table === 'intent') expect(texts(damage)).toContain(`intent ${place}: seal`);
      await compared(store);
      expect(texts(damage)).toContain(`${table} ${place}: seal`);
      if (moved) expect(texts(damage)).toContain(`${table} ${keyText(table, row)}: removed`);
    });

    function placed(table: SealedTable): Row {
      return table === 'key' ? keyRow(data.live.id) : rowOf(table, { vault_id: data.vaultId, key_id: data.live.id });
    }

    it('of one key leaves the others in use', async () => {
      await behind.edit('key', keyRow(data.live.id), { state: 'deactivated' });
      expect(await refusals()).toEqual([`key ${data.vaultId}/${data.live.id}`]);
      const page = { vaultId: data.vaultId, states: ['active', 'deactivated'] as const, afterOrdinal: -1, limit: 100 };
      expect((await store.listKeys(page)).map(({ id }) => id)).toEqual([data.other.id, data.off.id]);
      expect(await store.updateKey(data.vaultId, data.other.id, 0, { label: 'x' }, REQUEST)).toMatchObject({ label: 'x' });
      await expect(store.updateKey(data.vaultId, data.live.id, 1, { label: 'x' }, REQUEST)).rejects.toMatchObject(INTEGRITY);
      await expect(store.beginRotate(make.announcement(data.live), REQUEST)).rejects.toMatchObject(INTEGRITY);
      const destroy = store.beginDestroy(data.vaultId, data.live.id, 1, make.TOMBSTONE, make.destruction(), REQUEST);
      await expect(destroy).rejects.toMatchObject(INTEGRITY);
      expect(texts(damage)).toEqual([`key ${data.vaultId}/${data.live.id}: seal`]);
    });

    const several = SEALED_TABLES.filter((table) => table !== 'installation');
    it.each(several)('two rows of %s swapped, with their seals', async (table) => {
      const [one, two] = table === 'key' ? [keyRow(data.live.id), keyRow(data.other.id)] : rowsOf(table);
      const keysOf = (row: Row) => Object.fromEntries(keyColumns(table).map((column) => [column, row[column] ?? null]));
      await behind.remove(table, one!, two!);
      await behind.insert(table, { ...two!, ...keysOf(one!) }, { ...one!, ...keysOf(two!) });
      if (FIRST.has(table)) await expect(started()).rejects.toMatchObject(INTEGRITY);
      expect(await refusals()).toEqual(expect.arrayContaining([...REFUSED[table](one!), ...REFUSED[table](two!)]));
      await compared(store);
      for (const row of [one!, two!]) expect(texts(damage)).toContain(`${table} ${keyText(table, row)}: seal`);
    });

    it.each(SEALED_TABLES)('a row of %s deleted', async (table) => {
      const row = table === 'key' || table.startsWith('key_') ? placed(table) : rowOf(table);
      await behind.remove(table, row);
      if (FIRST.has(table)) await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: expect.stringContaining('removed') });
      const now = await refusals();
      // Without an assignment somebody has less; without an intent nobody destroys.
      if (table !== 'assignment') expect(now).toEqual(expect.arrayContaining([...REFUSED[table](row)]));
      await compared(store);
      expect(texts(damage)).toContain(`${table} ${keyText(table, row)}: removed`);
      expect(texts(damage)).toContain(`head ${Number(rowOf('head')['live_rows'])} rows: count`);
    });

    it('a row deleted and another put in, so that their number is right', async () => {
      const [one, two] = rowsOf('assignment');
      await behind.edit('assignment', one!, { ...two!, id: 'forged' });
      expect(await refusals()).toEqual([`assignments ${PRINCIPAL_TEXT}`]);
      await compared(store);
      expect(texts(damage).sort()).toEqual(['assignment forged: seal', `assignment ${String(one!['id'])}: removed`].sort());
    });

    const COPIES: Readonly<Record<Exclude<SealedTable, 'installation'>, (n: number) => Row>> = {
      internal_key: () => ({ name: 'import', object_id: make.hex() }),
      vault: () => ({ id: 'forged', name: 'forged', ordinal: 99 }),
      credential: () => ({ serial: 'forged' }),
      assignment: () => ({ id: 'forged' }),
      custom_role: () => ({ id: 'forged', slug: 'forged' }),
      token_client: () => ({ id: 'forged' }),
      key: () => ({ id: 'forged', name: 'forged', live_name: 'forged', ordinal: 99 }),
      key_version: () => ({ ordinal: 2, id: 'forged' }),
      key_object: () => ({ family: 'mac' }),
      intent: () => ({ id: 'forged', slot: null }),
    };
    it.each(Object.entries(COPIES))('a row of %s copied under another key', async (name_, over) => {
      const table = name_ as SealedTable;
      const row = table === 'key' || table.startsWith('key_') ? placed(table) : rowOf(table);
      const forged = { ...row, ...over(0) };
      await behind.insert(table, forged);
      if (FIRST.has(table)) await expect(started()).rejects.toMatchObject(INTEGRITY);
      expect(await refusals()).toEqual(expect.arrayContaining([...REFUSED[table](forged)]));
      await compared(store);
      expect(texts(damage)).toContain(`${table} ${keyText(table, forged)}: seal`);
      expect(texts(damage)).toContain(`head ${Number(rowOf('head')['live_rows'])} rows: count`);
    });

    it('an old state of a key put back', async () => {
      const old = data.earlier['key']!.find(({ id }) => id === data.off.id)!;
      expect(old).toMatchObject({ state: 'active' });
      await behind.edit('key', old, old);
      const place = `${data.vaultId}/${data.off.id}`;
      expect(await refusals()).toEqual([`key ${place}`]);
      expect(texts(damage)).toEqual([`key ${place}: superseded`]);
      await compared(store);
      expect(texts(damage)).toEqual([`key ${place}: superseded`]);
      await expect(store.updateKey(data.vaultId, data.off.id, 0, {}, REQUEST)).rejects.toMatchObject(INTEGRITY);
    });

    it('a destroyed key put back as it lived', async () => {
      const old = data.earlier['key']!.find(({ id }) => id === data.gone.id)!;
      expect(old).toMatchObject({ state: 'active' });
      await behind.edit('key', old, old);
      expect(await refusals()).toEqual([`key ${data.vaultId}/${data.gone.id}`]);
      await compared(store);
      expect(texts(damage)).toEqual([`key ${data.vaultId}/${data.gone.id}: superseded`]);
    });

    it('an intent put back after its end', async () => {
      const pending = rowOf('intent', { action: 'create' });
      await store.removeIntent(String(pending['id']), REQUEST);
      await behind.insert('intent', pending);
      expect((await store.intents()).map(({ id }) => id)).toEqual([data.destruction]);
      expect(texts(damage)).toEqual([`intent ${String(pending['id'])}: superseded`]);
      await expect(store.removeIntent(String(pending['id']), REQUEST)).rejects.toMatchObject(INTEGRITY);
      const key = { ...make.newKey(data.vaultId), id: String(pending['key_id']) };
      await expect(store.commitCreate(String(pending['id']), key, make.newVersion(), REQUEST)).rejects.toMatchObject(INTEGRITY);
    });

    it('an old state put back together with the journal before it', async () => {
      const old = data.earlier['key']!.find(({ id }) => id === data.off.id)!;
      const newest = (await behind.rows('journal')).filter(({ tbl, pk }) => tbl === 'key' && pk === `${data.vaultId}/${data.off.id}`).at(-1)!;
      await behind.edit('key', old, old);
      await behind.remove('journal', newest);
      await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: `the journal was altered at entry ${Number(newest['seq'])}` });
      await compared(store);
      expect(texts(damage)).toContain(`journal ${Number(newest['seq'])}: chain`);
    });

    it('an object moved to another key is destroyed with neither', async () => {
      const object = rowOf('key_object', { key_id: data.other.id });
      await behind.edit('key_object', object, { key_id: data.live.id, version_ordinal: 1 });
      for (const { id, revision } of [data.live, data.other]) {
        await expect(store.findKey(data.vaultId, id)).rejects.toMatchObject(INTEGRITY);
        const destroy = store.beginDestroy(data.vaultId, id, revision, make.TOMBSTONE, make.destruction(), REQUEST);
        await expect(destroy).rejects.toMatchObject(INTEGRITY);
      }
      expect(await store.intents()).toEqual(pristine.get('intents'));
    });

    describe('a destroy intent that names the objects of a living key', () => {
      const live = () => JSON.stringify(data.live.versions.flatMap(make.objectIds));
      const forgeries: readonly (readonly [string, () => Promise<string>])[] = [
        ['made of a real one', async () => {
          await behind.edit('intent', rowOf('intent', { action: 'destroy' }), { object_ids: live() });
          return data.destruction;
        }],
        ['made of a creation', async () => {
          const create = rowOf('intent', { action: 'create' });
          await behind.edit('intent', create, { action: 'destroy', object_ids: live(), key_id: data.live.id });
          return String(create['id']);
        }],
        ['put in', async () => {
          const real = rowOf('intent', { action: 'destroy' });
          await behind.insert('intent', { ...real, id: 'forged', slot: null, key_id: data.live.id, object_ids: live() });
          return 'forged';
        }],
      ];
      it.each(forgeries)('%s is never listed, and cannot be carried out', async (_name, forge) => {
        const id = await forge();
        const objects = await behind.rows('key_object');
        expect((await store.intents()).map((intent) => intent.id)).not.toContain(id);
        expect(texts(damage)).toEqual([`intent ${id}: seal`]);
        await expect(store.removeIntent(id, REQUEST)).rejects.toMatchObject(INTEGRITY);
        await expect(store.abortIntent(id, 0, REQUEST)).rejects.toMatchObject(INTEGRITY);
        expect(await behind.rows('key_object')).toEqual(objects);
        expect(await store.findKey(data.vaultId, data.live.id)).toEqual(data.live);
      });
    });

    it.each(columnsOf('head'))('head.%s edited: nothing is served', async (column) => {
      const types: Readonly<Record<string, ColumnType>> = TABLES.head.columns;
      await behind.edit('head', rowOf('head'), { [column]: another(column, types[column] ?? 'bytes', rowOf('head')[column] ?? null) });
      await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: 'the head of the store fails its seal' });
      await expect(store.updateKey(data.vaultId, data.other.id, 0, {}, REQUEST)).rejects.toMatchObject(INTEGRITY);
      await nothingIsServed();
    });

    it('the head deleted: nothing is served, nor is there another first one', async () => {
      await behind.remove('head', rowOf('head'));
      await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: 'the store has no head' });
      await nothingIsServed();
    });

    it('the installation deleted: it is not made again over what is there', async () => {
      await behind.remove('installation', rowOf('installation'));
      await expect(make.installed(new StatementStore(ground.engine, 'boot'))).rejects.toMatchObject(INTEGRITY);
      expect(await behind.rows('head')).toEqual(rowsOf('head'));
    });

    it('an old head put back over the newer journal', async () => {
      await behind.edit('head', rowOf('head'), data.earlier['head']![0]!);
      await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: 'the journal does not end where the head says' });
      await expect(store.updateKey(data.vaultId, data.other.id, 0, {}, REQUEST)).rejects.toMatchObject(INTEGRITY);
      await nothingIsServed('rolled back');
    });

    it('the whole store rolled back: seen by who knew more', async () => {
      const witness = store.head();
      await behind.restore(data.earlier);
      // To a process without memory it is sound: anchor and audit have to tell it.
      const fresh = await started();
      expect(await fresh.examine(witness)).toBe('rolled-back');
      await nothingIsServed('rolled back');
      expect(await fresh.examine(fresh.head())).toBe('consistent');
    });

    it('the whole store rolled back and gone on with: forked', async () => {
      const witness = store.head();
      await behind.restore(data.earlier);
      const fresh = await started();
      while (fresh.head().seq < witness.seq + 2) await make.created(fresh, data.vaultId);
      expect(await fresh.examine(witness)).toBe('forked');
      await nothingIsServed('forked');
    });

    async function nothingIsServed(reason = ''): Promise<void> {
      await expect(store.pollHead()).rejects.toMatchObject({ ...INTEGRITY, message: expect.stringContaining(reason) });
      await expect(store.findKey(data.vaultId, data.other.id)).rejects.toMatchObject(INTEGRITY);
      await expect(store.assignments(PRINCIPAL)).rejects.toMatchObject(INTEGRITY);
      await expect(store.beginCreate(make.announcement(make.newKey(data.vaultId)), REQUEST)).rejects.toMatchObject(INTEGRITY);
      expect(() => store.changeCounter()).toThrow(expect.objectContaining(INTEGRITY));
    }

    const JOURNAL: Readonly<Record<string, ColumnType>> = {
      seq: 'int', epoch: 'int', at_ms: 'time', tbl: 'text', pk: 'text', revision: 'int', row_seal: 'bytes', stream: 'text',
      request_id: 'text', canonical: 'text', prev: 'bytes', mac: 'bytes',
    };
    const entries = async () => (await behind.rows('journal')).sort((left, right) => Number(left['seq']) - Number(right['seq']));
    const places = [['newest', true], ['early', false]] as const;
    /** Each of the chain is of a kind of its own. */
    const chain = ['seq', 'prev', 'mac'];
    const links = someColumns(Object.keys(JOURNAL), (column) => (chain.includes(column) ? column : JOURNAL[column]));
    const edits = places.flatMap(([place, atEnd]) => links.map((column) => [place, column, atEnd] as const));

    it('every column of the journal is known here', async () => {
      expect(Object.keys((await entries())[0]!).sort()).toEqual([...Object.keys(JOURNAL), 'recorded'].sort());
    });

    it.each(edits)('the %s journal entry: %s edited', async (_place, column, atEnd) => {
      const all = await entries();
      const entry = atEnd ? all.at(-1)! : all[4]!;
      const value = column === 'seq' ? 100_000 : another(column, JOURNAL[column]!, entry[column] ?? null);
      await behind.edit('journal', entry, { [column]: value });
      // An entry that now stands behind the newest is seen at once.
      await chainBroken(Number(entry['seq']), atEnd || column === 'seq');
    });

    it.each(places)('the %s journal entry removed', async (_place, atEnd) => {
      const all = await entries();
      const entry = atEnd ? all.at(-1)! : all[4]!;
      await behind.remove('journal', entry);
      await chainBroken(Number(entry['seq']), atEnd);
    });

    it.each(places)('the %s journal entry exchanged with the one before', async (_place, atEnd) => {
      const all = await entries();
      const [one, two] = atEnd ? all.slice(-2) : all.slice(3, 5);
      await behind.remove('journal', one!, two!);
      await behind.insert('journal', { ...one!, seq: two!['seq']! }, { ...two!, seq: one!['seq']! });
      await chainBroken(Number(one!['seq']), atEnd);
    });

    it('an entry put in after the newest', async () => {
      const last = (await entries()).at(-1)!;
      await behind.insert('journal', { ...last, seq: Number(last['seq']) + 1 });
      await expect(started()).rejects.toMatchObject(INTEGRITY);
      await expect(store.updateKey(data.vaultId, data.other.id, 0, {}, REQUEST)).rejects.toMatchObject({ code: 'conflict' });
    });

    async function chainBroken(seq: number, atStart: boolean): Promise<void> {
      const answers = await ask(store, behind, data.contents);
      expect(believed(answers, pristine)).toEqual([]);
      if (atStart) await expect(started()).rejects.toMatchObject({ ...INTEGRITY, message: expect.stringContaining('journal') });
      else await started();
      await compared(store);
      expect(texts(damage)).toContain(`journal ${seq}: chain`);
    }

    it.each(columnsOf('process'))('process.%s edited: the row is left out, and reported', async (column) => {
      const types: Readonly<Record<string, ColumnType>> = TABLES.process.columns;
      const row = rowOf('process', { boot_id: 'boot' });
      const value = column === 'state' ? 'closed' : another(column, types[column] ?? 'bytes', row[column] ?? null);
      await behind.edit('process', row, { [column]: value });
      expect((await store.processes()).map(({ bootId }) => bootId)).toEqual(['earlier']);
      expect(texts(damage)).toEqual([`process ${column === 'boot_id' ? String(value) : 'boot'}: seal`]);
      const stream = { seq: 1, head: '', checkpoint: '' };
      const settle = store.settleStream('boot', 'adopted', stream);
      if (column === 'boot_id') expect(await settle).toBe(false);
      else await expect(settle).rejects.toMatchObject(INTEGRITY);
    });
  });
}
