// Preloaded with NODE_OPTIONS=--import: the clock of the process is KMS_TEST_LATER_MS ahead, so that no test waits for
// what ends by itself.
import process from 'node:process';

const ahead = Number(process.env.KMS_TEST_LATER_MS ?? 0);
const now = Date.now;
Date.now = () => now() + ahead;
