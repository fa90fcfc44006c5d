/** `kms doctor`, and the starts `kms serve` refuses: what is missing is named, and nothing is left running. */

import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Ended, runKms, spawnKms } from '../support/files.ts';
import { rows } from '../support/form.ts';
import { Installation } from '../support/installation.ts';
import { eventually } from '../support/wait.ts';

let kms: Installation;

beforeAll(async () => {
  kms = await Installation.make();
});

afterAll(async () => {
  await kms.remove();
});

interface Report {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly found: string; readonly cure?: string }[];
}

const doctor = (): Promise<Ended> => runKms(kms.environment, 'doctor', '--output', 'json');

describe('doctor', () => {
  test('is content with an installation', async () => {
    const text = await runKms(kms.environment, 'doctor');
    expect(text).toMatchObject({ code: 0 });
    expect(text.stdout).toMatch(/^all is well$/m);
    const json = await doctor();
    expect(json.code).toBe(0);
    const report = JSON.parse(json.stdout) as Report;
    expect(report.ok).toBe(true);
    expect(report.checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(report.checks.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['home', 'PIN file', 'PKCS#11 module', 'store', 'token', 'mechanisms', 'server certificate']),
    );
  });

  test.each(rows([
    ['token', 'softhsm/tokens'],
    ['PIN file', 'softhsm/user.pin'],
    ['store', 'kms.db'],
    ['home', 'kms.yaml'],
    ['server certificate', 'tls/server.pem'],
  ] as const, 2))('names the missing %s', async (name, path) => {
    const place = join(kms.home, path);
    renameSync(place, `${place}.away`);
    try {
      const { code, stdout } = await doctor();
      expect(code).toBe(1);
      const report = JSON.parse(stdout) as Report;
      expect(report.ok).toBe(false);
      const check = report.checks.find((candidate) => candidate.name === name);
      expect(check?.ok).toBe(false);
      expect(check?.cure).not.toBe('');
      const text = await runKms(kms.environment, 'doctor');
      expect(text.code).toBe(1);
      expect(text.stdout).toContain(`MISSING ${name}`);
    } finally {
      rmSync(place, { recursive: true, force: true });
      renameSync(`${place}.away`, place);
    }
    expect((await doctor()).code).toBe(0);
  });

  test('makes no login, with which it could use up tries of the PIN', async () => {
    const place = join(kms.home, 'softhsm', 'user.pin');
    renameSync(place, `${place}.away`);
    const { stdout } = await doctor();
    renameSync(`${place}.away`, place);
    const report = JSON.parse(stdout) as Report;
    expect(report.checks.find(({ name }) => name === 'token')).toMatchObject({ ok: true });
  });
});

describe('serve', () => {
  const listening = (host: string, port: number): Promise<Server> =>
    new Promise((done, failed) => {
      const server = createServer();
      server.once('error', failed);
      server.listen(port, host, () => { done(server); });
    });
  const closed = (server: Server): Promise<unknown> => new Promise((done) => { server.close(done); });

  test('without an installation says how to make one', async () => {
    const home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    try {
      const { code, stderr, stdout } = await runKms({ ...kms.environment, KMS_HOME: home }, 'serve');
      expect(code).not.toBe(0);
      expect(typeof code).toBe('number');
      expect(stderr).toContain(home);
      expect(stderr).toContain('kms init');
      expect(stderr).not.toMatch(/^\s+at /m);
      expect(stdout).not.toContain('ready');
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });

  test.each([['API', 'port'], ['public', 'publicPort']] as const)('says that the %s port is taken, and ends', async (_name, which) => {
    const taken = await listening('127.0.0.1', kms[which]);
    try {
      const { code, stderr } = await runKms(kms.environment, 'serve');
      expect(code).toBe(1);
      expect(stderr).toContain(`port ${kms[which]}`);
      expect(stderr).toContain('EADDRINUSE');
      expect(stderr).not.toMatch(/^\s+at /m);
    } finally {
      await closed(taken);
    }
    // Nothing of it goes on holding the other port.
    await closed(await listening('127.0.0.1', kms.port));
    await closed(await listening('127.0.0.1', kms.publicPort));
  });

  test('a taken metrics port is logged and no reason not to serve', async () => {
    const taken = await listening('127.0.0.1', kms.metricsPort);
    try {
      await kms.start();
      expect(kms.output).toContain('EADDRINUSE');
      expect(await kms.stop()).toBe(0);
    } finally {
      await closed(taken);
    }
  });

  test.each(rows(['0.0.0.0', '::', '127.0.0.1,0.0.0.0', '127.example.invalid'], 3))('listens on %s only with --dev-exposed', async (addresses) => {
    const { code, stderr, stdout } = await runKms({ ...kms.environment, KMS_SERVER_ADDRESSES: addresses }, 'serve');
    expect(code).toBe(1);
    expect(stderr).toContain('--dev-exposed');
    expect(stdout).not.toContain('ready');
  });

  test('with --dev-exposed it does', async () => {
    const server = spawnKms({ ...kms.environment, KMS_SERVER_ADDRESSES: '0.0.0.0' }, 'serve', '--dev-exposed');
    let said = '';
    server.stdout?.on('data', (chunk: Buffer) => { said += chunk.toString(); });
    const end = new Promise((done) => server.once('close', done));
    await eventually('ready', () => /^ready .*kind=dev$/m.test(said));
    server.kill('SIGTERM');
    expect(await end).toBe(0);
  });

  test('a second server on the same home and ports is refused, and the first goes on', async () => {
    await kms.start();
    const second = await runKms(kms.environment, 'serve');
    expect(second.code).toBe(1);
    expect(second.stderr).toContain('kms serve is running already here');
    const stranger = kms.client(null);
    expect((await stranger.get(`https://localhost:${kms.publicPort}/readyz`)).status).toBe(200);
    await stranger.close();
    expect(await kms.stop()).toBe(0);
    expect((await kms.command('audit', 'verify')).stdout).toContain('the audit is intact');
  });

  test('a second server on the same home and other ports is refused, and the first goes on with its keys', async () => {
    await kms.start();
    const client = kms.client();
    const made = await client.post('/servicekey', { name: 'shared', type: 'oct', size: 256 });
    const path = `/servicekey/${made.json.id}`;
    const sealed = await client.post(`${path}/encrypt`, { plaintext: 'aGVsbG8=' });
    const second = await runKms({ ...kms.environment, ...(await freePorts()) }, 'serve');
    expect(second).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('kms serve is running already here') });
    expect((await client.post(`${path}/decrypt`, { ciphertext: sealed.json.ciphertext })).json).toEqual({ plaintext: 'aGVsbG8=' });
    await client.close();
    expect(await kms.stop()).toBe(0);
    expect((await kms.command('audit', 'verify')).stdout).toContain('the audit is intact');
  });

  async function freePorts(): Promise<Readonly<Record<'KMS_PORT' | 'KMS_PUBLIC_PORT' | 'KMS_METRICS_PORT', string>>> {
    const servers = await Promise.all([0, 0, 0].map((port) => listening('127.0.0.1', port)));
    const [api, open, metrics] = servers.map((server) => String((server.address() as { port: number }).port));
    await Promise.all(servers.map(closed));
    return { KMS_PORT: api!, KMS_PUBLIC_PORT: open!, KMS_METRICS_PORT: metrics! };
  }
});
