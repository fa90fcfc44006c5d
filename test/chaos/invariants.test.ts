/** The checks of the invariants find what they are there to find: a sound recording is spoilt in one place at a time. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { Field } from './field.ts';
import {
  auditComplete, honestErrors, monotonicState, noAcknowledgedKeyLost, noLeak, noOrphan, nothingUndecryptable, rightKey,
} from './invariants.ts';
import { type Entry, succeeded } from './recorder.ts';
import { CRYPTO, MARKER } from './requests.ts';

let field: Field;

beforeAll(async () => {
  field = await Field.make({});
  await field.kms.start();
  await field.load.prepare();
  field.load.start();
  await field.answered(300);
  await field.load.stop();
}, 180_000);

afterAll(async () => { await field.remove(); });

/** A copy of a recorded exchange with something changed, for as long as the check runs. */
async function spoilt(change: Partial<Entry>, check: () => unknown): Promise<unknown> {
  const entry = field.recorder.entries.find((each) => succeeded(each) && CRYPTO.has(each.act))!;
  field.recorder.entries.push({ ...entry, ...change });
  try {
    return await check();
  } finally {
    field.recorder.entries.pop();
  }
}

const one = (text: string) => [expect.stringContaining(text)];

test('I-3: a signature of another key', () => {
  const { recorder } = field;
  const [first] = recorder.signed;
  const other = recorder.signed.find(({ key }) => key !== first!.key)!;
  recorder.signed.push({ ...first!, signature: other.signature });
  expect(rightKey(recorder)).toEqual(one('I-3'));
  recorder.signed.pop();
});

test('I-7: dishonest answers', async () => {
  const { recorder } = field;
  const check = (): unknown => honestErrors(recorder);
  const unavailable = { status: 503, json: { error_id: 'token-unavailable' } };
  expect(check()).toEqual([]);
  expect(await spoilt({ status: 500, json: { error_id: 'internal' } }, check)).toEqual(one('500 is no honest answer'));
  expect(await spoilt({ status: 404, json: { error_id: 'not-found' } }, check)).toEqual(one('404 is no honest answer'));
  expect(await spoilt({ status: 400, json: { error_id: 'decryption-failed' } }, check)).toEqual(one('400 is no honest answer'));
  expect(await spoilt({ ...unavailable, headers: {} }, check)).toEqual(one('503 without Retry-After'));
  expect(await spoilt({ ...unavailable, headers: { 'retry-after': '2' } }, check)).toEqual([]);
  expect(await spoilt({ wrong: 'another plaintext' }, check)).toEqual(one('wrong data'));
  expect(await spoilt({ status: 0, torn: 12 }, check)).toEqual(one('half an answer'));
});

test('I-9: a key that serves after its end', () => {
  const { recorder } = field;
  expect(monotonicState(recorder)).toEqual([]);
  const { key } = recorder.signed[0]!;
  const before = key.deactivatedMs;
  key.deactivatedMs = 0;
  expect(monotonicState(recorder).length).toBeGreaterThan(0);
  key.deactivatedMs = before;
});

test('I-1 and I-2: a key and a ciphertext that are not what was acknowledged', async () => {
  const { recorder } = field;
  const key = recorder.usable()[0]!;
  const lost = { ...key, id: '00000000-0000-4000-8000-000000000000' };
  recorder.keys.set(lost.id, lost);
  const found = await field.asking((ask) => noAcknowledgedKeyLost(recorder, ask));
  recorder.keys.delete(lost.id);
  expect(found).toEqual([...one(`${lost.id} (oct) was acknowledged and is not listed`), expect.stringContaining('404')]);
  const sealed = recorder.sealed.find((each) => each.key === key)!;
  recorder.sealed.push({ ...sealed, plaintext: 'AAAA' });
  expect(await field.asking((ask) => nothingUndecryptable(recorder, ask))).toEqual(one('another plaintext'));
  recorder.sealed.pop();
});

test('I-4, I-5 and I-6: an orphan, a hole in the audit, a secret in a file', async () => {
  const { kms, recorder } = field;
  expect(await kms.stop()).toBe(0);
  expect(noOrphan(kms)).toEqual({ violations: [], announced: [] });
  const database = new Database(join(kms.home, 'kms.db'));
  // The halves of a key pair share their id: one that stands alone.
  const alone = 'select object_id from key_object group by object_id having count(*) = 1 order by object_id limit 1';
  const removed = database.prepare(`delete from key_object where object_id = (${alone})`).run();
  expect(removed.changes).toBe(1);
  database.close();
  expect(noOrphan(kms).violations).toEqual(one('object without a row'));

  expect(await auditComplete(kms, recorder)).toEqual([]);
  expect(await spoilt({ id: 'nobody' }, () => auditComplete(kms, recorder))).toEqual(one('no record of success'));
  expect(await spoilt({ status: 503 }, () => auditComplete(kms, recorder))).toEqual(one('recorded as a success'));

  const journal = new Database(join(kms.home, 'kms.db'));
  const newest = 'seq = (select max(seq) from journal)';
  const { was } = journal.prepare(`select request_id as was from journal where ${newest}`).get() as { was: string };
  const named = journal.prepare(`update journal set request_id = ? where ${newest}`);
  named.run('nobody');
  expect(await auditComplete(kms, recorder)).toEqual(one('that request nobody made'));
  named.run(was);
  journal.close();
  expect(await auditComplete(kms, recorder)).toEqual([]);

  expect(noLeak(kms, recorder)).toEqual([]);
  const leak = join(kms.home, 'leak');
  writeFileSync(leak, `before ${Buffer.from(MARKER).toString('base64')} after`);
  expect(noLeak(kms, recorder)).toEqual(one(leak));
  rmSync(leak);
});
