/** Macs and signed checkpoints (integrity §7), checked with node:crypto and openssl. */

import { execFileSync } from 'node:child_process';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from '@jest/globals';

import { openAuditLog, type SealingParts, type StreamHead } from '../../src/audit/log.ts';
import { eventually } from '../support/wait.ts';
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
  verifyStream,
  writeSealed,
} from './support.ts';

afterAll(removeTempDirectories);

const sha256 = (text: string | Uint8Array) => createHash('sha256').update(text).digest('hex');
const openAt = (directory: string, some: object = {}) => openAuditLog({ directory, hostId: HOST, bootId: BOOT, ...some });
const signed = (text: string) => Buffer.concat([Buffer.from('kms-ckpt'), Buffer.from([1]), Buffer.from(text)]);
const publicKey = createPublicKey({ key: Buffer.from(PUBLIC_KEY), format: 'der', type: 'spki' });

/** A signer that waits to be told what to do with each request. */
function heldSigner() {
  const asked: { readonly release: () => void; readonly fail: () => void }[] = [];
  const { sign } = sealingParts();
  const held: SealingParts['sign'] = (bytes) =>
    new Promise((resolve, reject) => {
      asked.push({ release: () => resolve(sign(bytes)), fail: () => reject(new Error('token away')) });
    });
  return { asked, held };
}

describe('mac', () => {
  test('covers the line without it, from seal on', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    await log.append(eventOf(0));
    log.seal(sealingParts());
    await log.append({ ...eventOf(1), vault: 'é"},{' });
    await log.close();
    const [before, after] = linesIn(streamOf(directory));
    expect(JSON.parse(before!)).not.toHaveProperty('mac');
    const [, body, hex] = /^(.*),"mac":"([0-9a-f]{64})"\}$/.exec(after!)!;
    expect(Buffer.from(mac(Buffer.from(`${body}}`))).toString('hex')).toBe(hex);
    expect(JSON.parse(after!)).toMatchObject({ prev: sha256(before!), vault: 'é"},{', mac: hex });
  });

  test('seal works once', async () => {
    const log = await openAt(tempDirectory());
    log.seal(sealingParts());
    expect(() => log.seal(sealingParts())).toThrow(expect.objectContaining({ code: 'internal' }));
    await log.close();
  });

  test('nobody else writes a checkpoint', async () => {
    const log = await openAt(tempDirectory());
    await expect(log.append({ event: 'audit.checkpoint', result: 'success' })).rejects.toMatchObject({ code: 'internal' });
    await log.close();
  });
});

