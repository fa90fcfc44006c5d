// A full comparison of the store with its journal and with the token, by a process that saw nothing before: prints
// `{damages, findings}`.
import process from 'node:process';
import { withSession } from '../../build/modules/cli/session.js';
import { loadConfig } from '../../build/modules/config.js';
import { Reconciler } from '../../build/modules/keys/reconcile.js';
import { labelPrefixes } from '../../build/modules/pkcs11/token.js';

const found = await withSession(loadConfig(process.env), async ({ store, macs, engine, installation, audit }) => {
  const damages = [];
  store.onDamage((damage) => damages.push(damage));
  await store.unlock(macs);
  let cursor;
  do cursor = await store.compare(cursor);
  while (cursor !== undefined);
  const reconciler = new Reconciler({
    engine,
    store,
    audit,
    outbox: { recorded: () => undefined },
    internalKeys: installation.internalKeys,
    labels: Object.values(labelPrefixes(installation.id)),
    hasEnded: () => Promise.resolve(false),
  });
  return { damages, findings: await reconciler.report() };
});
process.stdout.write(JSON.stringify(found));
