// An installation of its own for a measurement, removed at its end.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const MAIN = resolve(import.meta.dirname, '../dist/cli/main.js');

/** @returns a port that is free now */
function freePort() {
  return new Promise((done) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => { done(port); });
    });
  });
}

export async function installation(settings = {}) {
  const home = mkdtempSync(join(tmpdir(), 'kms-timing-'));
  const [port, publicPort, metricsPort] = [await freePort(), await freePort(), await freePort()];
  const env = {
    PATH: process.env.PATH, KMS_HOME: home, KMS_PORT: String(port), KMS_PUBLIC_PORT: String(publicPort), KMS_METRICS_PORT: String(metricsPort),
    KMS_LOG_LEVEL: 'error', KMS_SERVER_DRAIN_MS: '200', ...settings,
  };
  const kms = (...args) => execFileSync(process.execPath, [MAIN, ...args], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  kms('init', '--dev');
  const server = spawn(process.execPath, [MAIN, 'serve'], { env, stdio: ['ignore', 'pipe', 'ignore'] });
  await new Promise((ready) => server.stdout.on('data', (text) => { if (/^ready /m.test(String(text))) ready(); }));
  const admin = JSON.parse(readFileSync(join(home, 'clients', 'admin.json'), 'utf8'));
  const [ca, cert, key] = [admin.ca, admin.cert, admin.key].map((path) => readFileSync(path));
  const end = async () => {
    const ended = new Promise((done) => server.once('exit', done));
    server.kill('SIGTERM');
    await ended;
  };
  const remove = () => { rmSync(home, { recursive: true, force: true }); };
  const stop = async () => {
    await end();
    remove();
  };
  return { kms, env, port, pid: server.pid, okmsId: admin.okmsId, tls: { ca, cert, key }, end, remove, stop };
}

export function quantile(values, of) {
  return values.toSorted((left, right) => left - right)[Math.min(values.length - 1, Math.floor(values.length * of))];
}
