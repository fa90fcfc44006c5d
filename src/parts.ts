/** From settings to the options of the parts: what a server process and the commands have in common. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from './config.ts';
import { KmsError } from './errors.ts';
import { paths, profilePath } from './home.ts';
import { loadProfile, type Profile } from './pkcs11/token.ts';
import type { Engine } from './store/engine.ts';
import { migrateSqlite, openEngine, openSqliteStore, prepareSqlite } from './store/sqlite.ts';
import type { KeyStore } from './store/store.ts';

const REOPEN_MS = 1000;

/** Loaded where it is used: most processes have SQLite. */
const postgres = async () => import('./store/postgres.ts');

/** Opens the store of the installation; it must have the newest schema. @throws KmsError `store-unavailable` */
export async function openStore(config: Config, bootId: string): Promise<KeyStore> {
  const { url, staleMaxMs } = config.store;
  if (url === '') return openSqliteStore(paths.store(config.home), bootId);
  const { openPostgresStore } = await postgres();
  return openPostgresStore({ url, password: storePassword(config), bootId, staleMaxMs });
}

type Installed = { readonly store: KeyStore; readonly installation: NonNullable<Awaited<ReturnType<KeyStore['installation']>>> };

/**
 * `openStore`, and what the store says of its installation. A database server that is away for a while is waited for.
 *
 * @param waiting called before each pause
 * @throws KmsError `internal` when there is no installation; `store-unavailable` for another schema, and always of SQLite
 */
export async function openInstalled(config: Config, bootId: string, waiting: (error: KmsError) => void): Promise<Installed> {
  for (;;) {
    try {
      return await installed(await openStore(config, bootId), config);
    } catch (error) {
      if (config.store.url === '' || !(error instanceof KmsError) || error.code !== 'store-unavailable') throw error;
      // It did answer: the schema is another one.
      if (error.cause === undefined) throw error;
      waiting(error);
      await sleep(REOPEN_MS);
    }
  }
}

async function installed(store: KeyStore, { home }: Config): Promise<Installed> {
  try {
    const installation = await store.installation();
    if (installation === undefined) throw new KmsError('internal', `no installation in ${home}: run \`kms init --dev\`, or set KMS_HOME`);
    return { store, installation };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Brings the store to this code's schema; makes it if need be. @throws KmsError `store-unavailable` */
export async function migrateStore(config: Config): Promise<void> {
  if (config.store.url === '') await migrateSqlite(paths.store(config.home));
  else await (await postgres()).migratePostgres(config.store.url, storePassword(config));
}

/** Makes the configured database ready for a store from elsewhere. @throws KmsError `conflict` when it is not empty */
export async function prepareStore(config: Config): Promise<void> {
  if (config.store.url === '') await prepareSqlite(paths.store(config.home));
  else await (await postgres()).preparePostgres(config.store.url, storePassword(config));
}

/** The engine below `openStore`, for commands that carry whole stores. @param url in place of the configured one */
export async function openStoreEngine(config: Config, bootId: string, url = config.store.url): Promise<Engine> {
  if (url === '') return openEngine(paths.store(config.home));
  const { openPostgresCarrier } = await postgres();
  return openPostgresCarrier({ url, password: storePassword(config), bootId });
}

/** Undefined: the URL or PGPASSWORD holds it, or none is asked for. */
export function storePassword({ home, store }: Config): string | undefined {
  if (store.passwordFile === '') return undefined;
  return readFileSync(resolve(home, store.passwordFile), 'utf8').replace(/\r?\n$/, '');
}

/** The part of a token's setup that comes from the settings. */
export function tokenSetup(config: Config): { profile: Profile; pinFile: string; latchFile: string } {
  const profile = loadProfile(profilePath(config.hsm.profile), { KMS_HOME: config.home });
  return { profile, pinFile: pinFile(config), latchFile: paths.pinLatch(config.home) };
}

export function pinFile({ home, hsm }: Config): string {
  return resolve(home, hsm.pinFile);
}

export function tokenOptions({ hsm }: Config): {
  threads: number;
  batchMax: number;
  queueMax: number;
  callTimeoutMs: number;
  createTimeoutMs: number;
  lostThreadsMax: number;
} {
  const { workers: threads, batchMax, callTimeoutMs, createTimeoutMs, lostThreadsMax } = hsm;
  const queueMax = hsm.queueMax === 0 ? threads * batchMax * 4 : hsm.queueMax;
  return { threads, batchMax, queueMax, callTimeoutMs, createTimeoutMs, lostThreadsMax };
}
