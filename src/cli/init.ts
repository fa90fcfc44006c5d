/**
 * `kms init`: makes an installation, once. What an interrupted run left is used or removed by the next. Never touches
 * another token.
 */

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, loadConfig } from '../config.ts';
import { paths, writeWhole } from '../home.ts';
import { migrateStore, openStore } from '../parts.ts';
import type { KeyStore } from '../store/store.ts';
import {
  type ClientFacts, makeDirectories, writeClientConfiguration, writePins, writeSettings, writeTokenConfiguration,
} from './init-files.ts';
import { finishInstallation, makeInstallation, type Pending } from './init-installation.ts';
import { underInitLock } from './init-lock.ts';
import { withSession } from './session.ts';

export interface InitReport {
  readonly created: boolean;
  readonly home: string;
}

/**
 * @param say tells the person at the terminal what is going on
 * @param storeUrl PostgreSQL for a new installation; empty for SQLite in the home
 */
export async function initDev(home: string, say: (line: string) => void, storeUrl = ''): Promise<InitReport> {
  makeDirectories(home);
  return underInitLock(home, async () => {
    const settled = existsSync(join(home, 'kms.yaml')) && !existsSync(pendingPath(home));
    const created = !settled && (await makeOrFinish(home, say, storeUrl));
    refreshClientFiles(loadConfig({ ...process.env, KMS_HOME: home }));
    return { created, home };
  });
}

/** @returns whether there was no installation before */
async function makeOrFinish(home: string, say: (line: string) => void, storeUrl: string): Promise<boolean> {
  const pending = pendingInstallation(home);
  writeSettings(home, pending.tokenLabel, storeUrl);
  const config = loadConfig({ ...process.env, KMS_HOME: home });
  await migrateStore(config);
  const store = await openStore(config, 'init');
  const isNew = await isEmpty(store);
  try {
    if (isNew) await makeFrom(config, pending, store, say);
  } finally {
    await store.close();
  }
  if (!isNew) await withSession(config, finishInstallation);
  rmSync(pendingPath(home), { force: true });
  return isNew;
}

async function isEmpty(store: KeyStore): Promise<boolean> {
  return (await store.installation()) === undefined;
}

async function makeFrom(config: Config, pending: Pending, store: KeyStore, say: (line: string) => void): Promise<void> {
  writeTokenConfiguration(config.home, new URL('../../softhsm2.conf', import.meta.url).pathname);
  writePins(config.home);
  await makeInstallation(config, store, pending, say);
}

function pendingPath(home: string): string {
  return join(home, 'init.pending');
}

/** Ids are chosen and durable before the token is touched: an interrupted run goes on with the same token. */
function pendingInstallation(home: string): Pending {
  const path = pendingPath(home);
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as Pending;
  const installation = randomUUID();
  const pending = { installation, tokenLabel: `kms-${installation.slice(0, 8)}` };
  writeWhole(path, JSON.stringify(pending), 0o600);
  return pending;
}

/** The port may have been changed since. */
function refreshClientFiles(config: Config): void {
  const path = paths.client(config.home, 'admin.json');
  if (!existsSync(path)) return;
  const { okmsId, vaultName } = JSON.parse(readFileSync(path, 'utf8')) as ClientFacts;
  const endpoint = `https://localhost:${config.server.port}`;
  writeClientConfiguration(config.home, { okmsId, vaultName, endpoint, vaultUrl: endpoint });
}
