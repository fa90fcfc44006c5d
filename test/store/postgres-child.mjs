// Another server process, on the built package. Arguments: URL, boot id, staleMax, and `watch` or `lock`.
// `watch`: at every turn of the event loop, checks that no number is given that is older than staleMax: it remembers
// when a number was first given, and reads the head's seq to tell whether another was committed since.
import process from 'node:process';
import { setImmediate as turn } from 'node:timers/promises';
import { sql } from 'kysely';
import { openPostgresEngine } from '../../build/modules/store/postgres-engine.js';

const [url, bootId, staleMax, what] = process.argv.slice(2);
const staleMaxMs = Number(staleMax);
const engine = await openPostgresEngine({
  url,
  bootId,
  staleMaxMs,
  readSeq: async (db) => (await sql`select seq from head`.execute(db)).rows[0].seq,
  onWentBack: () => process.send('went back'),
});

if (what === 'lock') {
  await engine.exclusively(async () => {
    process.send('ready');
    await new Promise(() => undefined);
  });
}

let ended = false;
process.on('message', () => (ended = true));
while (counter() === undefined || counter() !== counter()) await turn();
process.send('ready');
let before = performance.now();
while (!ended) {
  const last = counter();
  await turn();
  const now = performance.now();
  // It stood still for longer than staleMax: what it knew before may not be served.
  if (now - before > staleMaxMs && last !== undefined && counter() === last) process.send(`old number after ${now - before} ms`);
  before = now;
}
await engine.close();
process.disconnect();

function counter() {
  try {
    return engine.changeCounter();
  } catch {
    return undefined;
  }
}
