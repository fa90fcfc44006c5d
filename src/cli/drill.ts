/**
 * `kms restore --drill --from FILE`: what a backup is worth, tried out. Restores it into a temporary SQLite database,
 * verifies seals and chain there, and has every object of every live key version prove itself to the token.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { asKmsError } from '../errors.ts';
import type { Key, KeyObject, KeyState, KeyVersion } from '../keys/key.ts';
import { shapeOf } from '../keys/usage.ts';
import { headOf } from '../store/backup-format.ts';
import { readBackup } from '../store/backup-reader.ts';
import type { Damage } from '../store/evidence.ts';
import { place } from '../store/placement.ts';
import { migrateSqlite, openEngine, openSqliteStore } from '../store/sqlite.ts';
import type { KeyStore } from '../store/store.ts';
import { type BackupSession, withBackup } from './backup-session.ts';

export interface DrillFailure {
  /** Vault and key, or table and row. */
  readonly about: string;
  /** Of an object that did not prove itself. */
  readonly version?: number;
  readonly family?: string;
  readonly objectId?: string;
  readonly reason: string;
}

export interface DrillReport {
  readonly ok: boolean;
  readonly file: string;
  readonly digest: string;
  readonly installation: string;
  readonly epoch: number;
  readonly seq: number;
  readonly keys: number;
  readonly versions: number;
  readonly objects: number;
  readonly failures: readonly DrillFailure[];
}

const LIVE: readonly KeyState[] = ['active', 'deactivated', 'compromised'];
const PAGE = 100;
/** Questions to the token at a time: well below what its queue takes. */
const AT_ONCE = 16;

export function drill(config: Config, path: string): Promise<DrillReport> {
  return withBackup(config, path, async (session) => {
    const directory = mkdtempSync(join(tmpdir(), 'kms-drill-')); // mode 0700
    try {
      const report = await tryOut(session, join(directory, 'kms.db')).catch((error: unknown) => unusable(session, error));
      await record(session, report);
      return report;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

async function tryOut(session: BackupSession, path: string): Promise<DrillReport> {
  const { backup, bootId, macs } = session;
  const damages = await load(session, path);
  const store = await openSqliteStore(path, bootId);
  try {
    store.onDamage((damage) => damages.push(damage));
    await store.unlock(macs);
    const proven = await prove(session, store);
    const failures = [...unique(damages), ...proven.failures];
    const { header: { installation, epoch, seq }, digest } = backup;
    return { ok: failures.length === 0, file: backup.path, digest, installation, epoch, seq, ...proven, failures };
  } finally {
    await store.close();
  }
}

/** Head or installation are damaged: there is no store to look into. */
function unusable({ backup }: BackupSession, error: unknown): DrillReport {
  const { code, message } = asKmsError(error);
  if (code !== 'integrity') throw error;
  const { path: file, digest, header: { installation, epoch, seq } } = backup;
  const nothing = { keys: 0, versions: 0, objects: 0 };
  return { ok: false, file, digest, installation, epoch, seq, ...nothing, failures: [{ about: 'store', reason: message }] };
}

/** @returns what the comparison found; it is loaded all the same, to see what else is wrong */
async function load({ backup, macs, bootId }: BackupSession, path: string): Promise<Damage[]> {
  await migrateSqlite(path);
  const target = openEngine(path);
  try {
    const { damage } = await place({
      target, macs, bootId, head: headOf(backup.header), batches: readBackup(backup), mode: 'copy', tolerant: true,
    });
    return [...damage];
  } finally {
    await target.close();
  }
}

/** The comparison and the loading of a key see the same rows. */
function unique(damages: readonly Damage[]): readonly DrillFailure[] {
  const named = new Map(damages.map(({ table, row, reason }) => [`${table} ${row} ${reason}`, { about: `${table} ${row}`, reason }]));
  return [...named.values()];
}

interface Proven {
  readonly keys: number;
  readonly versions: number;
  readonly objects: number;
  readonly failures: readonly DrillFailure[];
}

/** Keys with damaged rows are not among them, and are told of as damage. */
async function prove(session: BackupSession, store: KeyStore): Promise<Proven> {
  let [keys, versions, objects] = [0, 0, 0];
  const failures: DrillFailure[] = [];
  for await (const key of liveKeys(store)) {
    const parts = key.versions.flatMap((version) => version.objects.map((object) => ({ version, object })));
    keys += 1;
    versions += key.versions.length;
    objects += parts.length;
    for (let from = 0; from < parts.length; from += AT_ONCE) {
      const answers = parts.slice(from, from + AT_ONCE).map(({ version, object }) => failureOf(session, key, version, object));
      failures.push(...(await Promise.all(answers)).filter((failure) => failure !== undefined));
    }
  }
  return { keys, versions, objects, failures };
}

async function* liveKeys(store: KeyStore): AsyncGenerator<Key> {
  for (const { id } of await store.vaults()) {
    for (let after = -1; ;) {
      const page = await store.listKeys({ vaultId: id, states: LIVE, softly: 'as-they-are', afterOrdinal: after, limit: PAGE });
      yield* page;
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.ordinal;
    }
  }
}

async function failureOf({ engine }: BackupSession, key: Key, of: KeyVersion, object: KeyObject): Promise<DrillFailure | undefined> {
  try {
    await engine.prove(object, shapeOf(key, of));
    return undefined;
  } catch (error) {
    const { code, message } = asKmsError(error);
    // A token that went away says nothing about a key.
    if (code === 'token-unavailable') throw error;
    const { family, objectId } = object;
    return { about: `key ${key.vaultId}/${key.id}`, version: of.ordinal, family, objectId, reason: `${code}: ${message}` };
  }
}

/** The first failures by name; the report has all. */
const NAMED = 20;

async function record({ audit }: BackupSession, report: DrillReport): Promise<void> {
  const { digest, epoch, seq, keys, versions, objects, failures, ok } = report;
  const first = failures.slice(0, NAMED).map(({ about, family = '' }) => `${about} ${family}`.trim()).join(', ');
  const outcome = ok ? ({ result: 'success' } as const) : ({ result: 'failed', reason: 'integrity' } as const);
  const detail = { digest, epoch, seq, keys, versions, objects, failures: failures.length, ...(ok ? {} : { first }) };
  await audit.append({ event: 'backup.drill', ...outcome, detail });
}
