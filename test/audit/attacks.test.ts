/** Each attack on the files of the audit (S-5), and the position at which verification finds it. */

import { createHash, generateKeyPairSync } from 'node:crypto';
import { appendFileSync, cpSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';

import { readDeadStream } from '../../src/audit/dead-stream.ts';
import { openAuditLog, type PeerHead, type StreamHead } from '../../src/audit/log.ts';
import { abandonEvent, adoptionEvent } from '../../src/audit/stream-events.ts';
import { type KnownStream, type VerifyOptions, verifyTree } from '../../src/audit/verify.ts';
import { eventually } from '../support/wait.ts';
import {
  HOST,
  PUBLIC_KEY,
  SEGMENT_BYTES,
  checkpointsIn,
  eventOf,
  linesIn,
  mac,
  removeTempDirectories,
  sealingParts,
  segmentsOf,
  signWith,
  tempDirectory,
  writeSealed,
} from './support.ts';

afterAll(removeTempDirectories);

/** `dead` was killed and adopted by `last`; `closed` ended well; `last` may be running and knows the two and one elsewhere. */
let honest: string;
let lastHead: StreamHead;
const ELSEWHERE: PeerHead = { stream: 'host-2/boot-x', seq: 9, head: 'cd'.repeat(32), closed: false };

beforeAll(async () => {
  honest = tempDirectory();
  await writeSealed(honest, 100, { bootId: 'closed', segmentBytes: SEGMENT_BYTES });
  const dead = await openAuditLog({ directory: honest, hostId: HOST, bootId: 'dead', segmentBytes: SEGMENT_BYTES });
  let signs = true;
  const heads: StreamHead[] = [];
  dead.seal(sealingParts({
    sign: async (bytes) => (signs ? sealingParts().sign(bytes) : Promise.reject(new Error('token away'))),
    onCheckpoint: (head) => heads.push(head),
  }));
  for (let key = 0; key < 30; key += 1) await dead.append(eventOf(key));
  await eventually('the records are signed', () => heads.at(-1) !== undefined && heads.at(-1)!.seq >= 30);
  signs = false;
  for (let key = 30; key < 35; key += 1) await dead.append(eventOf(key));
  await dead.close();
  const { seq, head } = endOf('closed');
  lastHead = await writeLast([heads.at(-1)!, { stream: `${HOST}/closed`, seq, head, closed: true }, ELSEWHERE]);
});

function endOf(boot: string): { readonly stream: string; readonly seq: number; readonly head: string } {
  const lines = linesIn(join(honest, HOST, boot));
  return { stream: `${HOST}/${boot}`, seq: lines.length - 1, head: sha256(lines.at(-1)!) };
}

async function writeLast(peers: readonly PeerHead[]): Promise<StreamHead> {
  const log = await openAuditLog({ directory: honest, hostId: HOST, bootId: 'last', segmentBytes: SEGMENT_BYTES, closeMs: 0 });
  let told = 0;
  log.seal(sealingParts({
    peers: async () => peers.map(({ stream, seq, head, closed }) => ({ stream, seq, head, closed })),
    // The closing one is refused: the stream stays open.
    sign: async (bytes) => (Buffer.from(bytes).includes('"closed":true,"count"') ? Promise.reject(new Error()) : sealingParts().sign(bytes)),
    onCheckpoint: () => { told += 1; },
  }));
  await log.append(adoptionEvent(await readDeadStream(honest, HOST, 'dead', { mac, publicKey: PUBLIC_KEY })));
  for (let key = 0; key < 10; key += 1) await log.append(eventOf(key));
  await eventually('a checkpoint is written', () => told > 0);
  for (let key = 10; key < 13; key += 1) await log.append(eventOf(key));
  const head = log.head();
  await log.close();
  return head;
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

let directory: string;

beforeEach(() => {
  directory = tempDirectory();
  cpSync(honest, directory, { recursive: true });
});

const pathOf = (boot: string, file = '') => join(directory, HOST, boot, file);
const check = (some: Partial<VerifyOptions> = {}) => verifyTree(directory, { publicKey: PUBLIC_KEY, ...some });

async function reportOf(boot: string, some: Partial<VerifyOptions> = {}) {
  const report = await check(some);
  const stream = report.streams.find((one) => one.boot === boot)!;
  expect(stream.ok).toBe(stream.problem === undefined);
  if (!stream.ok) expect(report.ok).toBe(false);
  return stream;
}

/** Where line `index` (from 0) of a stream stands. */
function placeOf(boot: string, index: number): { readonly file: string; readonly line: number } {
  let rest = index;
  for (const file of segmentsOf(join(honest, HOST, boot))) {
    const count = readFileSync(join(honest, HOST, boot, file), 'utf8').split('\n').length - 1;
    if (rest < count) return { file, line: rest + 1 };
    rest -= count;
  }
  throw new Error(`${boot} has no record ${index}`);
}

/** The line after the last one. */
function afterLast(boot: string): { readonly file: string; readonly line: number } {
  const { file, line } = placeOf(boot, linesIn(join(honest, HOST, boot)).length - 1);
  return { file, line: line + 1 };
}

/** Changes the lines of a stream, all in one segment afterwards. */
function rewrite(boot: string, change: (lines: string[]) => string[]): void {
  const lines = change(linesIn(pathOf(boot)));
  for (const file of segmentsOf(pathOf(boot))) rmSync(pathOf(boot, file));
  writeFileSync(pathOf(boot, '000001.jsonl'), lines.map((line) => `${line}\n`).join(''));
}

/** What an attacker without keys can do: sequence and chain anew from `from` on. */
function chained(lines: readonly string[], from: number): string[] {
  const out = lines.slice(0, from);
  for (const line of lines.slice(from)) {
    const prev = out.length === 0 ? '0'.repeat(64) : sha256(out.at(-1)!);
    out.push(JSON.stringify({ ...(JSON.parse(line) as object), seq: out.length, prev }));
  }
  return out;
}

const indexOfCheckpoint = (boot: string, n: number) => checkpointsIn(join(honest, HOST, boot)).at(n)!.seq;
/** In one segment the line is the index + 1. */
const inOne = (index: number) => ({ file: '000001.jsonl', line: index + 1 });
const forged = (lines: readonly string[]) => ({ ...(JSON.parse(lines.find((line) => line.includes('key.encrypt'))!) as object), key: 'forged' });

test('nothing is wrong with the streams as they were written', async () => {
  expect(await check()).toMatchObject({
    ...{ ok: true, missing: [], elsewhere: ['host-2/boot-x'] },
    streams: [
      { boot: 'closed', state: 'closed', unsealedTail: 0, ok: true },
      { boot: 'dead', state: 'adopted', unsealedTail: 5, ok: true },
      { boot: 'last', state: 'open', unsealedTail: 3, ok: true },
    ],
  });
  expect((await check({ mac, installation: 'installation-1' })).ok).toBe(true);
});

describe('one byte edited', () => {
  const offsets = (size: number) => Array.from({ length: 60 }, (_, n) => Math.floor(((n + 0.37) * size) / 60));

  test.each(['closed', 'dead'])('anywhere in %s', async (boot) => {
    for (const file of segmentsOf(pathOf(boot))) {
      const bytes = readFileSync(pathOf(boot, file));
      for (const at of [...offsets(bytes.length), bytes.length - 2, bytes.length - 1]) {
        const changed = Buffer.from(bytes);
        changed[at]! ^= 1;
        writeFileSync(pathOf(boot, file), changed);
        const line = bytes.subarray(0, at).toString('latin1').split('\n').length;
        const { problem } = await reportOf(boot);
        expect({ at, file: problem?.file, line: problem?.line }).toEqual({ at, file, line });
      }
      writeFileSync(pathOf(boot, file), bytes);
    }
  });
});

describe('records dropped, moved, added', () => {
  const last = () => indexOfCheckpoint('closed', -1);

  test.each<[string, (lines: string[]) => string[], () => object]>([
    ['the last checkpointed record', (lines) => lines.toSpliced(last() - 1, 1), () => ({ ...inOne(last() - 1), reason: expect.stringMatching(/^seq/) })],
    ['the last checkpointed record, chained anew', (lines) => chained(lines.toSpliced(last() - 1, 1), last() - 1),
      () => ({ ...inOne(last() - 1), reason: 'checkpoint: covers records after itself' })],
    ['a middle record', (lines) => lines.toSpliced(4, 1), () => ({ ...inOne(4), reason: 'seq 5 instead of 4' })],
    ['a middle record, chained anew', (lines) => chained(lines.toSpliced(4, 1), 4),
      () => ({ ...inOne(indexOfCheckpoint('closed', 0) - 1), reason: expect.stringMatching(/^checkpoint: (signs another hash|covers records after)/) })],
    ['two records swapped', (lines) => lines.toSpliced(2, 2, lines[3]!, lines[2]!), () => ({ ...inOne(2), reason: 'seq 3 instead of 2' })],
    ['two records swapped, chained anew', (lines) => chained(lines.toSpliced(2, 2, lines[3]!, lines[2]!), 2),
      () => ({ ...inOne(indexOfCheckpoint('closed', 0)), reason: expect.stringMatching(/^checkpoint: signs another hash/) })],
    ['a record changed, chained anew', (lines) => chained(lines.with(3, lines[3]!.replace('A256GCM', 'A128GCM')), 3),
      () => ({ ...inOne(indexOfCheckpoint('closed', 0)), reason: expect.stringMatching(/^checkpoint: signs another hash/) })],
    ['a record inserted, chained anew', (lines) => chained(lines.toSpliced(3, 0, JSON.stringify(forged(lines))), 3),
      () => ({ ...inOne(indexOfCheckpoint('closed', 0) + 1), reason: expect.stringMatching(/^checkpoint: signs another hash/) })],
    ['the first record dropped, chained anew', (lines) => chained(lines.slice(1), 0), () => inOne(indexOfCheckpoint('closed', 0) - 1)],
    ['a record appended after the end', (lines) => chained([...lines, JSON.stringify(forged(lines))], lines.length),
      () => ({ ...inOne(last() + 1), reason: 'record after the stream was closed' })],
  ])('%s', async (_, change, expected) => {
    rewrite('closed', change);
    expect((await reportOf('closed')).problem).toMatchObject(expected());
  });

  test('bytes appended after the end', async () => {
    appendFileSync(pathOf('closed', segmentsOf(pathOf('closed')).at(-1)), '{"seq":');
    expect((await reportOf('closed')).problem).toEqual({ ...afterLast('closed'), reason: 'bytes after the stream was closed' });
  });
});

describe('checkpoints', () => {
  const index = () => indexOfCheckpoint('closed', -1);
  const detailOf = (boot: string, n: number) => (JSON.parse(linesIn(pathOf(boot))[indexOfCheckpoint(boot, n)]!) as { detail: object }).detail;
  const replaceLast = (detail: object) =>
    rewrite('closed', (lines) => lines.with(index(), JSON.stringify({ ...(JSON.parse(lines[index()]!) as object), detail })));

  test('replaced by an older one', async () => {
    replaceLast(detailOf('closed', -2));
    expect((await reportOf('closed')).problem).toEqual({ ...inOne(index()), reason: 'checkpoint: does not name the checkpoint before it' });
  });

  test('dropped, and the stream closed by the older one', async () => {
    const cut = indexOfCheckpoint('closed', -2);
    rewrite('closed', (lines) => lines.slice(0, cut + 1));
    expect((await reportOf('closed')).problem).toMatchObject({ ...inOne(cut + 1), reason: expect.stringMatching(/^the stream ends here, and host-1\/last/) });
  });

  test('of another stream', async () => {
    replaceLast(detailOf('dead', 0));
    expect((await reportOf('closed')).problem).toEqual({ ...inOne(index()), reason: 'checkpoint: of another stream' });
  });

  test('of another installation', async () => {
    const { problem } = await reportOf('closed', { installation: 'installation-2' });
    expect(problem).toEqual({ ...placeOf('closed', indexOfCheckpoint('closed', 0)), reason: 'checkpoint: of another installation' });
  });

  test.each([
    ['under our fingerprint', false, 'checkpoint: the signature does not hold'],
    ['under its own', true, 'checkpoint of another audit key'],
  ])('signed by another key %s', async (_, own, reason) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const parts = { sign: async (bytes: Uint8Array) => signWith(privateKey, bytes) };
    const der = publicKey.export({ format: 'der', type: 'spki' });
    await writeSealed(directory, 3, { bootId: 'other', parts: own ? { ...parts, publicKey: der } : parts });
    const report = await reportOf('other');
    expect(report).toMatchObject({ state: 'open', problem: { file: '000001.jsonl', line: 4, reason } });
    // Told apart from a stream that is wrong in itself.
    if (own) expect((await verifyTree(directory, { publicKey: der })).streams.find(({ boot }) => boot === 'other')).toMatchObject({ ok: true });
  });

  test('text that says the same in other words', async () => {
    const { checkpoint, signature } = detailOf('closed', -1) as { checkpoint: string; signature: string };
    replaceLast({ checkpoint: checkpoint.replace('{', '{ '), signature });
    expect((await reportOf('closed')).problem).toEqual({ ...inOne(index()), reason: 'checkpoint: not RFC 8785 JSON' });
  });

  test('without its signature', async () => {
    replaceLast({ checkpoint: (detailOf('closed', -1) as { checkpoint: string }).checkpoint });
    expect((await reportOf('closed')).problem).toMatchObject(inOne(index()));
  });

  test('a public key that is none is refused', async () => {
    await expect(check({ publicKey: Buffer.from('no key') })).rejects.toMatchObject({ code: 'invalid-field' });
  });
});

describe('segments and streams missing', () => {
  test('a segment in the middle', async () => {
    rmSync(pathOf('closed', '000002.jsonl'));
    expect((await reportOf('closed')).problem).toEqual({ file: '000002.jsonl', line: 1, reason: 'segment missing' });
  });

  test('the last segment', async () => {
    const file = segmentsOf(pathOf('closed')).at(-1)!;
    const first = linesIn(pathOf('closed')).length - (readFileSync(pathOf('closed', file), 'utf8').split('\n').length - 1);
    rmSync(pathOf('closed', file));
    const { file: before, line } = placeOf('closed', first - 1);
    expect((await reportOf('closed')).problem).toMatchObject({ file: before, line: line + 1, reason: expect.stringContaining('the stream ends here') });
  });

  test.each([['closed', 'named as a peer'], ['dead', 'adopted']])('a whole stream, %s, %s', async (boot) => {
    rmSync(pathOf(boot), { recursive: true });
    expect(await check()).toMatchObject({ ok: false, missing: [`${HOST}/${boot}`], elsewhere: ['host-2/boot-x'] });
  });

  test('a stream of a host that has none here', async () => {
    expect(await check()).toMatchObject({ ok: true, elsewhere: ['host-2/boot-x'] });
    expect(await check({ heads: [] })).toMatchObject({ ok: true, elsewhere: ['host-2/boot-x'] });
    expect(await check({ heads: [{ ...ELSEWHERE, state: 'closed' }] })).toMatchObject({ ok: false, elsewhere: ['host-2/boot-x'] });
    expect(await check({ heads: [{ ...ELSEWHERE, state: 'abandoned' }] })).toMatchObject({ ok: true, elsewhere: ['host-2/boot-x'] });
  });
});

describe('the tail of an adopted stream', () => {
  const end = () => linesIn(join(honest, HOST, 'dead')).length;

  test.each<[string, (lines: string[]) => string[], () => object]>([
    ['cut', (lines) => lines.slice(0, -1), () => ({ ...inOne(end() - 1), reason: expect.stringContaining(`knows its record ${end() - 1}`) })],
    ['written anew', (lines) => chained(lines.with(-1, lines.at(-1)!.replace('A256GCM', 'A128GCM')), end() - 1),
      () => ({ ...inOne(end() - 1), reason: expect.stringContaining(`knows another record ${end() - 1}`) })],
    ['written anew from before', (lines) => chained(lines.with(-3, lines.at(-3)!.replace('A256GCM', 'A128GCM')), end() - 3),
      () => ({ ...inOne(end() - 1), reason: expect.stringContaining(`knows another record ${end() - 1}`) })],
    ['lengthened', (lines) => chained([...lines, JSON.stringify(forged(lines))], end()),
      () => ({ ...inOne(end()), reason: expect.stringMatching(/^record after the end of the stream, which host-1\/last 000001.jsonl line 1 adopted/) })],
  ])('%s', async (_, change, expected) => {
    rewrite('dead', change);
    expect((await reportOf('dead')).problem).toMatchObject(expected());
  });

  test('lengthened by half a line', async () => {
    appendFileSync(pathOf('dead', segmentsOf(pathOf('dead')).at(-1)), '{"seq":');
    expect((await reportOf('dead')).problem).toMatchObject({ ...afterLast('dead'), reason: expect.stringMatching(/^record after the end/) });
  });

  test('cut to what a peer knew before', async () => {
    const known = indexOfCheckpoint('dead', -1);
    rewrite('dead', (lines) => lines.slice(0, known));
    expect((await reportOf('dead')).problem).toMatchObject({ ...inOne(known), reason: expect.stringContaining('the stream ends here') });
  });
});

describe('the tail of the last stream', () => {
  const lines = () => linesIn(join(honest, HOST, 'last'));
  const append = (record: object) => rewrite('last', (all) => chained([...all, JSON.stringify(record)], all.length));

  test('a forged record is in the unsealed tail, and K_tail tells it', async () => {
    append(forged(lines()));
    expect(await reportOf('last')).toMatchObject({ ok: true, unsealedTail: 4 });
    const place = inOne(lines().length);
    expect((await reportOf('last', { mac })).problem).toEqual({ ...place, reason: 'the mac does not hold' });
  });

  test('a changed record too', async () => {
    const index = lines().length - 2;
    rewrite('last', (all) => chained(all.with(index, all[index]!.replace('A256GCM', 'A128GCM')), index));
    expect(await reportOf('last')).toMatchObject({ ok: true, unsealedTail: 3 });
    expect((await reportOf('last', { mac })).problem).toEqual({ ...inOne(index), reason: 'the mac does not hold' });
  });

  test('a forged record without mac stands out', async () => {
    const { mac: _mac, ...record } = forged(lines()) as Record<string, unknown>;
    append(record);
    expect((await reportOf('last')).problem).toEqual({ ...inOne(lines().length), reason: 'no mac, and a record before has one' });
  });

  test('cut: found with the heads of the store', async () => {
    rewrite('last', (all) => all.slice(0, -1));
    expect((await check()).ok).toBe(true);
    const { stream, seq, head } = lastHead;
    const heads: KnownStream[] = [{ stream, seq, head, state: 'open' }, { ...ELSEWHERE, state: 'abandoned' }];
    const place = inOne(lines().length - 1);
    expect((await reportOf('last', { heads })).problem).toEqual({ ...place, reason: `the stream ends here, and the store knows its record ${seq}` });
  });

  test('never closed, when its process is dead', async () => {
    const { stream, seq, head } = lastHead;
    const known = { stream, seq, head };
    const away: KnownStream = { ...ELSEWHERE, state: 'abandoned' };
    expect(await check({ heads: [{ ...known, state: 'open' }, away] })).toMatchObject({ ok: true });
    expect((await reportOf('last', { heads: [{ ...known, state: 'dead' }] })).problem).toMatchObject({ reason: 'never closed' });
    expect((await reportOf('last', { heads: [{ ...known, state: 'closed' }] })).problem).toMatchObject({ reason: 'the store knows it as closed' });
    expect((await reportOf('last', { heads: [{ ...known, head: 'ef'.repeat(32), state: 'open' }] })).problem)
      .toMatchObject({ ...placeOf('last', seq), reason: `the store knows another record ${seq}` });
  });

  test('given up with a reason', async () => {
    const { stream, seq, head } = lastHead;
    const log = await openAuditLog({ directory, hostId: 'host-3', bootId: 'boot-1' });
    log.seal(sealingParts());
    await log.append(abandonEvent({ stream, seq, head }, 'the host burnt down'));
    await log.append(abandonEvent(ELSEWHERE, 'so did that one'));
    await log.close();
    const heads: KnownStream[] = [{ stream, seq, head, state: 'dead' }];
    expect(await reportOf('last', { heads })).toMatchObject({ state: 'abandoned', ok: true });
    expect((await check({ heads })).ok).toBe(true);
    rewrite('last', (all) => all.slice(0, -1));
    expect((await reportOf('last')).problem).toMatchObject({ reason: expect.stringMatching(/^the stream ends here, and host-3\/boot-1/) });
  });

  test('a record about another stream that names nothing is a problem', async () => {
    append({ ...forged(lines()), event: 'stream.adopt', detail: { stream: 'host-1/x', seq: 'y', head: '', torn: false } });
    expect((await reportOf('last')).problem).toEqual({ ...inOne(lines().length), reason: 'malformed stream.adopt' });
  });

  test('a name of a stream that leads out of the directory is not followed', async () => {
    append({ ...forged(lines()), event: 'stream.adopt', detail: { stream: '../secret', seq: 1, head: 'ab'.repeat(32), torn: false } });
    expect(await check()).toMatchObject({ elsewhere: ['../secret', 'host-2/boot-x'] });
    expect(existsSync(join(directory, '../secret'))).toBe(false);
  });
});

test('a whole stream written anew by someone without the key stays without a checkpoint', async () => {
  rewrite('closed', (lines) => chained(lines.filter((line) => !line.includes('audit.checkpoint')), 0));
  const report = await reportOf('closed');
  expect(report).toMatchObject({ state: 'open', checkpoints: 0 });
  expect(report.problem).toMatchObject({ reason: expect.stringMatching(/host-1\/last .* knows/) });
  truncateSync(pathOf('closed', '000001.jsonl'), 0);
  expect((await reportOf('closed')).problem).toMatchObject({ file: '000001.jsonl', line: 1 });
});
