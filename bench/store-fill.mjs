/**
 * Fills a store with living keys and tombstones: real sealed rows with their journal and head, as the store would have
 * written them, in large transactions and past the statements, which take one key each. Living keys lie evenly among
 * the tombstones, so that whatever walks over tombstones shows.
 */

import { randomBytes, randomUUID } from 'node:crypto';
import { TABLES } from '../build/modules/store/sealed-tables.js';
import { canonicalRow, journalMac, partsOf, sealOf } from '../build/modules/store/seal.js';

const KEYS_AT_ONCE = 5000;
const PG_TYPES = { text: 'text', 'json-list': 'text', 'json-set': 'text', bytes: 'bytea', int: 'bigint', flag: 'bigint', time: 'bigint' };

const COLUMNS = Object.fromEntries(['key', 'key_version', 'key_object'].map((table) => [
  table,
  [...Object.entries(TABLES[table].columns).map(([name, type]) => ({ name, type: PG_TYPES[type] })), { name: 'seal', type: 'bytea' }],
]));
const JOURNAL = Object.entries({
  seq: 'bigint', epoch: 'bigint', at_ms: 'bigint', tbl: 'text', pk: 'text', revision: 'bigint', row_seal: 'bytea', stream: 'text',
  request_id: 'text', canonical: 'text', prev: 'bytea', mac: 'bytea', recorded: 'bigint',
}).map(([name, type]) => ({ name, type }));

/** @param wanted { living, tombstones } to be added @param template rows of a key that the service made */
export async function fill(database, macs, template, wanted) {
  const total = wanted.living + wanted.tombstones;
  for (let from = 0; from < total; from += KEYS_AT_ONCE) {
    await database.run('begin');
    const [head] = await database.all('select * from head');
    const batch = new Batch(macs, head);
    const [{ last }] = await database.all('select max(ordinal) as last from "key"');
    const to = Math.min(total, from + KEYS_AT_ONCE);
    for (let n = from; n < to; n += 1) {
      const lives = Math.floor(((n + 1) * wanted.living) / total) > Math.floor((n * wanted.living) / total);
      batch.add(template, last + 1 + n - from, lives);
    }
    await batch.write(database);
    await database.run('commit');
    if (from % 100_000 === 0) process.stderr.write(`${new Date().toTimeString().slice(0, 8)} ${from} of ${total} keys\n`);
  }
  await database.settle();
}

class Batch {
  #macs;
  #head;
  #rows = { key: [], key_version: [], key_object: [] };
  #entries = [];
  #seq;
  #mac;
  #tombstones = 0;

  constructor(macs, head) {
    this.#macs = macs;
    this.#head = head;
    this.#seq = head.seq;
    this.#mac = head.mac;
  }

  add(template, ordinal, lives) {
    const id = randomUUID();
    const version = { ...template.version, key_id: id, id: randomBytes(16).toString('hex') };
    const seals = [this.#seal('key_version', version)];
    if (lives) {
      const object = { ...template.object, key_id: id, object_id: randomBytes(16).toString('hex') };
      seals.push(this.#seal('key_object', object));
    } else this.#tombstones += 1;
    const state = lives
      ? { live_name: `filler ${id}`, parts: partsOf(seals) }
      : { live_name: null, parts: null, state: 'destroyed', destroyed_ms: Date.now() };
    this.#seal('key', { ...template.key, id, name: `filler ${id}`, ordinal, ...state });
  }

  #seal(table, unsealed) {
    const [seq, epoch] = [this.#seq + 1, this.#head.epoch];
    const placed = { ...unsealed, seq, epoch, revision: 0 };
    const row = { ...placed, seal: sealOf(this.#macs, table, placed) };
    const entry = {
      seq, epoch, at_ms: Date.now(), tbl: table, pk: TABLES[table].key.map((name) => row[name]).join('/'), revision: 0,
      row_seal: row.seal, stream: 'bench', request_id: 'bench', canonical: canonicalRow(table, row), prev: this.#mac,
    };
    this.#mac = journalMac(this.#macs, entry);
    this.#seq = seq;
    this.#rows[table].push(COLUMNS[table].map(({ name }) => row[name]));
    const complete = { ...entry, mac: this.#mac, recorded: 1 };
    this.#entries.push(JOURNAL.map(({ name }) => complete[name]));
    return row.seal;
  }

  async write(database) {
    for (const [table, rows] of Object.entries(this.#rows)) await database.insert(table, COLUMNS[table], rows);
    await database.insert('journal', JOURNAL, this.#entries);
    const added = Object.values(this.#rows).reduce((sum, rows) => sum + rows.length, 0);
    const head = {
      ...this.#head, seq: this.#seq, mac: this.#mac,
      live_rows: this.#head.live_rows + added, tombstones: this.#head.tombstones + this.#tombstones,
    };
    await database.run('delete from head');
    const columns = [...Object.entries(TABLES.head.columns).map(([name, type]) => ({ name, type: PG_TYPES[type] })), { name: 'seal', type: 'bytea' }];
    const sealed = { ...head, seal: sealOf(this.#macs, 'head', head) };
    await database.insert('head', columns, [columns.map(({ name }) => sealed[name])]);
  }
}
