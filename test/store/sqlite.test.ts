/** The SQLite store: the contract, then what is its own: rows kept, waiting for locks, opening. */

import { spawnSync } from 'node:child_process';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import Database from 'better-sqlite3';
import { migrateSqlite, openSqliteStore } from '../../src/store/sqlite.ts';
import { storeContract } from '../contract/store-contract.ts';
import * as make from './fixtures.ts';
import { behindTheStore, openTwo, temporaryDirectory, type SqliteStores } from './sqlite-files.ts';

storeContract('SQLite', openTwo);

const { REQUEST } = make;
const UNAVAILABLE = { code: 'store-unavailable' };

describe('SQLite rows', () => {
  let stores: SqliteStores;
  beforeEach(async () => {
    stores = await openTwo();
  });
  afterEach(() => stores.dispose());

  it('of a tombstone: versions stay, objects and counters go with the destroy intent', async () => {
    const { a, path } = stores;
    const { id } = await make.installed(a);
    const [key, other] = [await make.created(a, id), await make.created(a, id)];
    const [objectId] = make.objectIds(key.versions[0]!);
    await a.reserveInvocations(objectId!, 5, 10);
    const count = () =>
      behindTheStore(path, async (db) => ({
        versions: (await db.selectFrom('key_version').select('id').where('key_id', '=', key.id).execute()).length,
        objects: (await db.selectFrom('key_object').select('family').where('key_id', '=', key.id).execute()).length,
        counters: (await db.selectFrom('invocation_counter').select('reserved').execute()).length,
      }));
    const intent = await make.destroyed(a, key);
    expect(await count()).toEqual({ versions: 1, objects: 2, counters: 1 });
    await a.removeIntent(intent.id, REQUEST);
    expect(await count()).toEqual({ versions: 1, objects: 0, counters: 0 });
    expect(await a.findKey(id, other.id)).toEqual(other);
  });

  it('with a damaged list are refused as integrity', async () => {
    const { a, path } = stores;
    const { id } = await make.installed(a);
    const key = await make.created(a, id);
    for (const usages of ['', '[1]', '{}', '["sign"']) {
      await behindTheStore(path, (db) => db.updateTable('key').set({ usages }).execute());
      await expect(a.findKey(id, key.id)).rejects.toMatchObject({ code: 'integrity' });
    }
  });

  it('lie in files that only the owner may read', async () => {
    await make.installed(stores.a);
    const names = await readdir(dirname(stores.path));
    expect(names.sort()).toEqual(['kms.db', 'kms.db-shm', 'kms.db-wal', 'kms.db.id']);
    for (const name of names) {
      expect((await stat(join(dirname(stores.path), name))).mode & 0o777).toBe(0o600);
    }
  });
});

describe('a locked SQLite database', () => {
  it('is waited for without holding up the event loop or readers, then is store-unavailable, then serves again', async () => {
    const { a, b, path, dispose } = await openTwo();
    const { id } = await make.installed(a, b);
    const key = await make.created(a, id);
    const other = new Database(path);
    other.exec('begin immediate');

    const started = performance.now();
    const writers = Promise.allSettled([0, 1, 2].map((n) => a.updateKey(id, key.id, 0, { label: String(n) }, REQUEST)));
    let [turns, ended] = [0, false];
    const timer = setInterval(() => turns++, 10);
    void writers.then(() => { ended = true; });
    expect(await a.findKey(id, key.id)).toEqual(key);
    expect(await b.findKey(id, key.id)).toEqual(key);
    expect(ended).toBe(false);
    for (const outcome of await writers) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { ...UNAVAILABLE, retryAfter: 1 } });
      expect(outcome).toHaveProperty('reason.cause.code', 'SQLITE_BUSY');
    }
    const waited = performance.now() - started;
    clearInterval(timer);
    expect(waited).toBeGreaterThan(4_900);
    // Three that wait one after the other would take three times as long, and held up, the loop turned hardly ever.
    expect(waited).toBeLessThan(14_000);
    expect(turns).toBeGreaterThan(20);

    other.exec('rollback');
    other.close();
    expect(await a.updateKey(id, key.id, 0, { label: 'free' }, REQUEST)).toMatchObject({ label: 'free' });
    await dispose();
  });

  it('serves as soon as the lock is released', async () => {
    const { a, path, dispose } = await openTwo();
    const { id } = await make.installed(a);
    const key = await make.created(a, id);
    const other = new Database(path);
    other.exec('begin immediate');
    setTimeout(() => other.exec('rollback'), 300);
    expect(await a.updateKey(id, key.id, 0, {}, REQUEST)).toMatchObject({ revision: 1 });
    other.close();
    await dispose();
  });
});

describe('opening SQLite', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let path: string;
  beforeEach(async () => {
    directory = await temporaryDirectory();
    path = join(directory.path, 'kms.db');
  });
  afterEach(() => directory.remove());

  it('creates nothing', async () => {
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject({ ...UNAVAILABLE, message: expect.stringContaining(path) });
    expect(await readdir(directory.path)).toEqual([]);
  });

  it('refuses an older schema', async () => {
    await writeFile(path, '');
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject({ ...UNAVAILABLE, message: expect.stringContaining('older') });
    await migrateSqlite(path);
    await behindTheStore(path, (db) => db.deleteFrom('kysely_migration').execute());
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject({ ...UNAVAILABLE, message: expect.stringContaining('older') });
  });

  it('and migrating refuse a newer schema', async () => {
    await migrateSqlite(path);
    const later = { name: '9999-later', timestamp: '2999-01-01T00:00:00.000Z' };
    await behindTheStore(path, (db) => db.insertInto('kysely_migration').values(later).execute());
    const refusal = { ...UNAVAILABLE, message: expect.stringContaining('newer') };
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject(refusal);
    await expect(migrateSqlite(path)).rejects.toMatchObject(refusal);
  });

  it('refuses what is not a database, and a damaged one', async () => {
    await writeFile(path, 'x'.repeat(8_192));
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject(UNAVAILABLE);
    await expect(migrateSqlite(path)).rejects.toMatchObject(UNAVAILABLE);
    await expect(migrateSqlite(directory.path)).rejects.toMatchObject(UNAVAILABLE);
    await expect(migrateSqlite(join(directory.path, 'missing', 'kms.db'))).rejects.toMatchObject(UNAVAILABLE);
    await writeFile(path, '');
    await migrateSqlite(path);
    const { size } = await stat(path);
    await writeFile(path, Buffer.alloc(size - 4_096, 'x'), { flag: 'r+' });
    await expect(openSqliteStore(path, 'boot')).rejects.toMatchObject(UNAVAILABLE);
  });

  it('works again and again, two migrations at a time; rows stay', async () => {
    await Promise.all([migrateSqlite(path), migrateSqlite(path)]);
    const first = await openSqliteStore(path, 'boot');
    const { id } = await make.installed(first);
    await first.close();
    await migrateSqlite(path);
    const second = await openSqliteStore(path, 'boot');
    await second.unlock(make.MACS);
    expect(await second.vaults()).toMatchObject([{ id }]);
    await second.close();
    expect((await readdir(directory.path)).sort()).toEqual(['kms.db', 'kms.db.id']);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it('gives the file to its owner alone, whatever the umask', async () => {
    const built = new URL('../../build/modules/store/sqlite.js', import.meta.url).href;
    const code = `process.umask(0); const { migrateSqlite } = await import('${built}'); await migrateSqlite(process.argv[1]);`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', code, path], { encoding: 'utf8' });
    expect(child).toMatchObject({ status: 0, stderr: '' });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });
});
