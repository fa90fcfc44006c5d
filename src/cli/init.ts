/**
 * `kms init`: makes an installation, once. What an interrupted run left is used or removed by the next. Never touches
 * another token.
 */

import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { paths, writeWhole } from '../home.ts';
import { packageFile } from '../package.ts';
import { migrateStore, openStore } from '../parts.ts';
import type { KeyStore } from '../store/store.ts';
import { underHomeLock } from './home-lock.ts';
import {
  type ClientFacts, makeDirectories, writeClientConfiguration, writePins, writeSettings, writeTokenConfiguration,
} from './init-files.ts';
import { finishInstallation, makeInstallation, type Pending } from './init-installation.ts';
import { devPlan, type Plan } from './init-plan.ts';
import { withSession } from './session.ts';

export interface InitReport {
  readonly created: boolean;
  readonly home: string;
}

type Say = (line: string) => void;

/**
 * @param say tells the person at the terminal what is going on
 * @param storeUrl PostgreSQL for a new installation; empty for SQLite in the home
 */
export function initDev(home: string, say: Say, storeUrl = ''): Promise<InitReport> {
  return initialise(home, devPlan(paths.soPin(home), storeUrl), say);
}

/** Tells the person at the terminal what is going on. @throws KmsError `conflict` for an installation of another kind */
export async function initialise(home: string, plan: Plan, say: Say): Promise<InitReport> {
  makeDirectories(home);
  return underHomeLock(home, 'init', async () => {
    const settled = existsSync(join(home, 'kms.yaml')) && !existsSync(pendingPath(home));
    if (settled) await assertKind(home, plan);
    const created = !settled && (await makeOrFinish(home, plan, say));
    refreshClientFiles(loadConfig({ ...process.env, KMS_HOME: home }));
    return { created, home };
  });
}

/** A home that a host joined with has the kind of its installation. */
async function assertKind(home: string, { kind }: Plan): Promise<void> {
  const store = await openStore(loadConfig({ ...process.env, KMS_HOME: home }), 'init');
  try {
    const installation = await store.installation();
    if (installation !== undefined) assertSame(installation.kind, kind);
  } finally {
    await store.close();
  }
}

function assertSame(there: Plan['kind'], asked: Plan['kind']): void {
  if (there !== asked) throw new KmsError('conflict', `the installation here is of kind ${there}, not ${asked}: it stays as it is`);
}

/** @returns whether there was no installation before */
async function makeOrFinish(home: string, plan: Plan, say: Say): Promise<boolean> {
  const pending = pendingInstallation(home, plan);
  writeSettings(home, pending.tokenLabel, plan.settings, plan.kind === 'prod' ? 'replace' : 'keep');
  const config = loadConfig({ ...process.env, KMS_HOME: home });
  await migrateStore(config);
  const store = await openStore(config, 'init');
  const isNew = await isEmpty(store);
  try {
    if (isNew) await makeFrom(config, pending, plan, store, say);
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

async function makeFrom(config: Config, pending: Pending, plan: Plan, store: KeyStore, say: Say): Promise<void> {
  const { directory, makesPins } = plan.token;
  const template = packageFile('softhsm2.conf');
  if (directory !== undefined) writeTokenConfiguration(config.home, template, directory ?? undefined);
  if (makesPins) writePins(config.home);
  await makeInstallation(config, store, pending, plan, say);
}

function pendingPath(home: string): string {
  return join(home, 'init.pending');
}

/** Ids are chosen and durable before the token is touched: an interrupted run goes on with the same token. */
function pendingInstallation(home: string, { kind, token }: Plan): Pending {
  const path = pendingPath(home);
  if (existsSync(path)) {
    const begun = JSON.parse(readFileSync(path, 'utf8')) as Pending;
    assertSame(begun.kind, kind);
    return keep(path, { ...begun, tokenLabel: sameLabel(begun, token) });
  }
  const installation = randomUUID();
  const pending = { installation, tokenLabel: token.label ?? `kms-${installation.slice(0, 8)}`, kind };
  return keep(path, pending);
}

function keep(path: string, pending: Pending): Pending {
  writeWhole(path, JSON.stringify(pending), 0o600);
  return pending;
}

/** A token that was to be made may have been: it is finished. One that was looked for may be another. */
function sameLabel({ tokenLabel }: Pending, { label, soPinFile }: Plan['token']): string {
  if (label === null || label === tokenLabel || soPinFile === null) return label ?? tokenLabel;
  throw new KmsError('conflict', `a run was interrupted that was making the token ${tokenLabel}: finish it with that label, or begin with an empty home`);
}

/** The port may have been changed since. */
function refreshClientFiles(config: Config): void {
  const path = paths.client(config.home, 'admin.json');
  if (!existsSync(path)) return;
  const { okmsId, vaultName } = JSON.parse(readFileSync(path, 'utf8')) as ClientFacts;
  const endpoint = `https://localhost:${config.server.port}`;
  writeClientConfiguration(config.home, { okmsId, vaultName, endpoint, vaultUrl: endpoint });
}
