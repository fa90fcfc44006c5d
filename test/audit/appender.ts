/** A child process that appends from the built package until it is told to stop, and says what became of each record. */

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { eventually } from '../support/wait.ts';
import { BOOT, HOST, PRIVATE_PEM, TAIL_KEY } from './support.ts';

const built = new URL('../../build/modules/audit/log.js', import.meta.url);

// writeSync: what the parent reads was answered before a SIGKILL, never after.
const PROGRAM = `
  import { writeSync } from 'node:fs';
  import { createHmac, createPublicKey, sign } from 'node:crypto';
  import { setTimeout as sleep } from 'node:timers/promises';
  const [url, directory, hostId, bootId, segmentBytes, key, tailKey] = process.argv.slice(1);
  const { openAuditLog } = await import(url);
  const log = await openAuditLog({ directory, hostId, bootId, segmentBytes: Number(segmentBytes) });
  let reserved = 0;
  if (key !== '') log.seal({
    installation: 'installation-1',
    kind: 'dev',
    mac: (bytes) => createHmac('sha256', tailKey).update(bytes).digest(),
    sign: async (bytes) => sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }),
    publicKey: createPublicKey(key).export({ format: 'der', type: 'spki' }),
    storeHead: () => ({ epoch: 1, seq: 1, mac: '' }),
    peers: async () => [],
    takeCounters: () => ({ ff: (reserved += 256) }),
    onCheckpoint: () => writeSync(1, 'checkpoint ' + reserved + '\\n'),
  });
  let stop = false;
  process.stdin.on('end', () => (stop = true)).resume();
  const one = (key) => log.append({ event: 'key.encrypt', result: 'success', requestId: 'r-' + key, key: String(key) }).then(
    () => writeSync(1, 'ok ' + key + '\\n'),
    (error) => writeSync(1, error.code + ' ' + key + '\\n'),
  );
  for (let key = 0; !stop; key += 20) {
    await Promise.all(Array.from({ length: 20 }, (_, i) => one(key + i)));
    await sleep(log.healthy() ? 0 : 20);
  }
  await log.close();
`;

const running = new Set<ChildProcess>();

/** A test that failed leaves its child behind, and jest would wait for it. */
export function killAppenders(): void {
  for (const child of running) child.kill('SIGKILL');
}

export class Appender {
  readonly written = new Set<string>();
  readonly refused = new Set<string>();
  readonly codes = new Set<string>();
  /** Invocations that a checkpoint on disk tells of. */
  reserved = 0;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    running.add(child);
    child.once('close', () => running.delete(child));
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const [code, key] = line.split(' ') as [string, string];
      if (code === 'checkpoint') {
        this.reserved = Number(key);
        return;
      }
      this.codes.add(code);
      (code === 'ok' ? this.written : this.refused).add(key);
    });
  }

  static start(directory: string, segmentBytes: number, sealed: 'sealed' | 'unsealed' = 'unsealed'): Appender {
    if (!existsSync(fileURLToPath(built))) throw new Error('build/modules is missing: npm run build');
    const keys = sealed === 'sealed' ? [PRIVATE_PEM, TAIL_KEY] : ['', ''];
    const programArguments = [built.href, directory, HOST, BOOT, String(segmentBytes), ...keys];
    const options = ['--input-type=module', '-e', PROGRAM, '--', ...programArguments];
    return new Appender(spawn(process.execPath, options, { stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Waits until `count` more records were written, or refused. */
  async more(kind: 'written' | 'refused', count: number): Promise<void> {
    const goal = this[kind].size + count;
    await eventually(`${goal} ${kind}`, () => {
      if (this.#child.exitCode !== null) throw new Error(`${this[kind].size} of ${goal} ${kind}`);
      return this[kind].size >= goal;
    });
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await once(this.#child, 'close');
  }

  /** Closes the log; returns the exit code. */
  async stop(): Promise<number | null> {
    const closed = once(this.#child, 'close');
    this.#child.stdin!.end();
    await closed;
    return this.#child.exitCode;
  }
}
