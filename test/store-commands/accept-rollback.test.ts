/**
 * A store that was put back: refused, accepted by the operator, and from then on as restricted as it was before, on
 * both databases (integrity §6, security S-2 and S-3).
 */

import { createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeKey } from '../api/okms/support.ts';
import { auditRecords } from '../support/audit-records.ts';
import { FULL, rows } from '../support/form.ts';
import type { Client, Installation } from '../support/installation.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { decrypt, encrypt, type Engine, kmsCommand, makeOn, startRefused, type TestStore } from './support.ts';

const MESSAGE = Buffer.from('signed after all');

// In the short form, test/transfer/restore.test.ts accepts on SQLite.
describe.each<Engine>(FULL ? ['SQLite', 'PostgreSQL'] : ['PostgreSQL'])('on %s', (engine) => {
  let kms: Installation;
  let store: TestStore;
  let admin: Client;
  const keys: Record<string, string> = {};
  const sealed: Record<string, string> = {};
  let publicKey: object;
  let reserved: ReadonlyMap<string, number>;
  let refusal: string;
  let accepted: Awaited<ReturnType<typeof kmsCommand>>;
  let objectsOf: ReadonlyMap<string, readonly string[]>;

  const key = (name: string): string => keys[name] ?? '';
  const state = async (name: string): Promise<unknown> => {
    const { status, json } = await admin.get(`/servicekey/${key(name)}`);
    return status === 200 ? json.attributes.state : status;
  };
  const deactivate = (name: string, reason: string) => admin.post(`/servicekey/${key(name)}/deactivate`, { reason });

  async function counters(): Promise<ReadonlyMap<string, number>> {
    const rows = await store.rows('select object_id, reserved from invocation_counter');
    return new Map(rows.map((row) => [String(row['object_id']), Number(row['reserved'])]));
  }

  async function objectsNow(): Promise<ReadonlyMap<string, readonly string[]>> {
    const rows = await store.rows('select key_id, object_id from key_object');
    const found = new Map<string, string[]>();
    for (const { key_id, object_id } of rows) found.set(String(key_id), [...(found.get(String(key_id)) ?? []), String(object_id)]);
    return found;
  }

  const onToken = (): ReadonlySet<string> => TokenViewer.look(kms.home, (viewer) =>
    new Set(viewer.login(kms.home).objects().filter(({ class: of }) => of !== 'other').map(({ id }) => id)));

  beforeAll(async () => {
    ({ kms, store } = await makeOn(engine, { KMS_SERVER_PROCESSES: '1' }));
    await kms.start();
    admin = kms.client();
    for (const name of ['old', 'disabled', 'lifted', 'compromised', 'deleted', 'active']) keys[name] = await makeKey(admin, { type: 'oct', size: 256 });
    sealed['old'] = await encrypt(admin, key('old'), 'from before');
    await deactivate('deleted', 'unspecified');
    await admin.close();
    await kms.stop();
    await store.save();

    // What the store will forget.
    await kms.start();
    admin = kms.client();
    await deactivate('disabled', 'privilege_withdrawn');
    await deactivate('compromised', 'key_compromise');
    await deactivate('lifted', 'unspecified');
    await new Promise((resolve) => setTimeout(resolve, 2100)); // beyond the doubt between two clocks
    await admin.post(`/servicekey/${key('lifted')}/activate`);
    for (const name of ['made', 'made and deleted', 'lost']) keys[name] = await makeKey(admin, { type: 'oct', size: 256 });
    keys['signer'] = await makeKey(admin, { type: 'EC', curve: 'P-256' });
    publicKey = (await admin.get(`/servicekey/${key('signer')}?format=jwk`)).json.keys[0];
    sealed['made'] = await encrypt(admin, key('made'), 'in the gap');
    sealed['later'] = await encrypt(admin, key('old'), 'with an old key in the gap');
    objectsOf = await objectsNow();
    await deactivate('made and deleted', 'unspecified');
    expect((await admin.call('DELETE', `/servicekey/${key('made and deleted')}`)).status).toBe(204);
    expect((await admin.call('DELETE', `/servicekey/${key('deleted')}`)).status).toBe(204);
    await admin.close();
    await kms.stop();

    TokenViewer.look(kms.home, (viewer) => {
      const mine = new Set(objectsOf.get(key('lost')));
      const [one] = viewer.login(kms.home).objects().filter(({ id }) => mine.has(id));
      viewer.module.C_DestroyObject(viewer.session, one?.handle ?? Buffer.alloc(8));
    });
    await store.restore();
    reserved = await counters();
  }, 600_000);

  afterAll(async () => {
    await admin.close();
    await kms.remove();
    await store.drop();
  });

  test('readiness names the roll-back, and says what to do', async () => {
    refusal = await startRefused(kms);
    expect(refusal).toMatch(/rolled back.*kms store accept-rollback/);
  });

  test('nothing is accepted while servers run, even those that the store does not know', async () => {
    const { code, stderr } = await kmsCommand(kms, 'store', 'accept-rollback', '--reason', 'a test', '--yes');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/the store is in use/) });
    await kms.stop();
  });

  test.each(rows([[['--yes']], [['--reason', '  ', '--yes']], [['--reason', 'nobody to ask']]], 2))('%j is a mistake in usage', async (args) => {
    expect((await kmsCommand(kms, 'store', 'accept-rollback', ...args)).code).toBe(2);
  });

  test('the operator accepts it', async () => {
    accepted = await kmsCommand(kms, 'store', 'accept-rollback', '--reason', 'restored for a test', '--yes', '--output', 'json');
    expect({ code: accepted.code, stderr: accepted.stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(accepted.stdout);
    expect(report.epoch).toEqual({ before: 1, after: 2 });
    expect(report.seq.after).toBeGreaterThan(report.seq.before);
    const byKey = (list: readonly { keyId: string; state: string }[]) => Object.fromEntries(list.map(({ keyId, state: to }) => [keyId, to]));
    expect(byKey(report.reapplied)).toEqual({
      [key('disabled')]: 'deactivated',
      [key('compromised')]: 'compromised',
      [key('deleted')]: 'destroyed',
      [key('made and deleted')]: 'destroyed',
    });
    expect(byKey(report.rebuilt)).toEqual({ [key('made')]: 'deactivated', [key('signer')]: 'deactivated' });
    expect(report.lost).toEqual([expect.objectContaining({ keyId: key('lost'), objectIds: expect.arrayContaining([...(objectsOf.get(key('lost')) ?? [])]) })]);
  });

  test('it is ready again, with every restriction', async () => {
    await kms.start();
    admin = kms.client();
    expect(await state('disabled')).toBe('deactivated');
    expect(await state('compromised')).toBe('compromised');
    expect(await state('lifted')).toBe('active');
    expect(await state('active')).toBe('active');
    expect(await state('deleted')).toBe(404);
    expect(await state('made and deleted')).toBe(404);
    const { json } = await admin.get('/servicekey?state=destroyed&max=100');
    const destroyed = JSON.stringify(json);
    for (const name of ['deleted', 'made and deleted']) expect(destroyed).toContain(key(name));
    const again = await admin.call('POST', '/servicekey', { name: 'again', type: 'oct', size: 256, id: key('made and deleted') });
    expect(again.status).not.toBe(201);
  });

  test('ciphertexts of older keys open, also those made in the gap', async () => {
    expect(await decrypt(admin, key('old'), sealed['old'] ?? '')).toBe('from before');
    expect(await decrypt(admin, key('old'), sealed['later'] ?? '')).toBe('with an old key in the gap');
  });

  test('keys of the gap are deactivated, and whole once somebody activates them', async () => {
    expect(await state('made')).toBe('deactivated');
    expect(await state('signer')).toBe('deactivated');
    for (const name of ['made', 'signer']) expect((await admin.post(`/servicekey/${key(name)}/activate`)).status).toBe(204);
    expect(await decrypt(admin, key('made'), sealed['made'] ?? '')).toBe('in the gap');
    const signed = await admin.post(`/servicekey/${key('signer')}/sign`, { message: MESSAGE.toString('base64'), alg: 'ES256' });
    const signature = Buffer.from(signed.json.signature as string, 'base64');
    const original = createPublicKey({ key: publicKey as never, format: 'jwk' });
    expect(verify('sha256', MESSAGE, { key: original, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
  });

  test('a lost key is not there, and its other objects stay on the token', async () => {
    expect(await state('lost')).toBe(404);
  });

  test('every invocation counter rose by at least 2^20', async () => {
    const now = await counters();
    expect(reserved.size).toBeGreaterThan(0);
    for (const [id, before] of reserved) expect(now.get(id) ?? 0).toBeGreaterThanOrEqual(before + 2 ** 20);
    for (const id of objectsOf.get(key('active')) ?? []) {
      const gcm = (await store.rows(`select object_id from key_object where object_id = '${id}' and family = 'gcm'`)).length > 0;
      if (gcm) expect(now.get(id)).toBeGreaterThanOrEqual(2 ** 20);
    }
  });

  test('the audit tells of it, and verifies', async () => {
    const records = auditRecords(kms);
    const [summary] = records.filter(({ event }) => event === 'store.rollback-accepted');
    expect(summary?.detail).toMatchObject({ reason: 'restored for a test', epochBefore: 1, epoch: 2, reapplied: 4, rebuilt: 2, lost: 1 });
    const of = (event: string): number => records.filter((record) => record.event === event).length;
    expect([of('store.restriction-reapplied'), of('store.key-rebuilt'), of('store.key-lost')]).toEqual([4, 2, 1]);
    expect((await kmsCommand(kms, 'audit', 'verify')).stdout).toMatch(/the audit is intact/);
  });

  test('a second time there is nothing to accept', async () => {
    await admin.close();
    await kms.stop();
    const { code, stderr } = await kmsCommand(kms, 'store', 'accept-rollback', '--reason', 'again', '--yes');
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/nothing to accept/) });
  });

  test('objects of destroyed keys are gone from the token, those of others are there', () => {
    const there = onToken();
    const left = (name: string): number => (objectsOf.get(key(name)) ?? []).filter((id) => there.has(id)).length;
    for (const name of ['deleted', 'made and deleted']) expect(left(name)).toBe(0);
    const all = (name: string): number => objectsOf.get(key(name))?.length ?? 0;
    expect(left('lost')).toBe(all('lost') - 1);
    for (const name of ['old', 'disabled', 'compromised', 'made']) expect(left(name)).toBe(all(name));
  });
});
