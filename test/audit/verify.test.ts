import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeEach, describe, expect, test } from '@jest/globals';

import { recordLine, type AuditRecord } from '../../src/audit/record.ts';
import { verifyTree } from '../../src/audit/verify.ts';
import { BOOT, HOST, PUBLIC_KEY, removeTempDirectories, segmentsOf, tempDirectory, verifyStream, writeStream } from './support.ts';

afterAll(removeTempDirectories);

let directory: string;
let stream: string;

beforeEach(async () => {
  directory = tempDirectory();
  stream = await writeStream(directory, 300);
});

const pathOf = (file: string) => join(stream, file);
const linesOf = (file: string) => readFileSync(pathOf(file), 'utf8').split('\n').slice(0, -1);
const setLines = (file: string, lines: readonly string[]) => writeFileSync(pathOf(file), lines.map((l) => `${l}\n`).join(''));
const last = () => segmentsOf(stream).at(-1)!;

/** Rewrites a segment's lines. */
function edit(file: string, change: (lines: string[]) => void): void {
  const lines = linesOf(file);
  change(lines);
  setLines(file, lines);
}

/** Changes one byte of the text `from` in a line (counted from 1). */
function replaceIn(file: string, line: number, from: string, to: string): void {
  edit(file, (lines) => {
    expect(lines[line - 1]).toContain(from);
    lines[line - 1] = lines[line - 1]!.replace(from, to);
  });
}

async function problem() {
  const report = await verifyStream(stream);
  expect(report.ok).toBe(report.problem === undefined);
  return report.problem;
}

