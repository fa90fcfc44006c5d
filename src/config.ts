/**
 * Settings: read once from `$KMS_HOME/kms.yaml` and the environment, checked strictly, frozen. Precedence is
 * environment, then file, then default. A setting `server.drainMs` is `KMS_SERVER_DRAIN_MS` in the environment.
 * Each is documented beside its default; there is no other place.
 */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { KmsError } from './errors.ts';

const port = z.coerce.number().int().min(0).max(65_535);
const positive = z.coerce.number().int().min(1);

const schema = z.strictObject({
  server: z
    .strictObject({
      /** API, HTTPS; a client certificate is requested, not required. Also KMS_PORT. */
      port: port.default(8443),
      /** Health, documents and the public pages, HTTPS without a client certificate. Also KMS_PUBLIC_PORT. */
      publicPort: port.default(8444),
      /** Prometheus metrics, plain HTTP on loopback. Also KMS_METRICS_PORT. */
      metricsPort: port.default(9464),
      /** Addresses to listen on. A `dev` installation accepts others than loopback only with --dev-exposed. */
      addresses: z.array(z.string()).min(1).default(['127.0.0.1', '::1']),
      /** Server processes. */
      processes: positive.max(64).default(2),
      /** Region that the Key Vault API shows in its answers. */
      region: z.string().regex(/^[\w.-]{1,64}$/).default('local'),
      /** Milliseconds a draining process waits for idle connections to leave by themselves. */
      drainMs: positive.default(5000),
      /** Bytes of a request body. */
      bodyLimit: positive.default(65_536),
    })
    .prefault({}),
  hsm: z
    .strictObject({
      /** Name of a file in hsm-config/, or the path of one. */
      profile: z.string().default('softhsm-2.6.1'),
      /** CKA label of the token. */
      tokenLabel: z.string().min(1).max(32).default('kms'),
      /** File with the user PIN, relative to KMS_HOME. */
      pinFile: z.string().default('softhsm/user.pin'),
      /** Token threads of each server process; at least 2. */
      workers: z.coerce.number().int().min(2).max(64).default(2),
      /** Jobs in one message to a token thread. */
      batchMax: positive.max(64).default(16),
      /** Jobs waiting in each process before 503; 0 means workers × batchMax × 4. */
      queueMax: z.coerce.number().int().min(0).default(0),
      /** Milliseconds one message of token calls may take. */
      callTimeoutMs: positive.default(5000),
      /** Milliseconds one key generation may take. */
      createTimeoutMs: positive.default(60_000),
      /** Seconds between self-tests of the token, after the one at start. */
      selfTestSeconds: positive.default(86_400),
      /** Token threads that may hang before the process is replaced. */
      lostThreadsMax: z.coerce.number().int().min(0).default(1),
    })
    .prefault({}),
  store: z
    .strictObject({
      /** PostgreSQL of the installation, `postgres://user@host/database`; empty for SQLite in KMS_HOME, for one host. */
      url: z.string().default(''),
      /** File with the password of the PostgreSQL user, relative to KMS_HOME; or PGPASSWORD, or a URL that holds it. */
      passwordFile: z.string().default(''),
      /**
       * Milliseconds for which a process may go on with what it knows of keys when it cannot ask. A restriction is
       * acknowledged when every process has confirmed it, or when this time is over. Longer rides out a fail-over of
       * the database; then a disabled key may be used for so long where the news did not arrive, and the
       * acknowledgement waits for so long.
       */
      staleMaxMs: z.coerce.number().int().min(1000).max(30_000).default(1000),
      /** Seconds between full comparisons of rows, journal and token, after the one at start. */
      compareSeconds: positive.default(3600),
      /** Seconds between anchors on the token, while nothing is restricted. */
      anchorSeconds: positive.default(60),
      /** Milliseconds between two anchors, whatever happens; raise it to spare the flash of an HSM. */
      anchorMinIntervalMs: z.coerce.number().int().min(0).default(0),
    })
    .prefault({}),
  audit: z
    .strictObject({
      /** Bytes of one file of the audit stream. */
      segmentBytes: z.coerce.number().int().min(65_536).default(8 * 1024 * 1024),
    })
    .prefault({}),
  log: z
    .strictObject({
      /** Least severe level that is written. */
      level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']).default('info'),
    })
    .prefault({}),
  /** Random id of this host, written by kms init; names it in audit paths. */
  hostId: z.string().regex(/^[0-9a-f]{16}$/).default('0'.repeat(16)),
});

export type Settings = Readonly<z.infer<typeof schema>>;

export interface Config extends Settings {
  /** Absolute path of $KMS_HOME. */
  readonly home: string;
}

/** Names of the operating contract that do not follow the rule. */
const ALIASES: Readonly<Record<string, string>> = {
  KMS_PORT: 'server.port',
  KMS_PUBLIC_PORT: 'server.publicPort',
  KMS_METRICS_PORT: 'server.metricsPort',
};

type Tree = Record<string, unknown>;

/** @throws KmsError `internal` naming the setting, where it came from and what was expected */
export function loadConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const home = resolve(environment['KMS_HOME'] ?? 'var');
  const parsed = schema.safeParse(withEnvironment(readTree(resolve(home, 'kms.yaml')), environment));
  if (!parsed.success) throw new KmsError('internal', `configuration: ${z.prettifyError(parsed.error)}`);
  return Object.freeze({ ...parsed.data, home });
}

function readTree(path: string): Tree {
  const text = readIfPresent(path);
  const tree: unknown = text === undefined ? {} : parse(text);
  if (typeof tree === 'object' && tree !== null && !Array.isArray(tree)) return tree as Tree;
  throw new KmsError('internal', `configuration: ${path} holds no settings`);
}

function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function withEnvironment(tree: Tree, environment: Readonly<Record<string, string | undefined>>): Tree {
  const merged: Tree = structuredClone(tree);
  for (const [name, path] of settingNames()) {
    const value = environment[name];
    if (value !== undefined && value !== '') set(merged, path.split('.'), path.endsWith('addresses') ? value.split(',') : value);
  }
  return merged;
}

/** Every variable that is a setting, with its path. */
export function settingNames(): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const [section, settings] of Object.entries(schema.parse({}))) {
    if (typeof settings !== 'object') continue;
    for (const name of Object.keys(settings)) names.set(variableName(`${section}.${name}`), `${section}.${name}`);
  }
  for (const [alias, path] of Object.entries(ALIASES)) names.set(alias, path);
  return names;
}

function variableName(path: string): string {
  return `KMS_${path.replace('.', '_').replace(/([A-Z])/g, '_$1').toUpperCase()}`;
}

function set(tree: Tree, [head = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) tree[head] = value;
  else {
    const below = tree[head] ?? {};
    tree[head] = below;
    set(below as Tree, rest, value);
  }
}

/** Origin of the API as clients on this host reach it; the name of the built-in issuer begins with it. */
export function endpointOf({ server }: Pick<Config, 'server'>): string {
  return `https://localhost:${server.port}`;
}
