/** The bytes of an anchor (integrity §5). Pure; knows no token. */

import { timingSafeEqual } from 'node:crypto';
import { KmsError } from '../errors.ts';
import type { Mac } from './integrity-keys.ts';

/** Names one head of the store. */
export interface Anchor {
  readonly storeId: string;
  /** Store epoch, 4 bytes unsigned. */
  readonly epoch: number;
  /** Of the journal entry. */
  readonly seq: number;
  /** Of that journal entry, 32 bytes. */
  readonly journalMac: Uint8Array;
  /** SHA-256 of the sorted heads of the audit streams, 32 bytes. */
  readonly auditHeads: Uint8Array;
  /** Wall clock of the writer, milliseconds since 1970. */
  readonly writtenMs: number;
}

const MAGIC = Buffer.from('KMSA\u0001', 'latin1');
const HASH_BYTES = 32;
/** F(mac) at the end. */
const END_BYTES = 4 + HASH_BYTES;

/**
 * `KMSA` 0x01, F(installation), F(storeId), 4-byte epoch, 8-byte seq, F(journal mac), F(audit heads), 8-byte ms,
 * F(mac over all before); F(x) is a 4-byte length and the bytes, integers are big-endian, texts UTF-8.
 * @throws KmsError `internal` for a member outside its range
 */
export function encodeAnchor(anchor: Anchor, installation: string, mac: Mac): Uint8Array {
  const { storeId, epoch, seq, journalMac, auditHeads, writtenMs } = anchor;
  const body = Buffer.concat([
    MAGIC,
    field(Buffer.from(installation, 'utf8')),
    field(Buffer.from(storeId, 'utf8')),
    uint32(epoch),
    uint64(seq),
    field(exactly(HASH_BYTES, journalMac)),
    field(exactly(HASH_BYTES, auditHeads)),
    uint64(writtenMs),
  ]);
  return Buffer.concat([body, field(exactly(HASH_BYTES, mac(body)))]);
}

/** @returns undefined for anything but the bytes `encodeAnchor` makes for this installation with this key */
export function decodeAnchor(bytes: Uint8Array, installation: string, mac: Mac): Anchor | undefined {
  const given = Buffer.from(bytes);
  if (given.length < MAGIC.length + END_BYTES) return undefined;
  const body = given.subarray(0, -END_BYTES);
  if (!timingSafeEqual(field(mac(body)), given.subarray(-END_BYTES))) return undefined;
  const anchor = parse(body, installation);
  // Whatever the parser let pass, such as bytes that are no UTF-8: only one encoding counts.
  const same = anchor !== undefined && given.equals(encodeAnchor(anchor, installation, mac));
  return same ? anchor : undefined;
}

/** The mac holds, so this is ours; yet its key is derived for one installation and the layout may be a later one. */
function parse(body: Buffer, installation: string): Anchor | undefined {
  try {
    const reader = new Reader(body);
    if (!reader.take(MAGIC.length).equals(MAGIC) || reader.field().toString('utf8') !== installation) return undefined;
    const anchor = {
      storeId: reader.field().toString('utf8'),
      epoch: reader.take(4).readUInt32BE(),
      seq: Number(reader.take(8).readBigUInt64BE()),
      journalMac: exactly(HASH_BYTES, reader.field()),
      auditHeads: exactly(HASH_BYTES, reader.field()),
      writtenMs: Number(reader.take(8).readBigUInt64BE()),
    };
    return reader.atEnd && [anchor.seq, anchor.writtenMs].every(Number.isSafeInteger) ? anchor : undefined;
  } catch (error) {
    if (error instanceof KmsError) return undefined;
    throw error;
  }
}

/** Gives copies. @throws KmsError at the end of the bytes */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  take(length: number): Buffer {
    const taken = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return Buffer.from(exactly(length, taken));
  }

  field(): Buffer {
    return this.take(this.take(4).readUInt32BE());
  }
}

function field(bytes: Uint8Array): Buffer {
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw unfit();
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0) throw unfit();
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function exactly(length: number, bytes: Uint8Array): Uint8Array {
  if (bytes.length !== length) throw unfit();
  return bytes;
}

function unfit(): KmsError {
  return new KmsError('internal', 'an anchor has a member outside its range');
}
