// Fills the store named by its argument under a limit on file size until a commit fails, lifts the limit, and commits
// again. Prints what the failure was and how many keys are there. Started under `prlimit`; runs from dist.
import process from 'node:process';
import { spawnSync } from 'node:child_process';
import { openSqliteStore } from '../../dist/store/sqlite.js';

const store = await openSqliteStore(process.argv[2]);
const [{ id: vaultId }] = await store.vaults();
const begin = (n) =>
  store.beginCreate({ id: `i${n}`, vaultId, keyId: `k${n}`, objectIds: ['0'.repeat(2_000)], bootId: 'b', createdMs: 1 });

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
