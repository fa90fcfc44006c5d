/** From settings to the options of the parts: what a server process and the commands have in common. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Config } from './config.ts';
import { paths, profilePath } from './home.ts';
import { loadProfile, type Profile } from './pkcs11/token.ts';
import type { Engine } from './store/engine.ts';
import { migratePostgres, openPostgresCarrier, openPostgresStore, preparePostgres } from './store/postgres.ts';
import { migrateSqlite, openEngine, openSqliteStore, prepareSqlite } from './store/sqlite.ts';
import type { KeyStore } from './store/store.ts';

/** Opens the store of the installation; it must have the newest schema. @throws KmsError `store-unavailable` */
export async function openStore(config: Config, bootId: string): Promise<KeyStore> {
  const { url, staleMaxMs } = config.store;
  if (url === '') return openSqliteStore(paths.store(config.home), bootId);
  return openPostgresStore({ url, password: storePassword(config), bootId, staleMaxMs });
}

/** Brings the store to this code's schema; makes it if need be. @throws KmsError `store-unavailable` */
export async function migrateStore(config: Config): Promise<void> {
  if (config.store.url === '') await migrateSqlite(paths.store(config.home));
  else await migratePostgres(config.store.url, storePassword(config));
}

/** Makes the configured database ready for a store from elsewhere. @throws KmsError `conflict` when it is not empty */
export async function prepareStore(config: Config): Promise<void> {
  if (config.store.url === '') await prepareSqlite(paths.store(config.home));
  else await preparePostgres(config.store.url, storePassword(config));
}

/** The engine below `openStore`, for commands that carry whole stores. @param url in place of the configured one */
export async function openStoreEngine(config: Config, bootId: string, url = config.store.url): Promise<Engine> {
  if (url === '') return openEngine(paths.store(config.home));
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
