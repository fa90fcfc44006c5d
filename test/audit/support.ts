/** What several audit tests need: places on disk, events, reading a stream without our own reader. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openAuditLog } from '../../src/audit/log.ts';
import type { AuditEvent, AuditRecord } from '../../src/audit/record.ts';

export const HOST = 'host-1';
export const BOOT = 'boot-1';
export const SEGMENT_BYTES = 16 * 1024;

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
