// Preloaded with NODE_OPTIONS=--require: collects garbage all the time, in every process and thread of the service, and
// says once for each that it does. NODE_OPTIONS=--expose-gc gives the function, GC_EVERY_MS the pause between two.
const { writeSync } = require('node:fs');
const { threadId } = require('node:worker_threads');

let said = false;
setInterval(() => {
  globalThis.gc();
  if (said) return;
  said = true;
  writeSync(2, `collecting in process ${process.pid} thread ${threadId}\n`);
}, Number(process.env.GC_EVERY_MS ?? 20)).unref();
