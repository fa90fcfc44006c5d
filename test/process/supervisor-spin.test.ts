/**
 * Server processes killed while connections arrive: the supervisor must come to know that they are dead. It once offered
 * a connection to a dead process for ever, without going round its event loop; plain TCP was enough, no credential.
 */

import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { times } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';

const EVERY_MS = 2;
/** Of the product: answered again after every server process was killed. */
const BACK_MS = 10_000;

describe.each([1, 2])('%i server processes', (processes) => {
  let kms: Installation;
  let knocking: NodeJS.Timeout;
  const open = new Set<Socket>();

  beforeEach(async () => {
    kms = await Installation.make({ KMS_SERVER_PROCESSES: String(processes) });
    await kms.start();
    knocking = setInterval(() => { knock(); }, EVERY_MS);
  });

  afterEach(async () => {
    clearInterval(knocking);
    for (const socket of open) socket.destroy();
    await kms.remove();
  });

  function knock(): void {
    const socket = connect(kms.port, '127.0.0.1');
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => { open.delete(socket); });
    // Some are only opened, others say something that is no TLS.
    socket.on('connect', () => { socket.write('GET / HTTP/1.1\r\n\r\n'); });
    setTimeout(() => { socket.destroy(); }, 500);
  }

  async function answers(): Promise<boolean> {
    const client = kms.client();
    try {
      return (await client.get('/servicekey')).status === 200;
    } catch {
      return false;
    } finally {
      await client.close();
    }
  }

  test('killed under connections, answered again, and SIGTERM obeyed', async () => {
    for (let kill = 1; kill <= times(2, 20); kill += 1) {
      const victims = kms.serverProcesses();
      expect(victims).toHaveLength(processes);
      for (const victim of victims) process.kill(victim, 'SIGKILL');
      await eventually(`answered again after kill ${kill}`, answers, BACK_MS * kms.slowness);
      await eventually(`as many processes as before after kill ${kill}`, () => {
        const now = kms.serverProcesses();
        return now.length === processes && !now.some((pid) => victims.includes(pid));
      });
      await eventually(`every process takes connections after kill ${kill}`, async () =>
        (await kms.metric('kms_ready')) === processes);
    }
    clearInterval(knocking);
    expect(await kms.stop()).toBe(0);
  });
});
