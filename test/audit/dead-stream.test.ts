/** Taking over the stream of a process that is gone (design §8). */

import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';

import { readDeadStream } from '../../src/audit/dead-stream.ts';
import { type AuditLog, openAuditLog } from '../../src/audit/log.ts';
import { abandonEvent, adoptionEvent, recoveryEvent } from '../../src/audit/stream-events.ts';
import { verifyTree } from '../../src/audit/verify.ts';
import { eventually } from '../support/wait.ts';
import { Appender, killAppenders } from './appender.ts';
import {
  BOOT,
  HOST,
  PUBLIC_KEY,
  SEGMENT_BYTES,
  checkpointsIn,
  eventOf,
  linesIn,
  mac,
  readRecords,
  removeTempDirectories,
  sealingParts,
  segmentsOf,
  streamOf,
  tempDirectory,
} from './support.ts';

afterAll(removeTempDirectories);
afterEach(killAppenders);

let directory: string;
let signs: boolean;

beforeEach(() => {
  directory = tempDirectory();
  signs = true;
});

const open = (bootId = BOOT) => openAuditLog({ directory, hostId: HOST, bootId, segmentBytes: SEGMENT_BYTES });
const sign = async (bytes: Uint8Array) => (signs ? sealingParts().sign(bytes) : Promise.reject(new Error('token away')));
const read = (keys: object = {}) => readDeadStream(directory, HOST, BOOT, { mac, publicKey: PUBLIC_KEY, ...keys });
/** The last one with a record in it: one may be prepared, or being prepared, after it. */
const lastFile = () =>
  segmentsOf(streamOf(directory)).filter((name) => name.endsWith('.jsonl')).map((name) => join(streamOf(directory), name))
    .filter((path) => readFileSync(path)[0] !== 0).at(-1)!;

/** A stream with a checkpoint and a tail of `tail` records, that nobody closed. */
async function writeDead(tail: number): Promise<void> {
  const log = await open();
  await log.append(eventOf(-1));
  log.seal(sealingParts({ sign, takeCounters: () => ({ aa: 512 }) }));
  for (let key = 0; key < 10; key += 1) await log.append(eventOf(key));
  await eventually('the records are signed', () => log.head().checkpoint !== '0'.repeat(64) && checkpointsIn(streamOf(directory)).at(-1)!.said.count >= 11);
  signs = false;
  for (let key = 10; key < 10 + tail; key += 1) await log.append(eventOf(key));
  await log.close();
}

describe('after kill -9', () => {
  test.each([1, 2, 3])('every acknowledged record is there, macs hold, and the successor adopts it (round %i)', async (round) => {
    const appender = Appender.start(directory, 64 * 1024, 'sealed');
    await appender.more('written', 600 * round);
    await eventually('the child writes a checkpoint', () => appender.reserved > 0);
    await appender.more('written', 40);
    await appender.kill();
    // What a write that was cut short leaves.
    writeFileSync(lastFile(), `${readFileSync(lastFile(), 'utf8').split('\0')[0]}{"seq":9`);

    const dead = await read();
    expect(dead.problem).toBeUndefined();
    expect(dead).toMatchObject({ stream: `${HOST}/${BOOT}`, torn: true, closed: false, unauthenticated: 0 });
    expect(dead.lastCheckpoint).not.toBeNull();
    expect(dead.counters['ff']).toBeGreaterThanOrEqual(appender.reserved);
    const keys = new Set(readRecords(streamOf(directory)).map(({ key }) => key));
    expect([...appender.written].filter((key) => !keys.has(key))).toEqual([]);
    const asked = new Set([...appender.written].map((key) => `r-${key}`));
    expect(await dead.outcomes(new Set([...asked, 'r-never']))).toEqual(asked);

    const successor = await open('successor');
    successor.seal(sealingParts());
    await successor.append(adoptionEvent(dead));
    await successor.close();
    const report = await verifyTree(directory, { publicKey: PUBLIC_KEY });
    expect(report).toMatchObject({
      ok: true,
      streams: [{ boot: BOOT, state: 'adopted', records: dead.records, torn: true, unsealedTail: dead.tail }, { state: 'closed' }],
    });
  });
});

