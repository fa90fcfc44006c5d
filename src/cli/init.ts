/**
 * `kms init`: makes an installation, once. What an interrupted run left is used or removed by the next. Never touches
 * another token.
 */

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, loadConfig } from '../config.ts';
import { paths } from '../home.ts';
import { migrateSqlite, openSqliteStore } from '../store/sqlite.ts';
import type { KeyStore } from '../store/store.ts';
import { makeDirectories, writeClientConfiguration, writePins, writeSettings, writeTokenConfiguration, writeWhole } from './init-files.ts';
import { makeInstallation, type Pending } from './init-installation.ts';
import { underInitLock } from './init-lock.ts';

export interface InitReport {
  readonly created: boolean;
  readonly home: string;
}

/** @param say tells the person at the terminal what is going on */
export async function initDev(home: string, say: (line: string) => void): Promise<InitReport> {
  makeDirectories(home);
  return underInitLock(home, async () => {
    await migrateSqlite(paths.store(home));
    const store = await openSqliteStore(paths.store(home));
    try {
      const created = (await store.installation()) === undefined;
      if (created) await makeFrom(home, store, say);
      await refreshClientFiles(loadConfig({ ...process.env, KMS_HOME: home }), store);
      return { created, home };
    } finally {
      await store.close();
    }
  });
}

async function makeFrom(home: string, store: KeyStore, say: (line: string) => void): Promise<void> {
  const pending = pendingInstallation(home);
  writeTokenConfiguration(home, new URL('../../softhsm2.conf', import.meta.url).pathname);
  writePins(home);
  writeSettings(home, pending.tokenLabel);
  await makeInstallation(loadConfig({ ...process.env, KMS_HOME: home }), store, pending, say);
  rmSync(pendingPath(home), { force: true });
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
async function refreshClientFiles(config: Config, store: KeyStore): Promise<void> {
  const [vault] = await store.vaults();
  if (vault === undefined) return;
  const endpoint = `https://localhost:${config.server.port}`;
  writeClientConfiguration(config.home, { okmsId: vault.id, vaultName: vault.name, endpoint, vaultUrl: endpoint });
}
