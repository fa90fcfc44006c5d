/** What survives a killed process and a full disk (S-6). */

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, afterEach, describe, expect, test } from '@jest/globals';

import { openAuditLog } from '../../src/audit/log.ts';
import { eventually } from '../support/wait.ts';
import { Appender, killAppenders } from './appender.ts';
import { BOOT, HOST, eventOf, readRecords, removeTempDirectories, streamOf, tempDirectory, verifyStream } from './support.ts';

afterEach(killAppenders);

const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0;
const tmpfs = mountTmpfs();
if (!hasPrlimit) console.warn('SKIPPED: the file size limit needs prlimit (util-linux)');
if (tmpfs === undefined) console.warn('SKIPPED: the full disk needs the right to mount a tmpfs');

function mountTmpfs(): string | undefined {
  const directory = tempDirectory();
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', directory]).status === 0 ? directory : undefined;
}

afterAll(() => {
  if (tmpfs !== undefined) execFileSync('umount', [tmpfs]);
  removeTempDirectories();
});

const keysIn = (directory: string) => readRecords(streamOf(directory)).map(({ key }) => key!);

describe('SIGKILL', () => {
  test.each([1, 2, 3])('every acknowledged record is readable (round %i)', async (round) => {
    const directory = tempDirectory();
    const appender = Appender.start(directory, 64 * 1024);
    await appender.more('written', 400 * round);
    await appender.kill();
    const report = await verifyStream(streamOf(directory));
    expect(report.problem).toBeUndefined();
    expect(report.segments).toBeGreaterThan(1);
    const keys = new Set(keysIn(directory));
    expect([...appender.written].filter((key) => !keys.has(key))).toEqual([]);
    expect(report.records).toBe(keys.size);
  });
});

describe('a write that stops in the middle', () => {
  const limit = (pid: number, bytes: string) => execFileSync('prlimit', [`--pid=${pid}`, `--fsize=${bytes}:`]);

  (hasPrlimit ? test : test.skip)('refused records are nowhere, and the chain goes on', async () => {
    const directory = tempDirectory();
    const appender = Appender.start(directory, 4 * 1024 * 1024);
    await appender.more('written', 100);
    limit(appender.pid, '500000');
    await appender.more('refused', 100);
    expect([...appender.codes].sort()).toEqual(['audit-unavailable', 'ok']);
    const full = keysIn(directory);
    expect(new Set(full)).toEqual(appender.written);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: full.length, ok: true, torn: false });

    limit(appender.pid, 'unlimited');
    await appender.more('written', 200);
    expect(await appender.stop()).toBe(0);
    const keys = keysIn(directory);
    expect(new Set(keys)).toEqual(appender.written);
    expect(keys.filter((key) => appender.refused.has(key))).toEqual([]);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: keys.length, ok: true, torn: false });
  });

  (hasPrlimit ? test : test.skip)('a process killed before its retry leaves no refused record', async () => {
    const directory = tempDirectory();
    const appender = Appender.start(directory, 4 * 1024 * 1024);
    await appender.more('written', 100);
    limit(appender.pid, '500000');
    await appender.more('refused', 20);
    await appender.kill();
    expect(new Set(keysIn(directory))).toEqual(appender.written);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ ok: true, torn: false });
  });
});

describe('a full disk', () => {
  (tmpfs === undefined ? test.skip : test)('no acknowledged record is lost, and it goes on when there is space', async () => {
    const directory = join(tmpfs!, 'audit');
    const ballast = join(tmpfs!, 'ballast');
    mkdirSync(directory);
    writeFileSync(ballast, Buffer.alloc(128 * 1024));
    const log = await openAuditLog({ directory, hostId: HOST, bootId: BOOT, segmentBytes: 32 * 1024 });
    const written: string[] = [];
    let next = 0;
    const appendOne = async () => {
      const key = next++;
      await log.append(eventOf(key));
      written.push(String(key));
    };
    await expect(fillDisk(appendOne)).rejects.toMatchObject({ code: 'audit-unavailable', retryAfter: 1 });
    expect(log.healthy()).toBe(false);
    await expect(log.append(eventOf(-1))).rejects.toMatchObject({ code: 'audit-unavailable' });
    expect(keysIn(directory)).toEqual(written);

    rmSync(ballast);
    await eventually('the log is healthy again', () => log.healthy());
    const before = written.length;
    for (let n = 0; n < 200; n += 1) await appendOne();
    await log.close();
    expect(keysIn(directory)).toEqual(written);
    expect(written).toHaveLength(before + 200);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ records: written.length, ok: true, torn: false });
  });
});

async function fillDisk(appendOne: () => Promise<void>): Promise<never> {
  for (;;) await appendOne();
}
