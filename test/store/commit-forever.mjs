// Commits to the store named by its argument until it is killed. One line on stdout acknowledges each commit; writes to
// a pipe are synchronous on Linux, so that a line is out before the next commit begins. Runs built modules: see the brief
// of `sqlite-crash.test.ts`.
import process from 'node:process';
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { openSqliteStore } from '../../build/modules/store/sqlite.js';

const [path, bootId, ...keys] = process.argv.slice(2);
const [seal, journal] = keys.map((key) => (bytes) => createHmac('sha256', Buffer.from(key, 'hex')).update(bytes).digest());
const store = await openSqliteStore(path, bootId);
await store.unlock({ seal, journal });
const [{ id: vaultId }] = await store.vaults();
const hex = () => randomBytes(16).toString('hex');
const acknowledge = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const fixed = {
  ...{ label: '', context: null, kind: 'oct', bits: 256, curve: null, usages: ['encrypt'], origin: 'generated' },
  ...{ backupClass: 'never', state: 'active', createdMs: 1, activatedMs: 1, deactivatedMs: null },
  ...{ deactivationReason: null, compromisedMs: null, destroyedMs: null, deletion: null, namedHsm: true },
};
const versionFixed = { enabled: true, nbfMs: null, expMs: null, createdMs: 1, updatedMs: 1, publicKey: null, usages: ['encrypt'], madeFor: ['encrypt'], tags: [] };

for (;;) {
  const id = randomUUID();
  const objectIds = [hex(), hex()];
  const objects = objectIds.map((objectId) => ({ family: 'gcm', objectId, proof: randomBytes(48) }));
  await store.beginCreate({ id, vaultId, keyId: id, objectIds, bootId, createdMs: 1 }, 'r');
  acknowledge({ announced: id });
  await store.commitCreate(id, { ...fixed, vaultId, id, name: id }, { ...versionFixed, id: hex(), objects }, 'r');
  acknowledge({ created: id });
  await store.updateKey(vaultId, id, 0, { label: 'changed' }, 'r');
  acknowledge({ changed: id });
  acknowledge({ reserved: (await store.reserveInvocations('shared', 100, 2 ** 32)).granted });
  if (randomBytes(1)[0] % 2 === 0) continue;
  const tombstone = { state: 'destroyed', destroyedMs: 2 };
  await store.beginDestroy(vaultId, id, 1, tombstone, { id: `d-${id}`, bootId, createdMs: 2 }, 'r');
  acknowledge({ destroyed: id });
  await store.removeIntent(`d-${id}`, 'r');
  acknowledge({ cleared: id });
}
