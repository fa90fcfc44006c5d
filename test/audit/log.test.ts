import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from '@jest/globals';

import { openAuditLog } from '../../src/audit/log.ts';
import { FIRST_PREV, chainHash } from '../../src/audit/record.ts';
import {
  BOOT,
  HOST,
  SEGMENT_BYTES,
  eventOf,
  readRecords,
  removeTempDirectories,
  segmentsOf,
  streamOf,
  tempDirectory,
  verifyStream,
} from './support.ts';

afterAll(removeTempDirectories);

const open = (directory: string, segmentBytes = SEGMENT_BYTES) =>
  openAuditLog({ directory, hostId: HOST, bootId: BOOT, segmentBytes });

describe('append', () => {
  test('resolves when the record is on disk, before any close', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    await log.append({ ...eventOf(7), principal: { method: 'mtls', issuer: 'ca', subject: 'CN=a' } });
    const text = readFileSync(join(streamOf(directory), '000001.jsonl'), 'latin1');
    const line = text.slice(0, text.indexOf('\n'));
    expect(text.slice(line.length + 1)).toMatch(/^\0+$/);
    expect(text).toHaveLength(SEGMENT_BYTES);
    expect(JSON.parse(line)).toMatchObject({ seq: 0, host: HOST, boot: BOOT, prev: FIRST_PREV, key: '7' });
    expect(log.stats()).toEqual({ records: 1, groups: 1, bytes: line.length + 1 });
    await log.close();
  });

  test('1,000 at once are one chain in few groups', async () => {
    const directory = tempDirectory();
    const log = await open(directory, 8 * 1024 * 1024);
    await Promise.all(Array.from({ length: 1000 }, (_, key) => log.append(eventOf(key))));
    expect(log.stats()).toMatchObject({ records: 1000, groups: 2 });
    await log.close();
    expect(await verifyStream(streamOf(directory))).toEqual({
      ...{ host: HOST, boot: BOOT, state: 'open', records: 1000, segments: 1, ok: true, torn: false },
      ...{ checkpoints: 0, unsealedSegments: 0, unsealedTail: 1000 },
    });
    expect(readRecords(streamOf(directory)).map(({ key }) => key)).toEqual(Array.from({ length: 1000 }, (_, key) => String(key)));
  });

  test('those that arrive during a write are the next group', async () => {
    const log = await open(tempDirectory(), 1024 * 1024);
    const appends: Promise<void>[] = [];
    for (let turn = 0; turn < 200; turn += 1) {
      appends.push(log.append(eventOf(turn)), log.append(eventOf(turn)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(appends);
    expect(log.stats().records).toBe(400);
    expect(log.stats().groups).toBeLessThan(200);
    await log.close();
  });

  test('the chain goes on across segments, each cut to its records', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    for (let key = 0; key < 300; key += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, n) => log.append(eventOf(key + n))));
    }
    await log.close();
    const stream = streamOf(directory);
    const report = await verifyStream(stream);
    expect(report).toMatchObject({ records: 300, ok: true, torn: false });
    expect(report.segments).toBeGreaterThan(4);
    expect(segmentsOf(stream)).toHaveLength(report.segments);
    for (const name of segmentsOf(stream)) {
      const text = readFileSync(join(stream, name), 'latin1');
      expect(text).toMatch(/^[^\0]+\n$/);
      expect(text.length).toBeLessThanOrEqual(SEGMENT_BYTES);
    }
    const lines = segmentsOf(stream).flatMap((name) => readFileSync(join(stream, name), 'utf8').split('\n').slice(0, -1));
    for (const [index, line] of lines.slice(1).entries()) expect(JSON.parse(line).prev).toBe(chainHash(lines[index]!));
  });

  test('a wrong event is refused alone', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    const appends = [
      log.append(eventOf(0)),
      log.append({ ...eventOf(1), detail: { text: 'x'.repeat(16 * 1024) } }),
      log.append({ ...eventOf(2), bits: Number.NaN }),
      log.append({ ...eventOf(3), detail: { nested: { plaintext: 'x' } as never } }),
      log.append(eventOf(4)),
    ];
    const outcomes = await Promise.allSettled(appends);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'internal' } });
    await log.close();
    expect(readRecords(streamOf(directory)).map(({ key }) => key)).toEqual(['0', '4']);
  });

  test('members outside the type stay out', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    const principal = { method: 'jwt', issuer: 'i', subject: 's', accessToken: 'MARKER' };
    await log.append({ ...eventOf(0), principal, plaintext: 'MARKER' } as never);
    await log.close();
    expect(readFileSync(join(streamOf(directory), '000001.jsonl'), 'utf8')).not.toContain('MARKER');
  });

  test('NUL and newline in a text do not end a record', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    await log.append({ ...eventOf(0), vault: 'a\0b\nc\u2028é\ud800' });
    await log.append(eventOf(1));
    await log.close();
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: 2, ok: true });
    expect(readRecords(streamOf(directory))[0]!.vault).toBe('a\0b\nc\u2028é\ud800');
  });
});

describe('close', () => {
  test('writes what waits, then refuses', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    const waiting = log.append(eventOf(0));
    const closed = log.close();
    const late = expect(log.append(eventOf(1))).rejects.toMatchObject({ code: 'audit-unavailable', retryAfter: 1 });
    await Promise.all([waiting, closed, late, log.close()]);
    expect(log.healthy()).toBe(false);
    const file = join(streamOf(directory), '000001.jsonl');
    expect(statSync(file).size).toBe(log.stats().bytes);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: 1, ok: true, torn: false });
  });

  test('leaves no segment that was prepared for nothing', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    while (log.stats().bytes < SEGMENT_BYTES * 0.75) await log.append(eventOf(0));
    await log.close();
    expect(readdirSync(streamOf(directory))).toEqual(['000001.jsonl']);
  });

  test('a stream without a record is an empty segment', async () => {
    const directory = tempDirectory();
    await (await open(directory)).close();
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: 0, segments: 1, ok: true, torn: false });
  });
});

describe('openAuditLog', () => {
  test('never continues a stream', async () => {
    const directory = tempDirectory();
    const log = await open(directory);
    await log.append(eventOf(0));
    await expect(open(directory)).rejects.toMatchObject({ code: 'audit-unavailable' });
    await log.append(eventOf(1));
    await log.close();
    await expect(open(directory)).rejects.toMatchObject({ code: 'audit-unavailable' });
    expect(readdirSync(join(directory, HOST))).toEqual([BOOT]);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: 2, ok: true });
  });

  test('refuses a place it cannot write', async () => {
    const directory = join(tempDirectory(), 'file');
    await (await import('node:fs/promises')).writeFile(directory, '');
    await expect(open(directory)).rejects.toMatchObject({ code: 'audit-unavailable', retryAfter: 1 });
  });

  test.each([
    ['hostId', '../other'],
    ['bootId', '.hidden'],
    ['bootId', ''],
    ['segmentBytes', 1024],
    ['segmentBytes', Number.NaN],
  ])('refuses %s %p', async (name, value) => {
    const options = { directory: tempDirectory(), hostId: HOST, bootId: BOOT, [name]: value };
    await expect(openAuditLog(options)).rejects.toMatchObject({ code: 'internal' });
  });
});
