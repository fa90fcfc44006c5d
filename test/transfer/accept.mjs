// Accepts a restored store as `kms store accept-rollback` does in its last steps: a new epoch, and its anchor.
import { createHash } from 'node:crypto';
import process from 'node:process';

const dist = (path) => import(new URL(`../../dist/${path}`, import.meta.url).href);
const [{ loadConfig }, { withSession }, { openStoreEngine }, { Changes }, { changeContext }, { anyHead }] = await Promise.all(
  ['config.js', 'cli/session.js', 'parts.js', 'store/changes.js', 'store/placement.js', 'store/succession.js'].map(dist),
);

const config = loadConfig(process.env);
await withSession(config, async ({ macs, anchors, bootId }) => {
  const engine = await openStoreEngine(config, bootId);
  const head = await anyHead(engine, macs);
  const storeId = await engine.storeId();
  const end = await engine.writer.transaction().execute(async (db) => {
    const changes = await Changes.begin(db, changeContext(engine, macs, storeId, bootId), 'accept', { ...head, epoch: head.epoch + 1 });
    await changes.update('installation', { singleton: 1 }, null, {});
    return changes.finish();
  });
  const auditHeads = createHash('sha256').digest();
  await anchors.write({ storeId, epoch: head.epoch + 1, seq: end.seq, journalMac: end.mac, auditHeads, writtenMs: Date.now() });
  await engine.close();
});
process.exit();
