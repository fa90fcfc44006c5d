/**
 * What somebody who can write to the database, the audit files or the token can try, on real installations with either
 * database; how it is detected, what is refused, what the audit says, and which place it names. Prints the table.
 */

import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type ColumnType, keyText, TABLES } from '../../src/store/sealed-tables.ts';
import { keyColumns, type Contents, type Row } from '../store/behind.ts';
import { another } from '../store/another.ts';
import { rows } from '../support/form.ts';
import { dropDatabase, query } from '../support/postgres.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { eventually } from '../support/wait.ts';
import { type Database, Field } from './field.ts';

const LIMIT_MS = 400_000;

interface Result {
  readonly attack: string;
  readonly database: Database;
  readonly detectedBy: string;
  readonly refused: string;
  readonly auditedAs: string;
  readonly place: string;
}
const RESULTS: Result[] = [];

afterAll(() => {
  const columns = ['attack', 'database', 'detectedBy', 'refused', 'auditedAs', 'place'] as const;
  const lines = [{ attack: 'attack', database: 'database', detectedBy: 'detected by', refused: 'refused', auditedAs: 'audited as', place: 'place named' }, ...RESULTS]
    .map((row) => columns.map((column) => row[column]).join(' | '));
  process.stderr.write(`\nAttacks on store, token and audit\n${lines.join('\n')}\n`);
});

const PARTS = ['key', 'key_version', 'key_object'] as const;
type Part = (typeof PARTS)[number];
/** Of the columns, with the first of each key and the seal in both forms. */
const EDITED_STEP = 3;
const EDITS = PARTS.flatMap((table) => columnsOf(table).map((column) => ({ table, column })));
const NAMED = ['spare', 'swapped', 'swappedToo', 'deleted', 'versionless', 'objectless', 'moved', 'movedTo', 'copied', 'off', 'gone'] as const;

function columnsOf(table: keyof typeof TABLES): readonly string[] {
  return rows([...Object.keys(TABLES[table].columns), 'seal'], EDITED_STEP);
}

