/** `kms serve`: start, signals, drain, close. */

import { existsSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import type { Port } from '../app.ts';
import { type Config, loadConfig } from '../config.ts';
import { KmsError } from '../errors.ts';
import { paths } from '../home.ts';
import { openInstalled } from '../parts.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { readAdmin } from './join.ts';
import { serveMetrics } from './metrics-server.ts';
import { Supervisor } from './supervisor.ts';

/** Addresses, not names: a name that begins with 127 may lead anywhere. */
function isLoopback(address: string): boolean {
  return address === '::1' || address === 'localhost' || (isIPv4(address) && address.startsWith('127.'));
}

/** @returns the exit code, when the service has ended */
export async function serve(options: { readonly devExposed: boolean }): Promise<number> {
  const config = loadConfig(process.env);
  const logger = createLogger({ level: config.log.level, base: { pid: process.pid } });
  const kind = await installationKind(config, logger);
  assertNotExposed(config, kind, options.devExposed);
  return new Promise((resolve, reject) => {
    let ports: Readonly<Record<Port, number>> | undefined;
    const supervisor = new Supervisor(config, logger, {
      ready: () => { if (ports !== undefined) announce(config, kind, ports); },
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

async function installationKind(config: Config, logger: Logger): Promise<'dev' | 'prod'> {
  if (config.store.url === '' && !existsSync(paths.store(config.home))) {
    throw new KmsError('internal', `no installation in ${config.home}: run \`kms init --dev\`, or set KMS_HOME`);
  }
  const { store, installation } = await openInstalled(config, 'supervisor', (err) => {
    logger.warn({ err }, 'the store does not answer yet');
  });
  await store.close();
  return installation.kind;
}

/** A development installation hands out keys more easily than anybody beyond this machine should see. */
function assertNotExposed({ server }: Config, kind: 'dev' | 'prod', devExposed: boolean): void {
  const exposed = server.addresses.find((address) => !isLoopback(address));
  if (kind === 'prod' || devExposed || exposed === undefined) return;
  throw new KmsError('forbidden', `kind=dev listens on loopback only, not on ${exposed}: say --dev-exposed to insist`);
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

The API to read, and with the client certificate in your browser to try: https://localhost:${open}/swagger/okms/

${ready}`);
}