describe('a checkpoint', () => {
  const peer = { stream: 'host-2/boot-9', seq: 7, head: 'cd'.repeat(32), closed: false };

  test('says what integrity §7 lists, as RFC 8785 JSON, signed by the audit key', async () => {
    const directory = tempDirectory();
    await writeSealed(directory, 5, { parts: { peers: async () => [peer], takeCounters: () => ({ ff: 512, '0a': 256 }) } });
    const lines = linesIn(streamOf(directory));
    const [{ text, signature, seq }] = checkpointsIn(streamOf(directory)).slice(-1) as [ReturnType<typeof checkpointsIn>[number]];
    expect(seq).toBe(lines.length - 1);
    const said = JSON.parse(text);
    expect(said).toEqual({
      ...{ version: 1, kind: 'dev', installation: 'installation-1', stream: `${HOST}/${BOOT}`, host: HOST, boot: BOOT },
      ...{ seq: seq - 1, count: seq, head: sha256(lines[seq - 1]!), closed: true },
      ...{ previous: expect.stringMatching(/^[0-9a-f]{64}$/), wall: expect.any(Number), mono: expect.any(Number) },
      ...{ store: { epoch: 1, seq: 42, mac: 'ab'.repeat(32) }, peers: [peer], counters: { '0a': 256, ff: 512 } },
      publicKey: sha256(PUBLIC_KEY),
    });
    expect(Object.keys(said)).toEqual(Object.keys(said).sort());
    expect(text).toBe(JSON.stringify(said));
    const key = { key: publicKey, dsaEncoding: 'ieee-p1363' as const };
    expect(verify('sha256', signed(text), key, signature)).toBe(true);
    expect(verify('sha256', Buffer.from(text), key, signature)).toBe(false);
  });

  test('openssl verifies it', async () => {
    const directory = tempDirectory();
    await writeSealed(directory, 2);
    const { text, signature } = checkpointsIn(streamOf(directory)).at(-1)!;
    const [pem, message, der] = ['key.pem', 'message', 'signature.der'].map((name) => join(directory, name)) as [string, string, string];
    writeFileSync(pem, publicKey.export({ format: 'pem', type: 'spki' }));
    writeFileSync(message, signed(text));
    const integer = (bytes: Buffer) => `INTEGER:0x${bytes.toString('hex')}`;
    const fields = `asn1=SEQUENCE:s\n[s]\nr=${integer(signature.subarray(0, 32))}\ns=${integer(signature.subarray(32))}\n`;
    writeFileSync(join(directory, 'asn1.cnf'), fields);
    execFileSync('openssl', ['asn1parse', '-genconf', join(directory, 'asn1.cnf'), '-noout', '-out', der]);
    const output = execFileSync('openssl', ['dgst', '-sha256', '-verify', pem, '-signature', der, message], { encoding: 'utf8' });
    expect(output).toContain('Verified OK');
  });

  test('each names the one before, and the log tells of each', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    const told: StreamHead[] = [];
    log.seal(sealingParts({ onCheckpoint: (head) => told.push(head) }));
    for (let round = 1; round <= 3; round += 1) {
      await log.append(eventOf(round));
      await eventually('a checkpoint is written', () => told.length === round);
    }
    await log.close();
    const found = checkpointsIn(streamOf(directory));
    expect(found).toHaveLength(4);
    expect(found.map(({ said }) => said.previous)).toEqual(['0'.repeat(64), ...found.slice(0, 3).map(({ text }) => sha256(text))]);
    expect(told.map(({ checkpoint }) => checkpoint)).toEqual(found.map(({ text }) => sha256(text)));
    expect(told.map(({ closed }) => closed)).toEqual([false, false, false, true]);
    // The record of the checkpoint itself is on disk by then.
    const lines = linesIn(streamOf(directory));
    for (const { stream, seq, head } of told) expect({ stream, head }).toEqual({ stream: `${HOST}/${BOOT}`, head: sha256(lines[seq]!) });
    expect(log.head()).toEqual(told.at(-1));
  });

  test('none while nothing is new', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    let told = 0;
    log.seal(sealingParts({ onCheckpoint: () => { told += 1; } }));
    await log.append(eventOf(0));
    await eventually('a checkpoint is written', () => told === 1);
    const { records } = log.stats();
    // Nothing more comes: there is no event to wait for.
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect({ told, records: log.stats().records }).toEqual({ told: 1, records });
    await log.close();
  });

  test('at the latest after 1,000 records', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    log.seal(sealingParts());
    for (let turn = 0; turn < 40; turn += 1) await Promise.all(Array.from({ length: 200 }, (_, n) => log.append(eventOf(n))));
    await log.close();
    const counts = checkpointsIn(streamOf(directory)).map(({ said }) => said.count);
    expect(counts.length).toBeGreaterThanOrEqual(6);
    // A group of 512 may be in flight at each end.
    for (const [n, count] of counts.entries()) expect(count - (counts[n - 1] ?? 0)).toBeLessThanOrEqual(2 * 1024);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ state: 'closed', ok: true, unsealedTail: 0 });
  });

  test('counters and peers that do not fit come with later ones', async () => {
    const directory = tempDirectory();
    const all = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [n.toString(16).padStart(32, '0'), 256 + n]));
    const peers = Array.from({ length: 100 }, (_, n) => ({ ...peer, stream: `${'h'.repeat(100)}/${n}` }));
    let taken = false;
    const takeCounters = () => {
      if (taken) return {};
      taken = true;
      return all;
    };
    await writeSealed(directory, 1, { parts: { takeCounters, peers: async () => peers } });
    const found = checkpointsIn(streamOf(directory));
    expect(found.length).toBeGreaterThan(3);
    expect(Object.assign({}, ...found.map(({ said }) => said.counters))).toEqual(all);
    expect(new Set(found.flatMap(({ said }) => said.peers.map(({ stream }) => stream))).size).toBe(100);
    expect(found.map(({ said }) => said.closed)).toEqual(found.map((_, n) => n === found.length - 1));
    expect(await verifyStream(streamOf(directory))).toMatchObject({ ok: true, state: 'closed' });
  });

  test('peers that cannot be asked for are those of before', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    let told = 0;
    const answers = [async () => [peer], async () => { throw new Error('store away'); }, () => new Promise<never>(() => undefined)];
    const peers = () => (answers.shift() ?? (async () => []))();
    log.seal(sealingParts({ peers, onCheckpoint: () => { told += 1; } }));
    for (let round = 1; round <= 3; round += 1) {
      await log.append(eventOf(round));
      await eventually('a checkpoint is written', () => told === round);
    }
    await log.close();
    expect(checkpointsIn(streamOf(directory)).map(({ said }) => said.peers)).toEqual([[peer], [peer], [peer], []]);
  });
});

