/**
 * What binds store, audit and token to each other in a server process: the keys of seals and macs, derived in the token;
 * the anchor objects; what a checkpoint says of the store; what the streams of this host saw of it (integrity §2–7).
 */

import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readDeadStream } from './audit/dead-stream.ts';
import type { AuditLog, SealingParts } from './audit/log.ts';
import type { Config } from './config.ts';
import { Anchors } from './crypto/anchor.ts';
import { deriveKey } from './crypto/derived-key.ts';
import { deriveMacs, type Macs } from './crypto/integrity-keys.ts';
import { internalKey, signWithInternalKey } from './crypto/internal-keys.ts';
import { KmsError } from './errors.ts';
import { paths } from './home.ts';
import type { AnchorObjects } from './keys/anchoring.ts';
import type { Installation } from './keys/key.ts';
import type { Token } from './pkcs11/token.ts';
import type { KeyStore, Witness } from './store/store.ts';

/** Raised when the keys of seals and macs are to change (`kms store reseal`). */
const KEY_EPOCH = 1;

export interface SealingOptions {
  readonly config: Config;
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly installation: Installation;
  readonly token: Token;
  readonly peers: SealingParts['peers'];
  readonly takeCounters: SealingParts['takeCounters'];
  /** Whether the store is believed at present. */
  readonly isTrusted: () => boolean;
}

export class Sealing implements AnchorObjects {
  readonly #options: SealingOptions;
  #macs: Macs | undefined;
  #sealed = false;

  constructor(options: SealingOptions) {
    this.#options = options;
  }

  /** Whether the audit of this process is sealed. */
  get done(): boolean {
    return this.#sealed;
  }

  /** Derives the keys of seals and macs, and has the audit sealed with them. */
  async unseal(): Promise<Macs> {
    const { token, installation } = this.#options;
    this.#macs ??= await deriveMacs(token, internalKey(installation, 'integrity'), installation.id, KEY_EPOCH);
    if (!this.#sealed) this.#sealAudit(this.#macs);
    return this.#macs;
  }

  /** Key of the continuation tokens of listings. */
  pageKey(): Promise<Uint8Array> {
    const { token, installation } = this.#options;
    return deriveKey(token, internalKey(installation, 'integrity'), installation.id, 'page', KEY_EPOCH);
  }

  read(): ReturnType<AnchorObjects['read']> {
    return this.#anchors().read();
  }

  write(anchor: Parameters<AnchorObjects['write']>[0]): Promise<void> {
    return this.#anchors().write(anchor);
  }

  /** SHA-256 over the audit heads that the store knows. */
  async auditHeads(): Promise<Uint8Array> {
    const rows = await this.#options.store.processes();
    const heads = rows.map(({ hostId, bootId, stream }) => `${hostId}/${bootId} ${stream.seq} ${stream.head}`);
    return createHash('sha256').update(heads.sort().join('\n')).digest();
  }

  /** The audit stream that an ended process of this host left. */
  readStream(boot: string): ReturnType<typeof readDeadStream> {
    const { config, installation } = this.#options;
    const { publicKey } = internalKey(installation, 'audit');
    const keys = { mac: this.#macs?.tail ?? noKey, publicKey: publicKey ?? new Uint8Array() };
    return readDeadStream(paths.audit(config.home), config.hostId, boot, keys);
  }

  /** A store that was put back does not know of the streams that came later; their checkpoints know of it. */
  async witnesses(): Promise<readonly Witness[]> {
    const { store, config } = this.#options;
    const known = new Set((await store.processes()).map(({ bootId }) => bootId));
    const unknown = streamsIn(config).filter((boot) => !known.has(boot));
    const streams = await Promise.all(unknown.map((boot) => this.readStream(boot)));
    return streams.flatMap(({ lastCheckpoint }) => (lastCheckpoint === null ? [] : [toWitness(lastCheckpoint.store)]));
  }

  #anchors(): Anchors {
    const { token, installation } = this.#options;
    return new Anchors(token, installation.id, this.#macs?.anchor ?? noKey);
  }

  #sealAudit({ tail: mac }: Macs): void {
    const { audit, installation, token, peers, takeCounters } = this.#options;
    const auditKey = internalKey(installation, 'audit');
    this.#sealed = true;
    audit.seal({
      installation: installation.id,
      kind: installation.kind,
      mac,
      sign: (bytes) => signWithInternalKey(token, auditKey, bytes),
      publicKey: auditKey.publicKey ?? new Uint8Array(),
      storeHead: () => this.#storeHead(),
      peers,
      takeCounters,
      onCheckpoint: () => undefined,
    });
  }

  /**
   * Zeros while the store is not believed: a checkpoint that names the head of a forked store would stand against the
   * honest one when that comes back.
   */
  #storeHead(): { readonly epoch: number; readonly seq: number; readonly mac: string } {
    const { store, isTrusted } = this.#options;
    try {
      if (!isTrusted()) return NO_HEAD;
      const { epoch, seq, mac } = store.head();
      return { epoch, seq, mac: Buffer.from(mac).toString('hex') };
    } catch {
      return NO_HEAD;
    }
  }
}

const NO_HEAD = { epoch: 0, seq: 0, mac: '0'.repeat(64) };

function noKey(): never {
  throw new KmsError('internal', 'the keys of the audit are not derived yet');
}

/** Boot ids of the streams of this host. */
function streamsIn({ home, hostId }: Config): readonly string[] {
  const host = join(paths.audit(home), hostId);
  return readdirSync(host, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
    .map(({ name }) => name);
}

function toWitness({ epoch, seq, mac }: { readonly epoch: number; readonly seq: number; readonly mac: string }): Witness {
  return { epoch, seq, mac: Buffer.from(mac, 'hex') };
}
