// Fills the store named by its first argument, sealed with the keys that follow, under a limit on file size until a commit fails, lifts the limit, and commits
// again. Prints what the failure was and how many keys are there. Started under `prlimit`; runs built modules.
import process from 'node:process';
import { createHmac } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { openSqliteStore } from '../../build/modules/store/sqlite.js';

const [path, ...keys] = process.argv.slice(2);
const [seal, journal] = keys.map((key) => (bytes) => createHmac('sha256', Buffer.from(key, 'hex')).update(bytes).digest());
const store = await openSqliteStore(path, 'boot');
await store.unlock({ seal, journal });
const [{ id: vaultId }] = await store.vaults();
const begin = (n) =>
  store.beginCreate({ id: `i${n}`, vaultId, keyId: `k${n}`, objectIds: ['0'.repeat(2_000)], bootId: 'b', createdMs: 1 }, 'r');

let acknowledged = 0;
let failure;
while (failure === undefined && acknowledged < 10_000) {
  await begin(acknowledged).then(
    () => acknowledged++,
    (error) => (failure = error),
  );
}
const during = await store.intents();
spawnSync('prlimit', ['--pid', String(process.pid), '--fsize=unlimited:'], { stdio: 'inherit' });
await begin('after');
const after = await store.intents();
await store.close();
process.stdout.write(
  JSON.stringify({
    code: failure?.code,
    retryAfter: failure?.retryAfter,
    cause: failure?.cause?.code,
    lost: acknowledged - during.length,
    after: after.length - during.length,
  }),
);
