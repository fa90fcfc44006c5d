/** Nobody reads the PIN through a debugger (S-26): not by the signal that makes Node listen for one, not by its options. */

import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { runKms } from '../support/files.ts';
import { times } from '../support/form.ts';
import { Installation } from '../support/installation.ts';

const EVERY_MS = 5;
/** State of a listening socket in /proc/net/tcp. */
const LISTENS = '0A';

let kms: Installation;

afterEach(() => kms.remove());

/** TCP ports on which these processes listen, as the operating system knows it. */
function portsOf(pids: readonly number[]): readonly number[] {
  const sockets = new Set(pids.flatMap((pid) => {
    const directory = `/proc/${pid}/fd`;
    return readdirSync(directory).map((fd) => linkOf(join(directory, fd)));
  }));
  const lines = ['tcp', 'tcp6'].flatMap((file) => readFileSync(`/proc/net/${file}`, 'utf8').trim().split('\n').slice(1));
  return [...new Set(lines.map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, , , , , , inode]) => state === LISTENS && sockets.has(`socket:[${inode ?? ''}]`))
    .map(([, local]) => parseInt(local!.split(':')[1]!, 16)))];
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    // Closed meanwhile.
    return '';
  }
}

function signal(pid: number): void {
  try {
    process.kill(pid, 'SIGUSR1');
  } catch {
    // Gone.
  }
}

/** Node listens for the signal from its first moments on; one that comes earlier ends the process, as it ends any program. */
function catches(pid: number): boolean {
  try {
    const [, mask = '0'] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return (BigInt(`0x${mask}`) & (1n << BigInt(constants.signals.SIGUSR1 - 1))) !== 0n;
  } catch {
    return false;
  }
}

describe('SIGUSR1', () => {
  test('opens no port, from the first moment of each process until it is ready, and after', async () => {
    kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
    for (let start = 0; start < times(1, 5); start += 1) {
      const phase: { is: 'starting' | 'ready' } = { is: 'starting' };
      const started = kms.start().finally(() => { phase.is = 'ready'; });
      while (phase.is === 'starting') {
        for (const pid of [kms.pid, ...kms.serverProcesses()]) if (catches(pid)) signal(pid);
        await new Promise((turn) => { setTimeout(turn, EVERY_MS); });
      }
      await started;
      const processes = [kms.pid, ...kms.serverProcesses()];
      for (const pid of processes) signal(pid);
      expect((await kms.client().get('/servicekey')).status).toBe(200);
      expect([...portsOf(processes)].sort()).toEqual([kms.port, kms.publicPort, kms.metricsPort].sort());
      for (const pid of processes) expect(readFileSync(`/proc/${pid}/coredump_filter`, 'utf8').trim()).toBe('00000000');
      expect(await kms.stop()).toBe(0);
    }
  });
});

describe('--inspect', () => {
  test('is refused by an installation for production, before the PIN is read; not by one for development', async () => {
    const pins = mkdtempSync(join(tmpdir(), 'kms-test-'));
    const [pinFile, soPinFile] = ['user.pin', 'so.pin'].map((name) => {
      const path = join(pins, name);
      writeFileSync(path, randomBytes(18).toString('base64url'), { mode: 0o400 });
      return path;
    });
    const hsm = { profile: 'softhsm-2.6.1', tokenLabel: 'prod-token', pinFile, soPinFile };
    kms = await Installation.production(() => ({ hsm, vault: { name: 'vault-one', flavour: 'premium', backup: 'never' }, administrator: { subject: 'root' } }));
    const debugged = { ...kms.environment, NODE_OPTIONS: '--inspect=127.0.0.1:0' };
    const refusal = /kind=prod does not run with --inspect/;
    // Without the PIN it would be another refusal.
    rmSync(pins, { recursive: true });
    for (const words of [['serve'], ['vault', 'list']]) {
      expect(await runKms(debugged, ...words)).toMatchObject({ code: 1, stderr: expect.stringMatching(refusal) });
    }
    await kms.remove();
    kms = await Installation.make();
    expect(await runKms({ ...kms.environment, NODE_OPTIONS: '--inspect=127.0.0.1:0' }, 'vault', 'list')).toMatchObject({ code: 0 });
  });
});