describe.each<Database>(['SQLite', 'PostgreSQL'])('attacks on an installation with %s', (database) => {
  let field: Field;
  let vaultId: string;
  let earlier: Contents;
  let edited: readonly string[];
  let named: Readonly<Record<(typeof NAMED)[number], string>>;

  const note = (row: Omit<Result, 'database'>): void => { RESULTS.push({ database, ...row }); };

  beforeAll(async () => {
    field = await Field.make(database);
    vaultId = field.kms.admin.okmsId;
    field.start();
    await field.ready();
    const ids: string[] = [];
    while (ids.length < EDITS.length + NAMED.length) ids.push(...(await Promise.all(Array.from({ length: 6 }, create))));
    edited = ids.slice(0, EDITS.length);
    named = Object.fromEntries(NAMED.map((name, n) => [name, ids[EDITS.length + n]])) as typeof named;
    await field.stop();
    earlier = await field.behind.contents();
    field.saveAudit('audit.earlier');

    field.start();
    await field.ready();
    expect((await field.client.post(`/servicekey/${named.off}/deactivate`, { reason: 'superseded' })).status).toBeLessThan(300);
    expect((await field.client.post(`/servicekey/${named.gone}/deactivate`, { reason: 'superseded' })).status).toBeLessThan(300);
    expect((await field.client.call('DELETE', `/servicekey/${named.gone}`)).status).toBe(204);
    await field.stop();
    await field.remember();
  }, LIMIT_MS);
  afterEach(() => field.putBack(), LIMIT_MS);
  afterAll(() => field.remove(), LIMIT_MS);

  /** A busy machine may answer 503 and ask for patience; never because of an integrity failure. */
  async function create(): Promise<string> {
    for (let attempt = 1; ; attempt += 1) {
      const { status, json, text } = await field.client.post('/servicekey', { name: 'k', type: 'oct', size: 256, operations: ['encrypt', 'decrypt'] });
      if (status === 201) return json.id as string;
      process.stderr.write(`creation refused: ${status} ${text}\n`);
      expect([status, json.error_id]).not.toEqual([503, 'integrity']);
      if (status !== 503 || attempt === 20) throw new Error(`no key was made: ${status} ${text}`);
    }
  }

  const rowOf = (table: string, columns: Row = {}): Row =>
    field.contents[table]!.find((row) => Object.entries(columns).every(([column, value]) => row[column] === value))!;
  const partOf = (table: Part, id: string): Row => rowOf(table, table === 'key' ? { id } : { key_id: id });

  /** What clients are told about a key: the same by its metadata and by its use. */
  async function answerFor(id: string): Promise<string> {
    const seen = await field.client.get(`/servicekey/${id}`);
    const used = await field.client.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' });
    const text = (answer: typeof seen): string => (answer.status === 200 ? '200' : `${answer.status} ${answer.json.error_id}`);
    return text(seen) === text(used) ? text(seen) : `${text(seen)}, ${text(used)}`;
  }

  /** Applies the change, waits until a row like this is recorded, and notes the attack on a key. */
  async function keyRefused(attack: string, id: string, table: Part, pk: string, reason: string): Promise<void> {
    const refused = await answerFor(id);
    expect([attack, refused]).toEqual([attack, '503 integrity']);
    const { event, result } = await field.recorded(({ reason: why, detail }) =>
      why === reason && detail?.['table'] === table && detail['row'] === pk);
    expect(result).toBe('failed');
    note({ attack, detectedBy: reason, refused: `key: ${refused}`, auditedAs: event, place: `${table} ${place(pk)}` });
  }

  /** Ids are random: the table shows which part of the key they name. */
  const place = (pk: string): string => pk.split('/').map((part) => (part.length > 12 ? `${part.slice(0, 8)}…` : part)).join('/');

  test('rows of keys: edited, swapped, deleted, put in, moved; one start', async () => {
    const { behind } = field;
    const pks: string[] = [];
    for (const [n, { table, column }] of EDITS.entries()) {
      const row = partOf(table, edited[n]!);
      const types: Readonly<Record<string, ColumnType>> = TABLES[table].columns;
      const value = another(column, types[column] ?? 'bytes', row[column] ?? null, n);
      await behind.edit(table, row, { [column]: value });
      pks.push(keyText(table, { ...row, [column]: value }));
    }
    const [one, two] = [partOf('key', named.swapped), partOf('key', named.swappedToo)];
    await behind.remove('key', one, two);
    await behind.insert('key', { ...two, id: one['id']! }, { ...one, id: two['id']! });
    await behind.remove('key', partOf('key', named.deleted));
    await behind.remove('key_version', partOf('key_version', named.versionless));
    await behind.remove('key_object', partOf('key_object', named.objectless));
    const object = partOf('key_object', named.moved);
    await behind.edit('key_object', object, { key_id: named.movedTo });
    await behind.edit('key', partOf('key', named.off), earlier['key']!.find(({ id }) => id === named.off)!);
    await behind.insert('key', { ...partOf('key', named.copied), id: 'f0f0f0f0-0000-4000-8000-000000000000', live_name: 'forged', ordinal: 100_000 });
    const objectIds = field.contents['key_object']!.filter((row) => row['key_id'] === named.spare).map((row) => row['object_id']);
    await behind.insert('intent', {
      id: 'forged', action: 'destroy', state: 'announced', slot: null, vault_id: vaultId, key_id: named.spare, object_ids: JSON.stringify(objectIds),
      boot_id: 'gone', created_ms: 1, seq: 1, epoch: 1, revision: 0, seal: rowOf('key')['seal']!,
    });
    await behind.insert('assignment', { ...rowOf('assignment'), id: 'forged', subject: 'intruder' });
    await behind.insert('credential', { ...rowOf('credential'), serial: 'f0f0', subject: 'intruder' });
    field.start();
    await field.ready();

    for (const [n, { table, column }] of EDITS.entries()) {
      const isKey = keyColumns(table).includes(column) && table === 'key';
      const attack = `${table}.${column} edited`;
      const row = partOf(table, edited[n]!);
      // Who moves the row leaves a hole: that is what the key's callers meet.
      if (isKey) await keyRefused(attack, edited[n]!, table, keyText(table, row), 'removed');
      else await keyRefused(attack, edited[n]!, table, pks[n]!, 'seal');
    }
    await keyRefused('two keys swapped, with their seals', named.swapped, 'key', `${vaultId}/${named.swapped}`, 'seal');
    await keyRefused('two keys swapped, with their seals', named.swappedToo, 'key', `${vaultId}/${named.swappedToo}`, 'seal');
    await keyRefused('key row deleted', named.deleted, 'key', `${vaultId}/${named.deleted}`, 'removed');
    await keyRefused('version row deleted', named.versionless, 'key_version', `${vaultId}/${named.versionless}/0`, 'removed');
    await keyRefused('object row deleted', named.objectless, 'key', `${vaultId}/${named.objectless}`, 'parts');
    await keyRefused('object moved to another key', named.moved, 'key', `${vaultId}/${named.moved}`, 'parts');
    await keyRefused('object moved to another key', named.movedTo, 'key_object', keyText('key_object', object), 'seal');
    await keyRefused('old state of a key put back', named.off, 'key', `${vaultId}/${named.off}`, 'superseded');
    await keyRefused('key row put in (copied)', 'f0f0f0f0-0000-4000-8000-000000000000', 'key', `${vaultId}/f0f0f0f0-0000-4000-8000-000000000000`, 'seal');
    for (const table of ['intent', 'assignment', 'credential'] as const) {
      const { event, detail } = await field.recorded((record) => record.reason === 'seal' && record.detail?.['table'] === table);
      const attack = table === 'intent' ? 'destroy intent forged, naming a living key' : `${table} row put in (copied)`;
      note({ attack, detectedBy: 'seal', refused: 'the row', auditedAs: event, place: `${table} ${place(String(detail?.['row']))}` });
    }
    // What nobody touched works, and the forged intent destroyed nothing.
    expect(await answerFor(named.spare)).toBe('200');
    expect(await answerFor(named.copied)).toBe('200');
    expect((await field.client.get(`/servicekey/${named.gone}`)).status).toBe(404);
    const listed = (await field.client.get('/servicekey?state=all&max=100')).json;
    const ids = new Set((listed.objects_list as { id: string }[]).map(({ id }) => id));
    expect(edited.filter((id) => ids.has(id))).toEqual([]);
    expect(ids.has(named.spare)).toBe(true);
    expect((await field.readiness())?.status).toBe(200);
  }, LIMIT_MS);

  test('rows that say who may do what, edited while it runs', async () => {
    field.start();
    await field.ready();
    const list = async (): Promise<string> => {
      // A foreign edit is announced to nobody; what is cached is true, and goes with the next change.
      if (field.url !== undefined) await query(field.url, `select pg_notify('kms_head', '${++heard} test')`);
      const { status, json } = await field.client.get('/servicekey');
      return status === 200 ? '200' : `${status} ${json.error_id}`;
    };
    let heard = 1_000_000;
    for (const table of ['credential', 'assignment', 'vault'] as const) {
      const row = table === 'vault' ? rowOf('vault', { id: vaultId }) : rowOf(table);
      const types: Readonly<Record<string, ColumnType>> = TABLES[table].columns;
      for (const column of columnsOf(table)) {
        const value = another(column, types[column] ?? 'bytes', row[column] ?? null);
        await field.behind.edit(table, row, { [column]: value });
        const attack = `${table}.${column} edited`;
        // An assignment is found by these: under its new name nobody looks for it, and the old principal has lost it.
        const lost = table === 'assignment' && ['method', 'issuer', 'subject'].includes(column);
        let refused = '200';
        await eventually(attack, async () => (refused = await list()) !== '200');
        expect([attack, refused]).toEqual([attack, lost ? '403 forbidden' : '503 integrity']);
        await field.behind.edit(table, { ...row, [column]: value }, row);
        await eventually(`${attack}, and back`, async () => (await list()) === '200');
        if (lost) continue;
        const moved = keyColumns(table).includes(column);
        const { event } = await field.recorded(({ reason, detail }) => detail?.['table'] === table && (moved || reason === 'seal'));
        note({ attack, detectedBy: moved ? 'removed' : 'seal', refused: `caller: ${refused}`, auditedAs: event, place: `${table} ${place(keyText(table, row))}` });
      }
    }
  }, LIMIT_MS);

  /** The reason that readiness gives, the same for callers, in the audit, and with the place. */
  async function installationRefused(attack: string, detectedBy: string, reason: RegExp): Promise<void> {
    let said = '';
    await eventually(`${attack}: refused`, async () => {
      const answer = await field.readiness();
      said = String(answer?.json.checks.store);
      return answer?.status === 503 && reason.test(said);
    }).catch(() => undefined);
    expect([attack, said]).toEqual([attack, expect.stringMatching(reason)]);
    const refused = await answerFor(named.spare);
    expect([attack, refused]).toEqual([attack, '503 integrity']);
    const { event } = await field.recorded(({ detail }) => reason.test(String(detail?.['place'] ?? '')));
    note({ attack, detectedBy, refused: `all: ${refused}, not ready`, auditedAs: event, place: said.replace(/; see .*/, '') });
  }

  test('what is verified before anything is served: head, installation, journal, roll-back, anchor', async () => {
    const { behind } = field;
    await behind.edit('installation', rowOf('installation'), { kind: 'prod' });
    field.start();
    await installationRefused('installation.kind edited', 'seal, at start', /^installation 1: .*\(seal\)/);
    const next = async (attack: string, detectedBy: string, reason: RegExp, apply: () => Promise<void>): Promise<void> => {
      await apply();
      await installationRefused(attack, detectedBy, reason);
    };
    /** In one step, or the process would find the store as it was and serve it. */
    const instead = async (over: Contents): Promise<void> => behind.restore({ ...field.contents, ...over });
    const without = (table: string, row: Row): Contents => ({ [table]: field.contents[table]!.filter((other) => other !== row) });
    const having = (table: string, row: Row, columns: Row): Contents =>
      ({ [table]: field.contents[table]!.map((other) => (other === row ? { ...row, ...columns } : other)) });
    const canary = rowOf('internal_key', { name: 'canary' });
    const newest = [...field.contents['journal']!].sort((left, right) => Number(right['seq']) - Number(left['seq']))[0]!;
    const head = rowOf('head');
    await next('internal_key.object_id edited', 'seal, at start', /^internal_key canary: .*\(seal\)/, () => instead(having('internal_key', canary, { object_id: '00' })));
    await next('internal_key row deleted', 'removed, at start', /^internal_key canary: .*\(removed\)/, () => instead(without('internal_key', canary)));
    await next('head deleted', 'head, at start', /^the store has no head/, () => instead(without('head', head)));
    await next('head.seq edited', 'seal, at start', /^the head of the store fails its seal/, () =>
      instead(having('head', head, { seq: Number(head['seq']) - 1 })));
    await next('newest journal entry edited', 'chain, at start', new RegExp(`^the journal was altered at entry ${Number(newest['seq'])}`), () =>
      instead(having('journal', newest, { canonical: '{}' })));
    await next('newest journal entry removed', 'chain, at start', /^the journal does not end where the head says/, () => instead(without('journal', newest)));
    await next('database rolled back while stopped', 'anchor', /^the store was rolled back: it ends at \d+, the token saw \d+/, () => instead(earlier));
    await behind.edit('head', rowOfNow(await behind.rows('head')), { status: 'moved' });
    await installationRefused('old head edited', 'seal, at start', /^the head of the store fails its seal/);
    removeAnchors();
    await next('anchor removed', 'anchor', /^the token holds no anchor of this installation/, () => instead({}));
  }, LIMIT_MS);

  const rowOfNow = ([first]: readonly Row[]): Row => first!;
  let anchors: { value: Buffer; label: Buffer; application: Buffer }[] = [];
  afterEach(() => putAnchorsBack());

  function removeAnchors(): void {
    const { module: ck } = { module: CKA };
    TokenViewer.look(field.kms.home, (viewer) => {
      viewer.login(field.kms.home);
      const { module, session } = viewer;
      module.C_FindObjectsInit(session, [{ type: ck.CLASS, value: ck.DATA }]);
      const handles = module.C_FindObjects(session, 100);
      module.C_FindObjectsFinal(session);
      anchors = handles.map((handle) => ({
        value: viewer.raw(handle, ck.VALUE), label: viewer.raw(handle, ck.LABEL), application: viewer.raw(handle, ck.APPLICATION),
      }));
      expect(anchors.map(({ application }) => application.toString())).toContain(`kms:${String(rowOf('installation')['id'])}`);
      for (const handle of handles) module.C_DestroyObject(session, handle);
    });
  }

  function putAnchorsBack(): void {
    if (anchors.length === 0) return;
    TokenViewer.look(field.kms.home, (viewer) => {
      viewer.login(field.kms.home);
      for (const { value, label, application } of anchors) {
        viewer.module.C_CreateObject(viewer.session, [
          { type: CKA.CLASS, value: CKA.DATA }, { type: CKA.TOKEN, value: true }, { type: CKA.PRIVATE, value: true },
          { type: CKA.MODIFIABLE, value: false }, { type: CKA.LABEL, value: label }, { type: CKA.APPLICATION, value: application },
          { type: CKA.VALUE, value },
        ]);
      }
    });
    anchors = [];
  }

  test('an early journal entry edited: the full comparison finds it', async () => {
    const entry = rowOf('journal', { seq: 20 });
    await field.behind.edit('journal', entry, { request_id: 'another' });
    field.start();
    await installationRefused('early journal entry edited', 'full comparison', /^the journal was altered at entry 20/);
  }, LIMIT_MS);

  test('the database rolled back while the server runs', async () => {
    field.start();
    await field.ready();
    expect(await answerFor(named.spare)).toBe('200');
    await field.behind.restore(earlier);
    await installationRefused('database rolled back while it runs', 'head', /^the store was rolled back while it ran/);
    await field.behind.restore(field.contents);
    expect(await answerFor(named.spare)).toBe('503 integrity');
  }, LIMIT_MS);

  test('database and audit rolled back together', async () => {
    await field.behind.restore(earlier);
    field.putAuditBack('audit.earlier');
    expect(await field.verifyAudit()).toMatchObject({ exit: 0 });
    field.start();
    await installationRefused('database and audit rolled back together', 'anchor', /^the store was rolled back: it ends at \d+, the token saw \d+/);
  }, LIMIT_MS);

  test('a copy of the database on the same token', async () => {
    if (field.url === undefined) {
      const identity = join(field.kms.home, 'kms.db.id');
      const own = readFileSync(identity, 'utf8');
      writeFileSync(identity, 'sqlite:7f1c7a4e-8f5c-4d4f-9f34-8f1a2b3c4d5e\n');
      field.start();
      await installationRefused('copy of the database started', 'store id', /^this database is a copy/);
      await field.stop();
      writeFileSync(identity, own);
      return;
    }
    const [name, copy] = [new URL(field.url).pathname.slice(1), new URL(field.url)];
    copy.pathname = `/${name}_copy`;
    const server = new URL(field.url);
    server.pathname = '/postgres';
    await field.release();
    await query(server.href, `create database "${name}_copy" template "${name}"`);
    field.start({ KMS_STORE_URL: copy.href });
    await installationRefused('copy of the database started', 'store id', /^this database is a copy/);
    await field.stop();
    field.reach();
    await dropDatabase(copy.href);
  }, LIMIT_MS);

  describe('the audit', () => {
    /** Segments by the number of their records, the fullest first. */
    const segments = (): readonly string[] => {
      const root = join(field.kms.home, 'audit');
      const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.jsonl')).map((name) => join(root, name));
      return files.sort((left, right) => readFileSync(right).length - readFileSync(left).length);
    };
    const linesOf = (file: string): string[] => readFileSync(file, 'latin1').split('\n').filter((line) => line !== '');
    const write = (file: string, lines: readonly string[]): void => { writeFileSync(file, lines.map((line) => `${line}\n`).join(''), 'latin1'); };
    const boot = (file: string): string => file.split('/').at(-2)!;

    const attacks: readonly (readonly [string, (lines: string[]) => string[], RegExp])[] = [
      ['one byte edited', (lines) => lines.map((line, n) => (n === 5 ? line.replace('"success"', '"succesz"').replace('"failed"', '"faileX"') : line)), /BAD at 000001\.jsonl line 6: /],
      ['last checkpointed record dropped', (lines) => lines.slice(0, -1), /BAD at 000001\.jsonl line \d+: /],
      ['a middle record dropped', (lines) => lines.filter((_, n) => n !== 10), /BAD at 000001\.jsonl line 11: /],
      ['records reordered', (lines) => [...lines.slice(0, 10), lines[11]!, lines[10]!, ...lines.slice(12)], /BAD at 000001\.jsonl line 11: /],
      ['a record forged in place', (lines) => lines.map((line, n) => (n === 10 ? line.replace(/"mono":\d+/, '"mono":1') : line)), /BAD at 000001\.jsonl line 1[12]: /],
      ['a record forged at the end', (lines) => [...lines, lines.at(-1)!.replace(/"seq":\d+/, `"seq":${lines.length}`)], /BAD at 000001\.jsonl line \d+: /],
    ];
    // The files are the same with either database.
    test.each(rows(attacks, database === 'SQLite' ? 2 : 5))('%s', async (attack, change, where) => {
      expect(await field.verifyAudit()).toMatchObject({ exit: 0 });
      const [file] = segments();
      const lines = linesOf(file!);
      expect(lines.length).toBeGreaterThan(20);
      const changed = change(lines);
      expect(changed).not.toEqual(lines);
      write(file!, changed);
      await notIntact(`audit: ${attack}`, boot(file!), where);
    }, LIMIT_MS);

    test('a whole stream removed', async () => {
      const [file] = segments();
      rmSync(join(file!, '..'), { recursive: true });
      await notIntact('audit: a whole stream removed', boot(file!), /MISSING, and named by others/);
    }, LIMIT_MS);

    async function notIntact(attack: string, stream: string, where: RegExp): Promise<void> {
      const { exit, text } = await field.verifyAudit();
      const line = text.split('\n').find((of) => of.includes(stream)) ?? '';
      expect([attack, exit, line]).toEqual([attack, 6, expect.stringMatching(where)]);
      note({ attack, detectedBy: 'kms audit verify', refused: `exit ${exit}`, auditedAs: '-', place: line.replaceAll(/[0-9a-f]{12,}/g, (id) => `${id.slice(0, 6)}…`) });
    }
  });
});

/** PKCS#11 v2.40 §A. */
const CKA = { CLASS: 0, TOKEN: 1, PRIVATE: 2, LABEL: 3, APPLICATION: 0x10, VALUE: 0x11, MODIFIABLE: 0x170, DATA: 0 } as const;
