/**
 * A checkpoint: what the token's audit key signs about a stream (integrity §7). Its text is RFC 8785 JSON; the signature
 * is ES256, raw r‖s, over `kms-ckpt` 0x01 and the UTF-8 bytes of the text. Both stand in the detail of a record
 * `audit.checkpoint`: `checkpoint` the text, `signature` in base64url. Reads and checks one; knows no files.
 */

import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import canonicalize from 'canonicalize';

import { decodeBase64url } from '../bytes.ts';
import { KmsError } from '../errors.ts';
import { type AuditEvent, chainHash, CHECKPOINT_EVENT } from './record.ts';
import { type Check, count, digest, membersOf, text } from './record-shape.ts';

/** How far a stream has come: `seq` of its last record, -1 before the first, and the hash of that record's line. */
export interface StreamPosition {
  /** `<host>/<boot>`. */
  readonly stream: string;
  readonly seq: number;
  /** 64 hex digits; zeros before the first record. */
  readonly head: string;
}

/** The newest that the store knows of another stream. */
export interface PeerHead extends StreamPosition {
  readonly closed: boolean;
}

/** Head of the store's journal. */
export interface StoreHead {
  readonly epoch: number;
  readonly seq: number;
  /** Hex. */
  readonly mac: string;
}

export interface Checkpoint extends StreamPosition {
  readonly version: 1;
  readonly kind: 'dev' | 'prod';
  readonly installation: string;
  readonly host: string;
  readonly boot: string;
  /** Records covered: `seq` + 1. */
  readonly count: number;
  /** SHA-256 (hex) of the text of the checkpoint before; zeros in the first. */
  readonly previous: string;
  /** Milliseconds since 1970. */
  readonly wall: number;
  /** Milliseconds of a clock that never goes back; its zero is arbitrary. */
  readonly mono: number;
  readonly store: StoreHead;
  readonly peers: readonly PeerHead[];
  /** CKA_ID of a token object to its GCM invocations reserved so far; those reserved since the checkpoint before. */
  readonly counters: Readonly<Record<string, number>>;
  /** SHA-256 (hex) of the SubjectPublicKeyInfo of the signing key. */
  readonly publicKey: string;
  /** The stream ends with the record of this checkpoint. */
  readonly closed: boolean;
}

/** `previous` of the first checkpoint of a stream. */
export const FIRST_PREVIOUS = '0'.repeat(64);

/**
 * A checkpoint stands at most so many records after the last one it covers, so that a reader needs to remember no more
 * hashes than that. The log discards a signature that comes later.
 */
export const CHECKPOINT_LAG_MAX = 65_536;

const DOMAIN = Buffer.from('kms-ckpt\u0001', 'latin1');

/** @throws KmsError `internal` if a member cannot be written as RFC 8785 JSON */
export function checkpointText(checkpoint: Checkpoint): string {
  const written = canonicalize(checkpoint);
  if (written === undefined) throw new KmsError('internal', 'the checkpoint is no JSON');
  return written;
}

/** What is signed. */
export function signedBytes(checkpoint: string): Uint8Array {
  return Buffer.concat([DOMAIN, Buffer.from(checkpoint)]);
}

/** @param signature raw r‖s, 64 bytes */
export function checkpointEvent(checkpoint: string, signature: Uint8Array): AuditEvent {
  const detail = { checkpoint, signature: Buffer.from(signature).toString('base64url') };
  return { event: CHECKPOINT_EVENT, result: 'success', detail };
}

/** The audit key as a verifier needs it. */
export interface CheckpointKey {
  readonly key: KeyObject;
  readonly fingerprint: string;
}

/**
 * @param publicKey SubjectPublicKeyInfo, DER
 * @throws KmsError `invalid-field` if it is no public key on P-256
 */
export function checkpointKey(publicKey: Uint8Array): CheckpointKey {
  const key = readKey(publicKey);
  if (key?.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new KmsError('invalid-field', 'the audit public key: expected an EC key on P-256');
  }
  return { key, fingerprint: chainHash(publicKey) };
}

function readKey(der: Uint8Array): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' });
  } catch {
    return undefined;
  }
}

export interface SignedCheckpoint {
  readonly checkpoint: Checkpoint;
  /** SHA-256 (hex) of its text: what the next one names as `previous`. */
  readonly hash: string;
}

/** @returns what the detail of a checkpoint's record holds, signature checked, or the reason why it does not hold */
export function readCheckpoint(detail: AuditEvent['detail'], key: CheckpointKey): SignedCheckpoint | string {
  const [written, signature] = [detail?.['checkpoint'], detail?.['signature']];
  if (typeof written !== 'string' || typeof signature !== 'string') return 'checkpoint without text or signature';
  const members = membersOf(parse(written));
  const wrong = Object.entries(SHAPE).find(([name, check]) => members === undefined || !check(members[name]));
  if (wrong !== undefined) return `checkpoint: member ${wrong[0]} is missing or malformed`;
  const checkpoint = members as unknown as Checkpoint;
  if (canonicalize(checkpoint) !== written) return 'checkpoint: not RFC 8785 JSON';
  if (checkpoint.publicKey !== key.fingerprint) return 'checkpoint of another audit key';
  const raw = decodeBase64url(signature);
  if (raw?.length !== 64 || !verify('sha256', signedBytes(written), { key: key.key, dsaEncoding: 'ieee-p1363' }, raw)) {
    return 'checkpoint: the signature does not hold';
  }
  return { checkpoint, hash: chainHash(written) };
}

const flag: Check = (value) => typeof value === 'boolean';
/** Of a record, or -1 for none. */
export const sequence: Check = (value) => value === -1 || count(value);

const storeHead: Check = (value) => {
  const members = membersOf(value);
  return members !== undefined && count(members['epoch']) && count(members['seq']) && text(members['mac']);
};

const peer: Check = (value) => {
  const members = membersOf(value);
  if (members === undefined) return false;
  return text(members['stream']) && sequence(members['seq']) && digest(members['head']) && flag(members['closed']);
};

const counters: Check = (value) => {
  const members = membersOf(value);
  return members !== undefined && Object.values(members).every(count);
};

const SHAPE: Readonly<Record<keyof Checkpoint, Check>> = {
  version: (value) => value === 1,
  kind: (value) => value === 'dev' || value === 'prod',
  installation: text,
  stream: text,
  host: text,
  boot: text,
  seq: sequence,
  head: digest,
  count,
  previous: digest,
  wall: count,
  mono: count,
  store: storeHead,
  peers: (value) => Array.isArray(value) && value.every(peer),
  counters,
  publicKey: digest,
  closed: flag,
};

function parse(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return undefined;
  }
}
