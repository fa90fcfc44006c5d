// Preloaded with NODE_OPTIONS=--import: the process kills itself when it has said KMS_TEST_DIE_AT, KMS_TEST_DIE_AFTER ms
// later, as a power failure would at that point.
import process from 'node:process';
import { isMainThread } from 'node:worker_threads';

const at = process.env.KMS_TEST_DIE_AT;
if (isMainThread && at !== undefined) {
  const write = process.stderr.write.bind(process.stderr);
  const die = () => process.kill(process.pid, 'SIGKILL');
  process.stderr.write = (text, ...rest) => {
    const written = write(text, ...rest);
    if (String(text).includes(at)) {
      const after = Number(process.env.KMS_TEST_DIE_AFTER ?? 0);
      if (after === 0) die();
      else setTimeout(die, after);
    }
    return written;
  };
}
