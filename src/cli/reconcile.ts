/**
 * `kms reconcile`: store and token side by side, as a report that changes nothing; and the one thing an operator may do
 * about a finding here, the destruction of an object whose key is destroyed (design §4).
 */

import type { Command } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { CryptoEngine } from '../crypto/engine.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { Outbox } from '../keys/outbox.ts';
import { type Finding, Reconciler } from '../keys/reconcile.ts';
import { labelPrefixes } from '../pkcs11/token.ts';
import type { CompareCursor, Damage } from '../store/store.ts';
import { confirmed } from './confirm.ts';
import { type Output, outputOption, print, say } from './output.ts';
import { type Access, openVerified, operator, withAccess, withSession } from './session.ts';

export interface ReconcileReport {
  /** Nothing but `foreign` objects was found. */
  readonly ok: boolean;
  readonly findings: readonly Finding[];
  /** Rows, or places of the journal, that are not what was written. */
  readonly damage: readonly Damage[];
}

const ADVICE: Readonly<Record<Finding['kind'], string>> = {
  missing: 'the token does not show it, and its key answers 503: bring the token back from its backup, or delete the key',
  unknown: 'ours by its label, and no row knows it: what a lost store or a crash left; it is kept, and only you can tell whether it is needed',
  foreign: 'not ours: nothing to do',
  destroyed: 'its key is destroyed, and the token shows it again: kms reconcile --destroy OBJECT_ID --yes',
  misplaced: 'its label names another version or family than its row: do not use the key; compare with a backup of the token',
  extractable: 'it can leave the token: make a new key, and delete this one; kind=prod does not serve while it is there',
  unfinished: 'announced work: a server completes it within a minute; if it stays, see the log of the servers',
};

interface Arguments extends Output {
  readonly report?: boolean;
  readonly destroy?: string;
  readonly yes?: boolean;
}

export function reconcileCommand(command: Command, finish: (code: number) => void): void {
  command
    .option('--report', 'say what does not fit, and change nothing')
    .option('--destroy <object-id>', 'destroy an object whose key is destroyed, which the token shows again')
    .option('--yes', 'do not ask')
    .addOption(outputOption())
    .action(async (options: Arguments) => { finish(await reconcile(options)); });
}

async function reconcile({ report, destroy, yes, output }: Arguments): Promise<number> {
  const config = loadConfig(process.env);
  if ((report === true) === (destroy !== undefined)) {
    say('kms reconcile: say either --report or --destroy OBJECT_ID');
    return 2;
  }
  if (destroy === undefined) {
    const found = await reportFindings(config);
    print(output === 'json' ? JSON.stringify(found, null, 2) : formatFindings(found));
    return found.ok ? 0 : 1;
  }
  if (!(await confirmed(yes === true, `This destroys the object ${destroy} on the token.`))) {
    say('kms reconcile: not confirmed; pass --yes where nobody can be asked');
    return 2;
  }
  const objects = await destroyAgain(config, destroy);
  print(output === 'json' ? JSON.stringify({ destroyed: objects }, null, 2) : `destroyed: ${destroy}`);
  return 0;
}

/** Servers may run beside it. */
export function reportFindings(config: Config): Promise<ReconcileReport> {
  return withAccess(config, async (access) => {
    const damage: Damage[] = [];
    access.store.onDamage((found) => damage.push(found));
    await openVerified(access);
    let cursor: CompareCursor | undefined;
    do cursor = await access.store.compare(cursor);
    while (cursor !== undefined);
    const findings = await reconcilerOf(access).report();
    const ok = damage.length === 0 && findings.every(({ kind }) => kind === 'foreign');
    return { ok, findings, damage };
  });
}

/**
 * @returns what was destroyed
 * @throws KmsError `conflict` for an object that is anything else than one of a destroyed key
 */
export function destroyAgain(config: Config, objectId: string): Promise<readonly Finding[]> {
  return withSession(config, async (session) => {
    await session.openStore();
    const { engine, audit } = session;
    const found = (await reconcilerOf(session).report()).filter((finding) => finding.objectId === objectId && finding.kind !== 'extractable');
    const [first] = found;
    if (first === undefined || found.some(({ kind }) => kind !== 'destroyed')) {
      throw new KmsError('conflict', `not an object of a destroyed key (${first?.kind ?? 'nothing is wrong with it, or it is not there'}): nothing was destroyed`);
    }
    const event = { event: 'reconcile.destroyed-again', principal: operator(config), objectIds: [objectId], detail: { label: first.about } };
    if (!audit.healthy()) throw new KmsError('audit-unavailable', 'the audit log cannot be written');
    try {
      await engine.destroy([objectId]);
    } catch (error) {
      await audit.append({ ...event, result: 'failed', reason: error instanceof KmsError ? error.code : 'internal' });
      throw error;
    }
    await audit.append({ ...event, result: 'success' });
    return found;
  });
}

function reconcilerOf({ store, token, installation, bootId }: Access): Reconciler {
  return new Reconciler({
    engine: new CryptoEngine(token, installation.id, internalKey(installation, 'import')),
    store,
    audit: { append: () => Promise.reject(new KmsError('internal', 'a report records nothing')) },
    outbox: new Outbox(store, bootId),
    internalKeys: installation.internalKeys,
    labels: Object.values(labelPrefixes(installation.id)),
    hasEnded: () => Promise.resolve(false),
  });
}

export function formatFindings({ ok, findings, damage }: ReconcileReport): string {
  const kinds = [...new Set(findings.map(({ kind }) => kind))].sort();
  const lines = kinds.flatMap((kind) => {
    const of = findings.filter((finding) => finding.kind === kind);
    return [`${kind} (${of.length}): ${ADVICE[kind]}`, ...of.map(({ objectId, part, about }) => `  ${objectId || '(no id)'} ${part} ${about}`)];
  });
  const rows = damage.map(({ table, row, reason }) => `damaged: ${table} ${row} (${reason}): bring the store back from a backup`);
  return [...rows, ...lines, ok ? 'store and token fit' : 'store and token do not fit'].join('\n');
}
