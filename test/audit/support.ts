/** What several audit tests need: places on disk, events, reading a stream without our own reader. */

import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

import { type AuditLogOptions, openAuditLog, type SealingParts } from '../../src/audit/log.ts';
import type { Checkpoint } from '../../src/audit/checkpoint.ts';
import type { AuditEvent, AuditRecord } from '../../src/audit/record.ts';
import { type StreamReport, verifyTree } from '../../src/audit/verify.ts';

export const HOST = 'host-1';
export const BOOT = 'boot-1';
export const SEGMENT_BYTES = 16 * 1024;

/** Stands for the token's audit key. */
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const PUBLIC_KEY: Uint8Array = pair.publicKey.export({ format: 'der', type: 'spki' });
export const PRIVATE_PEM = pair.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
export const TAIL_KEY = 'k-tail';

export const mac = (bytes: Uint8Array): Uint8Array => createHmac('sha256', TAIL_KEY).update(bytes).digest();

/** ES256, raw r‖s. */
export function signWith(key: KeyObject | string, bytes: Uint8Array): Uint8Array {
  return sign('sha256', bytes, { key: key as KeyObject, dsaEncoding: 'ieee-p1363' });
}

export function sealingParts(some: Partial<SealingParts> = {}): SealingParts {
  return {
    installation: 'installation-1',
    kind: 'dev',
    mac,
    sign: async (bytes) => signWith(pair.privateKey, bytes),
    publicKey: PUBLIC_KEY,
    storeHead: () => ({ epoch: 1, seq: 42, mac: 'ab'.repeat(32) }),
    peers: async () => [],
    takeCounters: () => ({}),
    onCheckpoint: () => undefined,
    ...some,
  };
}

const made: string[] = [];

export function tempDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-audit-'));
  made.push(directory);
  return directory;
}

export function removeTempDirectories(): void {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true });
}

export function eventOf(key: number): AuditEvent {
  return { event: 'key.encrypt', result: 'success', requestId: `r-${key}`, key: String(key), version: 1, algorithm: 'A256GCM' };
}

export function streamOf(directory: string): string {
  return join(directory, HOST, BOOT);
}

export function segmentsOf(stream: string): string[] {
  return readdirSync(stream).sort();
}

export function readRecords(stream: string): AuditRecord[] {
  const texts = segmentsOf(stream).map((name) => readFileSync(join(stream, name), 'utf8').split('\0')[0]!);
  return texts.flatMap((text) => text.split('\n').slice(0, -1)).map((line) => JSON.parse(line));
}

/** A closed stream of `count` records in segments of 16 KiB. */
export async function writeStream(directory: string, count: number, boot = BOOT): Promise<string> {
  const log = await openAuditLog({ directory, hostId: HOST, bootId: boot, segmentBytes: SEGMENT_BYTES });
  await Promise.all(Array.from({ length: count }, (_, key) => log.append(eventOf(key))));
  await log.close();
  return join(directory, HOST, boot);
}

/** A sealed stream of `count` records, appended one after the other, closed. */
export async function writeSealed(
  directory: string,
  count: number,
  options: Partial<AuditLogOptions> & { readonly parts?: Partial<SealingParts> } = {},
): Promise<string> {
  const { parts, ...others } = options;
  const place = { directory, hostId: HOST, bootId: BOOT, ...others };
  const log = await openAuditLog(place);
  log.seal(sealingParts(parts));
  for (let key = 0; key < count; key += 1) await log.append(eventOf(key));
  await log.close();
  return join(directory, place.hostId, place.bootId);
}

/** The report of one stream out of its tree. */
export async function verifyStream(stream: string): Promise<StreamReport> {
  const { streams } = await verifyTree(dirname(dirname(stream)), { publicKey: PUBLIC_KEY });
  return streams.find(({ host, boot }) => host === basename(dirname(stream)) && boot === basename(stream))!;
}

/** Lines of a stream, each without its newline. */
export function linesIn(stream: string): string[] {
  return segmentsOf(stream).flatMap((name) => readFileSync(join(stream, name), 'utf8').split('\0')[0]!.split('\n').slice(0, -1));
}

/** The checkpoints of a stream, and the sequence of the record of each. */
export function checkpointsIn(stream: string): { text: string; said: Checkpoint; signature: Buffer; seq: number }[] {
  return readRecords(stream).filter(({ event }) => event === 'audit.checkpoint').map(({ seq, detail }) => {
    const text = String(detail!['checkpoint']);
    return { text, said: JSON.parse(text) as Checkpoint, signature: Buffer.from(String(detail!['signature']), 'base64url'), seq };
  });
}
