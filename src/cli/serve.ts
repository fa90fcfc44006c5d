/** `kms serve`: start, signals, drain, close. */

import { existsSync, readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import type { Port } from '../app.ts';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { underHomeLock } from './home-lock.ts';
import { serveMetrics } from './metrics-server.ts';
import { Supervisor } from './supervisor.ts';

/** Addresses, not names: a name that begins with 127 may lead anywhere. */
function isLoopback(address: string): boolean {
  return address === '::1' || address === 'localhost' || (isIPv4(address) && address.startsWith('127.'));
}

/** @returns the exit code, when the service has ended */
export async function serve(options: { readonly devExposed: boolean }): Promise<number> {
  // Its young generation would grow by 32 MiB under a storm of connections, and keep it.
  setFlagsFromString('--semi-space-growth-factor=1');
  const config = loadConfig(process.env);
  const logger = createLogger({ level: config.log.level, base: { pid: process.pid } });
  if (config.store.url === '' && !existsSync(paths.store(config.home))) {
    throw new KmsError('internal', `no installation in ${config.home}: run \`kms init --dev\`, or set KMS_HOME`);
  }
  if (!options.devExposed) await assertNotExposed(config, logger);
  return underHomeLock(config.home, 'serve', () => run(config, logger));
}

function run(config: Config, logger: Logger): Promise<number> {
  return new Promise((resolve, reject) => {
    let ports: Readonly<Record<Port, number>> | undefined;
    const supervisor = new Supervisor(config, logger, {
      ready: (installation) => { if (ports !== undefined) announce(config, installation, ports); },
      fatal: (message) => { reject(new KmsError('internal', message)); },
    });
    const metrics = serveMetrics(supervisor, config.server.metricsPort, (err) => { logger.warn({ err }, 'no metrics'); });
    const stop = (): void => {
      metrics.close();
      void supervisor.stop().then(() => { resolve(0); });
    };
    process.on('SIGHUP', () => { supervisor.selfTest(); });
    process.once('SIGTERM', stop);
    process.once('SIGINT', stop);
    supervisor.start().then((bound) => { ports = bound; }, reject);
  });
}

/**
 * A development installation hands out keys more easily than anybody beyond this machine should see. The store is asked
 * which kind it is only when the answer matters: a supervisor that needs no store also stands while it is away.
 */
async function assertNotExposed(config: Config, logger: Logger): Promise<void> {
  const exposed = config.server.addresses.find((address) => !isLoopback(address));
  if (exposed === undefined) return;
  const { openInstalled } = await import('../parts.ts');
  const { store, installation } = await openInstalled(config, 'supervisor', (err) => {
    logger.warn({ err }, 'the store does not answer yet');
  });
  await store.close();
  if (installation.kind === 'prod') return;
  throw new KmsError('forbidden', `kind=dev listens on loopback only, not on ${exposed}: say --dev-exposed to insist`);
}

/** A joined host has no administrator's files. */
function readAdmin(home: string): { readonly okmsId: string } | undefined {
  const path = paths.client(home, 'admin.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { okmsId: string }) : undefined;
}

/** A first call to copy, then the line that scripts wait for. */
function announce({ home }: Config, kind: string, { api, public: open }: Readonly<Record<Port, number>>): void {
  const client = readAdmin(home);
  const endpoint = `https://localhost:${api}`;
  const ready = `ready ${endpoint} (API) https://localhost:${open} (public) kind=${kind}\n`;
  if (client === undefined) {
    process.stdout.write(ready);
    return;
  }
  const base = `${endpoint}/api/${client.okmsId}/v1/servicekey`;
  const curl = `curl -sS --cacert ${home}/tls/ca.pem --cert ${home}/clients/admin.pem --key ${home}/clients/admin.key`;
  const json = `-H 'content-type: application/json'`;
  process.stdout.write(`
First call, to copy and paste: make an AES-256 key in the HSM and encrypt with it.

  KMS='${curl}'
  ID=$($KMS ${json} -d '{"name":"first","type":"oct","size":256}' ${base} | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
  $KMS ${json} -d "{\\"plaintext\\":\\"$(printf 'hello' | base64)\\"}" ${base}/$ID/encrypt

The APIs to read, and with the client certificate in your browser to try:
  https://localhost:${open}/swagger/okms/   https://localhost:${open}/swagger/keyvault/

${ready}`);
}