describe('a dead stream', () => {
  test('is told as it is', async () => {
    await writeDead(4);
    const lines = linesIn(streamOf(directory));
    const { said } = checkpointsIn(streamOf(directory)).at(-1)!;
    const dead = await read();
    expect(dead).toMatchObject({
      ...{ stream: `${HOST}/${BOOT}`, records: lines.length, seq: lines.length - 1, tail: 4, unauthenticated: 0, torn: false },
      ...{ closed: false, lastCheckpoint: said, counters: { aa: 512 } },
    });
    expect(dead.problem).toBeUndefined();
    expect(dead.head).toBe(createHash('sha256').update(lines.at(-1)!).digest('hex'));
    expect(adoptionEvent(dead)).toEqual({
      event: 'stream.adopt',
      result: 'success',
      detail: { stream: `${HOST}/${BOOT}`, seq: dead.seq, head: dead.head, torn: false },
    });
  });

  test('that was never sealed is all tail, without macs', async () => {
    const log = await open();
    await log.append(eventOf(0));
    await log.append(eventOf(1));
    await log.close();
    expect(await read()).toMatchObject({ records: 2, tail: 2, unauthenticated: 2, lastCheckpoint: null, counters: {} });
  });

  test('that was sealed and never signed: only the first records are unauthenticated', async () => {
    const log = await open();
    await log.append(eventOf(0));
    signs = false;
    log.seal(sealingParts({ sign }));
    await log.append(eventOf(1));
    await log.close();
    expect(await read()).toMatchObject({ records: 2, tail: 2, unauthenticated: 1, lastCheckpoint: null });
  });

  test('without a record', async () => {
    await (await open()).close();
    expect(await read()).toMatchObject({ records: 0, seq: -1, head: '0'.repeat(64), tail: 0 });
    const successor = await open('successor');
    await successor.append(adoptionEvent(await read()));
    await successor.close();
    expect(await verifyTree(directory, { publicKey: PUBLIC_KEY })).toMatchObject({ ok: true, streams: [{ state: 'adopted' }, {}] });
    appendFileSync(lastFile(), readFileSync(join(directory, HOST, 'successor', '000001.jsonl'), 'utf8').replace('successor', BOOT));
    expect((await verifyTree(directory, { publicKey: PUBLIC_KEY })).streams[0]!.problem).toMatchObject({ file: '000001.jsonl', line: 1 });
  });

  test('that was closed says so', async () => {
    const log = await open();
    log.seal(sealingParts({ sign }));
    await log.append(eventOf(0));
    await log.close();
    expect(await read()).toMatchObject({ closed: true, tail: 0 });
  });

  test('a forged record in the tail is a problem, whether its mac is wrong or of another key', async () => {
    await writeDead(4);
    const lines = linesIn(streamOf(directory));
    const text = readFileSync(lastFile(), 'utf8');
    writeFileSync(lastFile(), text.replace(lines.at(-1)!, lines.at(-1)!.replace('A256GCM', 'A128GCM')));
    const line = text.split('\n').length - 1;
    expect((await read()).problem).toMatchObject({ line, reason: 'the mac does not hold' });
    writeFileSync(lastFile(), text);
    expect((await read()).problem).toBeUndefined();
    // The record of the last checkpoint is not covered either.
    expect((await read({ mac: () => Buffer.alloc(32) })).problem).toMatchObject({ line: line - 4, reason: 'the mac does not hold' });
  });

  test('a torn line with more after it is a problem', async () => {
    await writeDead(1);
    const text = readFileSync(join(streamOf(directory), '000001.jsonl'), 'utf8');
    writeFileSync(lastFile(), text.slice(0, -20));
    writeFileSync(join(streamOf(directory), '000002.jsonl'), text);
    expect((await read()).problem).toMatchObject({ file: '000001.jsonl', reason: 'line without newline, and more after it' });
  });

  test('that is not there is an error', async () => {
    await expect(read()).rejects.toMatchObject({ code: 'audit-unavailable' });
  });
});

describe('outcomes', () => {
  const write = async (fill: (log: AuditLog) => Promise<unknown>) => {
    const log = await open();
    await fill(log);
    await log.close();
    return read();
  };

  test('any record counts, whatever its result, in any segment', async () => {
    const dead = await write(async (log) => {
      await log.append({ event: 'key.create', result: 'success', requestId: 'first' });
      for (let key = 0; key < 200; key += 1) await log.append(eventOf(key));
      await log.append({ event: 'key.create', result: 'failed', reason: 'internal', requestId: 'failed' });
      await log.append({ event: 'key.create', result: 'refused', requestId: 'with "quotes" and \\' });
    });
    expect(segmentsOf(streamOf(directory)).length).toBeGreaterThan(2);
    const asked = new Set(['first', 'failed', 'with "quotes" and \\', 'r-17', 'r-199', 'r-200', 'fail', '']);
    expect(await dead.outcomes(asked)).toEqual(new Set(['first', 'failed', 'with "quotes" and \\', 'r-17', 'r-199']));
    expect(await dead.outcomes(new Set())).toEqual(new Set());
  });

  test('neither a recovery nor a text that looks like a request id counts', async () => {
    const dead = await write(async (log) => {
      await log.append(recoveryEvent({ requestId: 'recovered', stream: 'h/b', journalSeq: 3, table: 'keys' }));
      await log.append({ event: 'x', result: 'success', detail: { requestId: 'in-detail' } });
      await log.append({ event: 'x', result: 'success', vault: '"requestId":"in-text"' });
    });
    expect(await dead.outcomes(new Set(['recovered', 'in-detail', 'in-text']))).toEqual(new Set());
  });

  test('a torn line does not count', async () => {
    await writeDead(2);
    writeFileSync(lastFile(), readFileSync(lastFile(), 'utf8').slice(0, -5));
    expect(await (await read()).outcomes(new Set(['r-10', 'r-11']))).toEqual(new Set(['r-10']));
  });

  test('a segment that vanished is an error', async () => {
    await writeDead(2);
    const dead = await read();
    rmSync(lastFile());
    await expect(dead.outcomes(new Set(['r-1']))).rejects.toMatchObject({ code: 'audit-unavailable' });
  });
});

test('records about other streams', () => {
  expect(recoveryEvent({ requestId: 'r', stream: 'h/b', journalSeq: 3, table: 'keys', key: 'k', vault: 'v' })).toEqual({
    ...{ event: 'recovery', result: 'success', requestId: 'r', key: 'k', vault: 'v' },
    detail: { stream: 'h/b', journalSeq: 3, table: 'keys' },
  });
  expect(abandonEvent({ stream: 'h/b', seq: 4, head: 'ab'.repeat(32) }, 'gone')).toEqual({
    event: 'stream.abandon',
    result: 'success',
    detail: { stream: 'h/b', seq: 4, head: 'ab'.repeat(32), torn: false, reason: 'gone' },
  });
});