describe('first bad position', () => {
  test('none in a stream as it was written', async () => {
    expect(await verifyStream(stream)).toMatchObject({ records: 300, ok: true, torn: false, segments: segmentsOf(stream).length });
  });

  test('one byte of a middle record edited', async () => {
    replaceIn('000002.jsonl', 5, 'A256GCM', 'A257GCM');
    expect(await problem()).toEqual({ file: '000002.jsonl', line: 5, reason: 'the record after it holds another hash' });
  });

  test('one byte of the last record of a segment edited', async () => {
    const line = linesOf('000001.jsonl').length;
    replaceIn('000001.jsonl', line, 'A256GCM', 'A257GCM');
    expect(await problem()).toMatchObject({ file: '000001.jsonl', line });
  });

  test.each([
    ['prev', '"prev":"', '"prev":"0', 'member prev is missing or malformed'],
    ['seq', '"seq":', '"seq":9', 'seq 9'],
    ['host', HOST, 'host-2', 'record of another stream'],
    ['boot', BOOT, 'boot-2', 'record of another stream'],
    ['result', '"success"', '"succeess"', 'member result'],
    ['brace', '{', '(', 'not a JSON object'],
  ])('%s edited', async (_, from, to, reason) => {
    replaceIn('000002.jsonl', 3, from, to);
    const found = await problem();
    expect(found).toMatchObject({ file: '000002.jsonl', line: 3 });
    expect(found!.reason).toContain(reason);
  });

  test('a digit of prev edited', async () => {
    edit('000002.jsonl', (lines) => {
      lines[4] = lines[4]!.replace(/"prev":"(.)/, (_, digit) => `"prev":"${digit === 'a' ? 'b' : 'a'}`);
    });
    expect(await problem()).toEqual({ file: '000002.jsonl', line: 5, reason: 'prev is not the hash of the record before' });
  });

  test('a byte that is no UTF-8', async () => {
    const bytes = readFileSync(pathOf('000001.jsonl'));
    bytes[bytes.indexOf('A256GCM')] = 0xff;
    writeFileSync(pathOf('000001.jsonl'), bytes);
    expect(await problem()).toMatchObject({ file: '000001.jsonl', line: 1, reason: 'not a JSON object' });
  });

  test('a middle record dropped', async () => {
    edit('000002.jsonl', (lines) => lines.splice(9, 1));
    expect(await problem()).toMatchObject({ file: '000002.jsonl', line: 10, reason: expect.stringMatching(/^seq/) });
  });

  test('the first record dropped', async () => {
    edit('000001.jsonl', (lines) => lines.splice(0, 1));
    expect(await problem()).toEqual({ file: '000001.jsonl', line: 1, reason: 'seq 1 instead of 0' });
  });

  test('two records swapped', async () => {
    edit('000002.jsonl', (lines) => lines.splice(6, 2, lines[7]!, lines[6]!));
    expect(await problem()).toMatchObject({ file: '000002.jsonl', line: 7, reason: expect.stringMatching(/^seq/) });
  });

  test.each(['000001.jsonl', '000002.jsonl'])('segment %s missing', async (file) => {
    rmSync(pathOf(file));
    expect(await problem()).toEqual({ file, line: 1, reason: 'segment missing' });
  });

  test('every segment missing', async () => {
    for (const file of segmentsOf(stream)) rmSync(pathOf(file));
    expect(await problem()).toEqual({ file: '000001.jsonl', line: 1, reason: 'segment missing' });
  });

  test('two segments swapped', async () => {
    renameSync(pathOf('000002.jsonl'), pathOf('x'));
    renameSync(pathOf('000003.jsonl'), pathOf('000002.jsonl'));
    renameSync(pathOf('x'), pathOf('000003.jsonl'));
    expect(await problem()).toMatchObject({ file: '000002.jsonl', line: 1 });
  });

  test('a forged record appended', async () => {
    const line = linesOf(last()).length + 1;
    const forged = JSON.parse(linesOf(last()).at(-1)!) as AuditRecord;
    const members = '"event":"key.destroy","result":"success"';
    appendFileSync(pathOf(last()), `${recordLine({ ...forged, seq: 300, prev: 'ab'.repeat(32) }, members)}\n`);
    expect(await problem()).toMatchObject({ file: last(), line, reason: 'prev is not the hash of the record before' });
  });

  test('the last record appended once more', async () => {
    const line = linesOf(last()).length + 1;
    edit(last(), (lines) => lines.push(lines.at(-1)!));
    expect(await problem()).toEqual({ file: last(), line, reason: 'seq 299 instead of 300' });
  });

  test('a line longer than any record', async () => {
    const line = linesOf(last()).length + 1;
    appendFileSync(pathOf(last()), 'x'.repeat(200_000));
    expect(await problem()).toMatchObject({ file: last(), line, reason: 'line longer than any record' });
  });

  test('a segment cut in the middle of a line, with others after it', async () => {
    writeFileSync(pathOf('000001.jsonl'), readFileSync(pathOf('000001.jsonl')).subarray(0, -30));
    const line = linesOf('000001.jsonl').length + 1;
    expect(await problem()).toEqual({ file: '000001.jsonl', line, reason: 'line without newline, and more after it' });
  });
});

describe('a process that died', () => {
  test('a torn last line is no break', async () => {
    writeFileSync(pathOf(last()), readFileSync(pathOf(last())).subarray(0, -30));
    expect(await verifyStream(stream)).toMatchObject({ records: 299, ok: true, torn: true });
  });

  test('nor is one before the zeros and a prepared segment', async () => {
    const whole = readFileSync(pathOf(last()));
    writeFileSync(pathOf(last()), Buffer.concat([whole.subarray(0, -30), Buffer.alloc(5000), Buffer.from('junk\n')]));
    const next = `${String(segmentsOf(stream).length + 1).padStart(6, '0')}.jsonl`;
    writeFileSync(pathOf(next), Buffer.alloc(5000));
    writeFileSync(pathOf('000099.jsonl.draft'), Buffer.alloc(100));
    expect(await verifyStream(stream)).toMatchObject({ records: 299, ok: true, torn: true });
  });
});

describe('verifyTree', () => {
  test('covers every stream and is as good as the worst', async () => {
    await writeStream(directory, 3, 'boot-2');
    mkdirSync(join(directory, HOST, '.boot-3'));
    expect(await verifyTree(directory, { publicKey: PUBLIC_KEY })).toMatchObject({
      ok: true,
      streams: [
        { host: HOST, boot: BOOT, records: 300, ok: true },
        { host: HOST, boot: 'boot-2', records: 3, ok: true },
      ],
    });
    replaceIn('000001.jsonl', 2, 'A256GCM', 'A257GCM');
    const report = await verifyTree(directory, { publicKey: PUBLIC_KEY });
    expect(report.ok).toBe(false);
    expect(report.streams.map(({ ok }) => ok)).toEqual([false, true]);
    expect(report.streams[0]!.problem).toMatchObject({ file: '000001.jsonl', line: 2 });
  });

  test('a directory that is not there is an error, not an empty success', async () => {
    await expect(verifyTree(join(directory, 'nowhere'), { publicKey: PUBLIC_KEY })).rejects.toMatchObject({ code: 'audit-unavailable' });
  });
});
