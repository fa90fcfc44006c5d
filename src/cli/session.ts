/**
 * What a command needs that works on store and token itself: both open, verified keys for seals and macs, and an audit
 * stream of its own, closed at the end. Servers may run beside it unless the command asks for them to be stopped.
 */

import { type AuditLog, openAuditLog, type SealingParts } from '../audit/log.ts';
import { randomHex } from '../bytes.ts';
import type { Config } from '../config.ts';
import { Anchors } from '../crypto/anchor.ts';
import { CryptoEngine } from '../crypto/engine.ts';
import { deriveMacs, type Macs } from '../crypto/integrity-keys.ts';
import { canaryOf, internalKey, signWithInternalKey } from '../crypto/internal-keys.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import type { Installation, InternalKey } from '../keys/key.ts';
import { openStore, tokenOptions, tokenSetup } from '../parts.ts';
import { labelPrefixes, Token, type TokenState } from '../pkcs11/token.ts';
import type { KeyStore } from '../store/store.ts';

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
}

const STOP_MS = 2000;
/** Of the keys that are derived in the token. */
export const KEY_EPOCH = 1;

/** @throws KmsError `internal` without an installation; `token-unavailable` saying why */
export async function withSession<T>(config: Config, run: (session: Session) => Promise<T>): Promise<T> {
  const bootId = randomHex(8);
  const store = await openStore(config, bootId);
  try {
    const installation = await store.installation();
    if (installation === undefined) throw new KmsError('internal', 'no installation here: run `kms init` first');
    return await withToken(config, installation, async (token) => {
      const macs = await deriveMacs(token, internalKey(installation, 'integrity'), installation.id, KEY_EPOCH);
      const audit = await openAuditLog({ directory: paths.audit(config.home), hostId: config.hostId, bootId });
      try {
        audit.seal(sealingParts(token, installation, installation.internalKeys, macs, store));
        const engine = new CryptoEngine(token, installation.id, internalKey(installation, 'import'));
        const anchors = new Anchors(token, installation.id, macs.anchor);
        return await run({ config, store, token, engine, installation, macs, anchors, audit, bootId });
      } finally {
        await audit.close();
      }
    });
  } finally {
    await store.close();
  }
}

/** For a command that changes what servers believe. @throws KmsError `conflict` while one may run */
export async function assertNoServers(store: KeyStore): Promise<void> {
  const [processes, nowMs] = [await store.processes(), await store.nowMs()];
  const running = processes.filter(({ state, leaseMs }) => state === 'open' && nowMs - leaseMs < LEASE_MS);
  const [first] = running;
  if (first === undefined) return;
  throw new KmsError('conflict', `servers run (host ${first.hostId}, process ${first.pid}): stop them, and wait ${LEASE_MS / 1000} s if they were killed`);
}

const LEASE_MS = 10_000;

/** The installation's token, ready. @throws KmsError `token-unavailable` saying why it is not */
export async function withToken<T>(config: Config, installation: Installation, run: (token: Token) => Promise<T>): Promise<T> {
  const failed: { tell: (why: string) => void } = { tell: () => undefined };
  const failure = new Promise<never>((_, reject) => {
    failed.tell = (why) => { reject(new KmsError('token-unavailable', `the token cannot be used: ${why}`)); };
  });
  const token = new Token({
    ...tokenOptions(config),
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