describe('a signer that is slow', () => {
  test('delays no record: they are on disk while it is asked, and the checkpoint stands after them', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    const { asked, held } = heldSigner();
    log.seal(sealingParts({ sign: held }));
    await log.append(eventOf(0));
    await eventually('the signer is asked', () => asked.length === 1);
    for (let key = 1; key < 50; key += 1) await log.append(eventOf(key));
    expect(readRecords(streamOf(directory)).map(({ event }) => event)).toEqual(Array.from({ length: 50 }, () => 'key.encrypt'));
    asked[0]!.release();
    await eventually('the signer is asked', () => asked.length === 2);
    const closed = log.close();
    asked[1]!.release();
    await eventually('the signer is asked', () => asked.length === 3);
    asked[2]!.release();
    await closed;
    const [first, second] = checkpointsIn(streamOf(directory));
    expect([first!.said.seq, first!.seq]).toEqual([0, 50]);
    expect(second!.said.seq).toBe(50);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ state: 'closed', ok: true, unsealedTail: 0, records: 53 });
  });

  test('close waits for it only so long, and a signature that comes later is not written', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory, { closeMs: 50 });
    const { asked, held } = heldSigner();
    log.seal(sealingParts({ sign: held }));
    await log.append(eventOf(0));
    await log.close();
    const before = linesIn(streamOf(directory));
    for (const { release } of asked) release();
    // As before: nothing comes.
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(linesIn(streamOf(directory))).toEqual(before);
    expect(await verifyStream(streamOf(directory))).toMatchObject({ state: 'open', ok: true, unsealedTail: 1, checkpoints: 0 });
  });
});

describe('a token that is away', () => {
  test('records go on, health falls above the limit, and the next signature covers all', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory, { unsignedMax: 20 });
    let away = true;
    let refusals = 0;
    const sign: SealingParts['sign'] = (bytes) => {
      if (!away) return sealingParts().sign(bytes);
      refusals += 1;
      return Promise.reject(new Error('token away'));
    };
    log.seal(sealingParts({ sign }));
    for (let key = 0; key < 20; key += 1) await log.append(eventOf(key));
    expect(log.healthy()).toBe(true);
    await log.append(eventOf(20));
    expect(log.healthy()).toBe(false);
    await eventually('the signer refuses', () => refusals > 1);
    await log.append(eventOf(21));
    away = false;
    await eventually('the log is healthy again', () => log.healthy());
    expect(checkpointsIn(streamOf(directory)).map(({ said }) => said.count)).toEqual([22]);
    await log.close();
    expect(await verifyStream(streamOf(directory))).toMatchObject({ state: 'closed', ok: true, unsealedTail: 0 });
  });

  test('a close without a signature ends without one', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory);
    log.seal(sealingParts({ sign: async () => { throw new Error('token away'); } }));
    await log.append(eventOf(0));
    await log.close();
    expect(log.head()).toMatchObject({ seq: 0, closed: false, checkpoint: '0'.repeat(64) });
    expect(await verifyStream(streamOf(directory))).toMatchObject({ state: 'open', records: 1, unsealedTail: 1, ok: true });
  });

  test('segments go on without a checkpoint at their end, and the next one covers them', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory, { segmentBytes: SEGMENT_BYTES });
    const { asked, held } = heldSigner();
    log.seal(sealingParts({ sign: held }));
    for (let key = 0; key < 100; key += 1) await log.append(eventOf(key));
    expect(segmentsOf(streamOf(directory)).length).toBeGreaterThan(2);
    asked[0]!.fail();
    await eventually('the signer is asked', () => asked.length === 2);
    asked[1]!.release();
    await eventually('a checkpoint is on disk', () => checkpointsIn(streamOf(directory)).length === 1);
    const report = await verifyStream(streamOf(directory));
    expect(report).toMatchObject({ ok: true, state: 'open', unsealedTail: 0, checkpoints: 1, records: 101 });
    expect(report.unsealedSegments).toBeGreaterThan(1);
    const closed = log.close();
    await eventually('the signer is asked', () => asked.length === 3);
    asked[2]!.release();
    await closed;
  });
});

describe('rotation', () => {
  test('each segment ends with a checkpoint, under many callers', async () => {
    const directory = tempDirectory();
    const log = await openAt(directory, { segmentBytes: 64 * 1024 });
    log.seal(sealingParts());
    const caller = async () => {
      for (let key = 0; key < 200; key += 1) await log.append(eventOf(key));
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    await log.close();
    const stream = streamOf(directory);
    expect(segmentsOf(stream).length).toBeGreaterThan(6);
    for (const name of segmentsOf(stream)) {
      const lines = readFileSync(join(stream, name), 'utf8').split('\n');
      expect([name, JSON.parse(lines.at(-2)!).event]).toEqual([name, 'audit.checkpoint']);
    }
    expect(await verifyStream(stream)).toMatchObject({ state: 'closed', ok: true, unsealedTail: 0, unsealedSegments: 0 });
    expect(readRecords(stream).filter(({ event }) => event === 'key.encrypt')).toHaveLength(1600);
  });
});
