/**
 * What a command needs that works on store and token itself: both open, verified keys for seals and macs, and an audit
 * stream of its own, closed at the end. Servers may run beside it unless the command asks for them to be stopped.
 */

import { userInfo } from 'node:os';
import { type AuditLog, openAuditLog, type SealingParts } from '../audit/log.ts';
import type { AuditPrincipal } from '../audit/record.ts';
import { randomHex } from '../bytes.ts';
import type { Config } from '../config.ts';
import { Anchors } from '../crypto/anchor.ts';
import { CryptoEngine } from '../crypto/engine.ts';
import { deriveMacs, type Macs } from '../crypto/integrity-keys.ts';
import { canaryOf, internalKey, signWithInternalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import { checkAnchor } from '../keys/anchoring.ts';
import type { Installation, InternalKey } from '../keys/key.ts';
import { Outbox } from '../keys/outbox.ts';
import { settleOwn } from '../keys/recovery.ts';
import { birthOf, isRunning } from '../own-process.ts';
import { openStore, tokenOptions, tokenSetup } from '../parts.ts';
import { labelPrefixes, Token, type TokenState } from '../pkcs11/token.ts';
import { assertNotDebugged } from '../runtime.ts';
import type { KeyStore, ProcessRow, StreamPosition } from '../store/store.ts';

export interface Session {
  readonly config: Config;
  readonly store: KeyStore;
  readonly token: Token;
  readonly engine: CryptoEngine;
  readonly installation: Installation;
  readonly macs: Macs;
  readonly anchors: Anchors;
  readonly audit: AuditLog;
  /** Names this run in journal and audit. */
  readonly bootId: string;
  /**
   * Opens the store as a server does: with its head, and the token's anchor.
   * @throws KmsError `integrity` when they do not fit
   */
  openStore(): Promise<void>;
  /** From here on checkpoints name the store's head: it is believed. */
  trustStore(): void;
  /**
   * Before changes of the store: if this run dies, servers find its stream and record the changes it made. To be called
   * when the store is open; the stream is settled at the end.
   */
  enrol(): Promise<void>;
  /** Told of each request whose outcome is in the audit; what is not there at the end is recorded then. */
  readonly outbox: Outbox;
}

const STOP_MS = 2000;
/** Of the keys that are derived in the token. */
export const KEY_EPOCH = 1;

/** What a command that only reads needs of store and token. */
export type Access = Pick<Session, 'config' | 'store' | 'token' | 'installation' | 'macs' | 'bootId'>;

/** Without an audit stream. @throws KmsError `internal` without an installation; `token-unavailable` saying why */
export async function withAccess<T>(config: Config, run: (access: Access) => Promise<T>): Promise<T> {
  const bootId = randomHex(8);
  const store = await openStore(config, bootId);
  try {
    const installation = await store.installation();
    if (installation === undefined) throw new KmsError('internal', 'no installation here: run `kms init` first');
    assertNotDebugged(installation.kind);
    return await withToken(config, installation, async (token) => {
      const macs = await deriveMacs(token, internalKey(installation, 'integrity'), installation.id, KEY_EPOCH);
      return run({ config, store, token, installation, macs, bootId });
    });
  } finally {
    await store.close();
  }
}

/**
 * Opens the store as a server does: with its head, and the token's anchor.
 * @throws KmsError `integrity` when they do not fit
 */
export async function openVerified({ store, token, installation, macs }: Access): Promise<void> {
  await store.unlock(macs);
  await checkAnchor(new Anchors(token, installation.id, macs.anchor), store);
}

/** @throws KmsError as `withAccess` */
export function withSession<T>(config: Config, run: (session: Session) => Promise<T>): Promise<T> {
  return withAccess(config, async (access) => {
    const { token, installation, macs, store, bootId } = access;
    const state = { trusted: false, enrolled: false };
    const outbox = new Outbox(store, bootId);
    const audit = await openAuditLog({ directory: paths.audit(config.home), hostId: config.hostId, bootId });
    try {
      const engine = new CryptoEngine(token, installation.id, internalKey(installation, 'import'));
      const anchors = new Anchors(token, installation.id, macs.anchor);
      const parts = sealingParts(token, installation, installation.internalKeys, macs, store);
      audit.seal({ ...parts, storeHead: () => headOf(state.trusted ? store : null) });
      return await run({
        ...access, engine, anchors, audit, outbox,
        trustStore: () => { state.trusted = true; },
        openStore: async () => {
          await openVerified(access);
          state.trusted = true;
        },
        enrol: async () => {
          await enrol(access, audit);
          state.enrolled = true;
        },
      });
    } finally {
      const settled = !state.enrolled || (await settles(() => settleOwn(store, audit, outbox, { hostId: config.hostId, bootId })));
      if (settled) await audit.close();
      // A stream that still owes something, or could not be closed, is left to the successor.
      if (state.enrolled && audit.head().closed) await store.settleStream(bootId, 'closed', positionOf(audit));
    }
  });
}

/** Why it failed is told by what failed before; the successor does it again. */
async function settles(run: () => Promise<void>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch {
    return false;
  }
}

async function enrol({ store, config, bootId }: Access, audit: AuditLog): Promise<void> {
  const birth = birthOf(process.pid) ?? { pid: process.pid, born: '' };
  await store.enrol({ bootId, hostId: config.hostId, ...birth, startedMs: Date.now(), stream: positionOf(audit) });
}

function positionOf(audit: AuditLog): StreamPosition {
  const { seq, head, checkpoint } = audit.head();
  return { seq, head, checkpoint };
}

/** The person at the terminal, as the operating system knows them. */
export function operator({ hostId }: Config): AuditPrincipal {
  return { method: 'operator', issuer: `urn:kms:host:${hostId}`, subject: userInfo().username };
}

/**
 * For a command that changes what servers believe. A store that was put back knows nothing of the servers that run on
 * it, and much of those that ran when it was saved: so it is asked who has it open, rows of this host count by what the
 * operating system says, and only those of other hosts by their lease.
 *
 * @throws KmsError `conflict` while one may run
 */
export async function assertNoServers(store: KeyStore, { hostId }: Config): Promise<void> {
  const open = await store.others();
  if (open.length > 0) throw new KmsError('conflict', `the store is in use (${open.join(', ')}): stop every server first`);
  const [processes, nowMs] = [await store.processes(), await store.nowMs()];
  const mayRun = (row: ProcessRow): boolean => (row.hostId === hostId ? isRunning(row) : nowMs - row.leaseMs < LEASE_MS);
  const first = processes.filter(({ state }) => state === 'open').find(mayRun);
  if (first === undefined) return;
  throw new KmsError('conflict', `a server may run (host ${first.hostId}, process ${first.pid}): stop it, and wait ${LEASE_MS / 1000} s if it was killed`);
}

/** As long as a process may go on without saying that it lives; see keys/fleet.ts. */
const LEASE_MS = 20_000;

/** The installation's token, ready. @throws KmsError `token-unavailable` saying why it is not */
export async function withToken<T>(config: Config, installation: Installation, run: (token: Token) => Promise<T>): Promise<T> {
  const failed: { tell: (why: string) => void } = { tell: () => undefined };
  const failure = new Promise<never>((_, reject) => {
    failed.tell = (why) => { reject(new KmsError('token-unavailable', `the token cannot be used: ${why}`)); };
  });
  const token = new Token({
    ...tokenOptions(config),
    // A command asks for one thing after the other.
    threads: 1,
    destroyable: labelPrefixes(installation.id).keys,
    setup: {
      ...tokenSetup(config),
      tokenLabel: installation.tokenLabel,
      tokenSerial: installation.tokenSerial,
      canary: canaryOf(installation),
      provision: null,
    },
    mayLogin: () => Promise.resolve(),
    exclusively: (change) => change(),
    onLost: (reason) => { failed.tell(reason); },
    onState: (state) => { if (state.phase !== 'ready') failed.tell(whyNot(state)); },
  });
  failure.catch(() => undefined);
  try {
    await Promise.race([token.whenReady(), failure]);
    return await run(token);
  } finally {
    await token.stop(STOP_MS);
  }
}

function whyNot(state: TokenState): string {
  if (state.phase === 'ready') return 'ready';
  return state.phase === 'starting' ? state.detail || state.reason : state.reason;
}

/** How a command's audit stream is signed. @param store null while there is no journal yet */
export function sealingParts(
  token: Token,
  { id, kind }: Pick<Installation, 'id' | 'kind'>,
  keys: readonly InternalKey[],
  macs: Macs,
  store: KeyStore | null,
): SealingParts {
  const auditKey = keys.find(({ name }) => name === 'audit');
  if (auditKey?.publicKey == null) throw new KmsError('internal', 'the installation has no audit key');
  return {
    installation: id,
    kind,
    mac: macs.tail,
    sign: (bytes) => signWithInternalKey(token, auditKey, bytes),
    publicKey: auditKey.publicKey,
    storeHead: () => headOf(store),
    peers: () => Promise.resolve([]),
    takeCounters: () => ({}),
    onCheckpoint: () => undefined,
  };
}

function headOf(store: KeyStore | null): { readonly epoch: number; readonly seq: number; readonly mac: string } {
  try {
    if (store !== null) {
      const { epoch, seq, mac } = store.head();
      return { epoch, seq, mac: Buffer.from(mac).toString('hex') };
    }
  } catch {
    // Not verified: nothing is said about it.
  }
  return { epoch: 0, seq: 0, mac: '0'.repeat(64) };
}
