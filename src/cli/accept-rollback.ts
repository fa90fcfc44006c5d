/**
 * `kms store accept-rollback` (integrity §6): goes on with a store that is behind or beside what the token or the audit
 * saw of it, in a new epoch, with every restriction that the audit still knows. Servers are stopped.
 */

import { createHash, randomUUID } from 'node:crypto';
import { readDeadStream } from '../audit/dead-stream.ts';
import { recordsOf } from '../audit/history.ts';
import { type TreeReport, verifyTree } from '../audit/verify.ts';
import type { Config } from '../config.ts';
import type { Anchors } from '../crypto/anchor.ts';
import { internalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import { type KeyHistory, Histories } from '../keys/aftermath.ts';
import { contradiction } from '../keys/anchoring.ts';
import { type Plan, planAcceptance } from '../keys/rollback.ts';
import type { Accepted, KeyStore } from '../store/store.ts';
import { assertNoServers, operator, type Session, withSession } from './session.ts';

export interface AcceptOptions {
  readonly reason: string;
  /** Go on with what a damaged audit holds up to its first bad position. */
  readonly ignoreDamagedAudit: boolean;
}

export interface AcceptReport {
  /** Why the store was refused. */
  readonly found: string;
  readonly epoch: { readonly before: number; readonly after: number };
  readonly seq: { readonly before: number; readonly after: number };
  readonly reapplied: Plan['reapplied'];
  readonly rebuilt: Plan['rebuilt'];
  readonly lost: Plan['lost'];
  /** Invocation counters that were raised. */
  readonly counters: number;
  /** Announced work of the saved store that the lost future had completed. */
  readonly withdrawnIntents: number;
  /** Streams that others name and that are not here: what they restricted is not known. */
  readonly unread: readonly string[];
}

/**
 * @throws KmsError `conflict` when servers run, or there is nothing to accept; `integrity` for an audit that does not
 * verify, or a store that fails its seals
 */
export function acceptRollback(config: Config, options: AcceptOptions): Promise<AcceptReport> {
  return withSession(config, async (session) => {
    const { store, macs } = session;
    await store.unlock(macs, 'accepted');
    await assertNoServers(store, config);
    const audit = await readAudit(session, options.ignoreDamagedAudit);
    const found = await examine(session, audit);
    if (audit.histories.length > 0) await assertFit(session);
    const { engine, bootId } = session;
    const plan = await planAcceptance(audit.histories, { store, engine, bootId, nowMs: Date.now(), above: found.above, totals: audit.totals });
    return accept(session, plan, { ...found, unread: audit.unread }, options.reason);
  });
}

interface Findings {
  readonly found: string;
  /** Greatest epoch that any witness has seen. */
  readonly above: number;
}

interface AuditKnowledge {
  readonly unread: readonly string[];
  readonly histories: readonly KeyHistory[];
  readonly totals: Readonly<Record<string, number>>;
  /** What the last checkpoint of each stream says of the store. */
  readonly witnesses: readonly { readonly stream: string; readonly epoch: number; readonly seq: number; readonly mac: Uint8Array }[];
}

async function readAudit({ config, installation, macs, bootId }: Session, ignoreDamage: boolean): Promise<AuditKnowledge> {
  const directory = paths.audit(config.home);
  const publicKey = internalKey(installation, 'audit').publicKey ?? new Uint8Array();
  const tree = await verifyTree(directory, { publicKey, installation: installation.id, mac: macs.tail });
  if (!tree.ok && !ignoreDamage) throw damagedAudit(tree);
  const histories = new Histories();
  const totals: Record<string, number> = {};
  const witnesses: AuditKnowledge['witnesses'][number][] = [];
  for (const report of tree.streams.filter(({ boot }) => boot !== bootId)) {
    for await (const record of recordsOf(directory, report)) histories.take(record);
    const { stream, counters, lastCheckpoint } = await readDeadStream(directory, report.host, report.boot, { mac: macs.tail, publicKey });
    for (const [id, total] of Object.entries(counters)) totals[id] = Math.max(total, totals[id] ?? 0);
    const { epoch = 0, seq = 0, mac = '' } = lastCheckpoint?.store ?? {};
    witnesses.push({ stream, epoch, seq, mac: Buffer.from(mac, 'hex') });
  }
  return { histories: histories.all(), totals, witnesses, unread: [...tree.missing, ...tree.elsewhere] };
}

function damagedAudit({ streams, missing }: TreeReport): KmsError {
  const bad = streams.flatMap(({ host, boot, problem }) =>
    (problem === undefined ? [] : [`${host}/${boot} ${problem.file} line ${problem.line}: ${problem.reason}`]));
  const places = [...bad, ...missing.map((stream) => `${stream}: missing`)].join('; ');
  return new KmsError('integrity', `the audit does not verify (${places}): bring it back, or pass --ignore-damaged-audit`);
}

/** Every witness there is. @throws KmsError `conflict` when none contradicts the store */
async function examine({ store, anchors }: Session, { witnesses }: AuditKnowledge): Promise<Findings> {
  const { highest, all, damaged } = await anchors.read();
  const found = (await contradiction(highest, damaged, store)) ?? (await copied(store)) ?? (await contradicted(store, witnesses));
  if (found === undefined) throw new KmsError('conflict', 'nothing to accept: the store is the one that token and audit know');
  const above = Math.max(0, ...all.map(({ epoch }) => epoch), ...witnesses.map(({ epoch }) => epoch));
  return { found, above };
}

async function copied(store: KeyStore): Promise<string | undefined> {
  const here = await store.identity();
  const { storeId } = store.head();
  return here === storeId ? undefined : `the head names another store (${storeId}); this one is ${here}`;
}

async function contradicted(store: KeyStore, witnesses: AuditKnowledge['witnesses']): Promise<string | undefined> {
  for (const { stream, ...witness } of witnesses) {
    const verdict = await store.examine(witness);
    if (verdict === 'rolled-back') return `the store was rolled back: the audit stream ${stream} saw entry ${witness.seq}`;
    if (verdict === 'forked') return `the store was forked: its entry ${witness.seq} is not the one the audit stream ${stream} saw`;
  }
  return undefined;
}

/** Keys of the gap are proved by the token, which is tested first. */
async function assertFit({ engine }: Session): Promise<void> {
  if ((await engine.selfTest()) !== 'ok') throw new KmsError('token-unavailable', engine.fitness);
}

async function accept(
  session: Session,
  plan: Plan,
  { found, unread }: Findings & Pick<AcceptReport, 'unread'>,
  reason: string,
): Promise<AcceptReport> {
  const { store, anchors, audit, outbox, config } = session;
  const requestId = `accept-rollback-${randomUUID()}`;
  await session.enrol();
  const accepted = await store.acceptRollback(plan.acceptance, requestId);
  session.trustStore();
  const { before, after, counters } = accepted;
  const report: AcceptReport = {
    found,
    epoch: { before: before.epoch, after: after.epoch },
    seq: { before: before.seq, after: after.seq },
    ...{ reapplied: plan.reapplied, rebuilt: plan.rebuilt, lost: plan.lost, counters },
    withdrawnIntents: plan.acceptance.withdrawn.length,
    unread,
  };
  const about = { requestId, principal: operator(config) } as const;
  for (const event of eventsOf(report, reason)) await audit.append({ ...event, ...about, result: 'success' });
  outbox.recorded(requestId);
  await completeDestructions(session, plan, requestId);
  await writeAnchor(anchors, store, accepted);
  return report;
}

type Event = Pick<Parameters<Session['audit']['append']>[0], 'event' | 'vault' | 'key' | 'version' | 'objectIds' | 'detail'>;

function eventsOf({ found, epoch, seq, reapplied, rebuilt, lost, counters, withdrawnIntents, unread }: AcceptReport, reason: string): readonly Event[] {
  const summary = {
    ...{ reason, found, epochBefore: epoch.before, epoch: epoch.after, seqBefore: seq.before, seq: seq.after },
    ...{ reapplied: reapplied.length, rebuilt: rebuilt.length, lost: lost.length, counters, withdrawnIntents, unread: unread.length },
  };
  return [
    { event: 'store.rollback-accepted', detail: summary },
    ...reapplied.map(({ vaultId, keyId, state, reason: why }) =>
      ({ event: 'store.restriction-reapplied', vault: vaultId, key: keyId, detail: { state, reason: why } })),
    ...rebuilt.map(({ vaultId, keyId, state, versions, objectIds }) =>
      ({ event: 'store.key-rebuilt', vault: vaultId, key: keyId, objectIds, detail: { state, versions: versions.join(' ') } })),
    ...lost.map(({ vaultId, keyId, version, objectIds, why }) =>
      ({ event: 'store.key-lost', vault: vaultId, key: keyId, objectIds, ...(version !== null && { version }), detail: { why } })),
  ];
}

/** Announced with the new epoch: what fails here is completed by the next server. */
async function completeDestructions({ engine, store }: Session, { acceptance }: Plan, requestId: string): Promise<void> {
  const own = new Set([...acceptance.destructions, ...acceptance.tombstones].map(({ intent }) => intent.id));
  for (const { id, objectIds } of await store.intents()) {
    if (!own.has(id)) continue;
    await engine.destroy(objectIds);
    await store.removeIntent(id, requestId);
  }
}

/** The last step: before it, servers refuse the store or find the restrictions in it. */
async function writeAnchor(anchors: Anchors, store: KeyStore, { after }: Accepted): Promise<void> {
  const { storeId, seq, mac } = store.head();
  const heads = (await store.processes()).map(({ hostId, bootId, stream }) => `${hostId}/${bootId} ${stream.seq} ${stream.head}`);
  const auditHeads = createHash('sha256').update(heads.sort().join('\n')).digest();
  await anchors.write({ storeId, epoch: after.epoch, seq, journalMac: mac, auditHeads, writtenMs: Date.now() });
}
