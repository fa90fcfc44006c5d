/** `kms reconcile`: what does not fit between store and token is named, and nothing but objects of destroyed keys goes. */

import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { makeKey } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { rows } from '../support/form.ts';
import type { Installation } from '../support/installation.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { kmsCommand, makeOn, type TestStore } from './support.ts';

let kms: Installation;
let store: TestStore;
let destroyed: readonly string[];
let living: readonly string[];

const tokens = (): string => join(kms.home, 'softhsm', 'tokens');
const report = async (): Promise<{ code: number | string; findings: readonly { kind: string; objectId: string }[] }> => {
  const { code, stdout } = await kmsCommand(kms, 'reconcile', '--report', '--output', 'json');
  return { code, findings: JSON.parse(stdout).findings };
};
const objectsOf = async (key: string): Promise<readonly string[]> =>
  (await store.rows(`select distinct object_id from key_object where key_id = '${key}'`)).map((row) => String(row['object_id'])).sort();
const onToken = (): ReadonlySet<string> => TokenViewer.look(kms.home, (viewer) =>
  new Set(viewer.login(kms.home).objects().map(({ id }) => id)));

beforeAll(async () => {
  ({ kms, store } = await makeOn('SQLite', { KMS_SERVER_PROCESSES: '1' }));
  await kms.start();
  const admin = kms.client();
  const [gone, stays] = [await makeKey(admin, { type: 'oct', size: 256 }), await makeKey(admin, { type: 'oct', size: 256 })];
  await admin.post(`/servicekey/${gone}/deactivate`, { reason: 'unspecified' });
  [destroyed, living] = [await objectsOf(gone), await objectsOf(stays)];
  // Nobody else asks it for anything: the token stands still.
  cpSync(tokens(), join(kms.home, 'saved-tokens'), { recursive: true });
  expect((await admin.call('DELETE', `/servicekey/${gone}`)).status).toBe(204);
  await admin.close();
  await kms.stop();
}, 600_000);

afterAll(() => kms.remove());

test('all is well with what a server left', async () => {
  expect(await report()).toEqual({ code: 0, findings: [] });
});

test('objects of a destroyed key that a restored token shows again are told apart, and nothing is changed', async () => {
  rmSync(tokens(), { recursive: true });
  cpSync(join(kms.home, 'saved-tokens'), tokens(), { recursive: true });
  const head = await store.rows('select seq, mac from head');
  const { code, findings } = await report();
  expect(code).toBe(1);
  expect(findings.map(({ kind, objectId }) => `${kind} ${objectId}`).sort()).toEqual(destroyed.map((id) => `destroyed ${id}`));
  expect(await store.rows('select seq, mac from head')).toEqual(head);
});

test.each(rows([
  [1, () => ['--destroy', living[0] ?? '', '--yes']],
  [1, () => ['--destroy', 'f'.repeat(32), '--yes']],
  [2, () => ['--destroy', destroyed[0] ?? '']],
  [2, () => ['--report', '--destroy', destroyed[0] ?? '', '--yes']],
  [2, () => []],
] as const, 2))('exit %d, and nothing is destroyed', async (code, args) => {
  const before = onToken();
  expect((await kmsCommand(kms, 'reconcile', ...args())).code).toBe(code);
  expect(onToken()).toEqual(before);
});

test('the operator destroys them again', async () => {
  for (const id of destroyed) expect((await kmsCommand(kms, 'reconcile', '--destroy', id, '--yes')).code).toBe(0);
  const there = onToken();
  expect([destroyed.filter((id) => there.has(id)), living.filter((id) => there.has(id))]).toEqual([[], living]);
  expect(auditRecords(kms).filter(({ event, result }) => event === 'reconcile.destroyed-again' && result === 'success')).toHaveLength(destroyed.length);
  expect(await report()).toEqual({ code: 0, findings: [] });
});

test('an object that is gone is missing', async () => {
  TokenViewer.look(kms.home, (viewer) => {
    const one = viewer.login(kms.home).objects().find(({ id }) => id === living[0]);
    viewer.module.C_DestroyObject(viewer.session, one?.handle ?? Buffer.alloc(8));
  });
  const { code, findings } = await report();
  expect({ code, kinds: findings.map(({ kind, objectId }) => `${kind} ${objectId}`) }).toEqual({ code: 1, kinds: [`missing ${living[0]}`] });
  expect((await kmsCommand(kms, 'reconcile', '--report')).stdout).toMatch(/missing \(1\): .*backup/);
});
