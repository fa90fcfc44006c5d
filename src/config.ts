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

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const claim = z.string().regex(/^[\w:./-]{1,128}$/);

/** Issuers of access tokens beside the built-in one. Only their own key sets vouch for their tokens. */
const tokenIssuer = z.strictObject({
  /** By which commands name it. */
  name: z.string().regex(NAME),
  /** Exact `iss`. Principals are stored by it. */
  issuer: z.url(),
  /** Exact `aud`, any of them; the endpoint of this host, with and without a slash, where there is none. */
  audiences: z.array(z.string().min(1)).default([]),
  /** Of its signatures. */
  algorithms: z.array(z.enum(['ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA'])).min(1),
  /** Its key set, JSON, relative to KMS_HOME; read again when it changes. */
  jwksFile: z.string().optional(),
  /** Or where its key set is. */
  jwksUrl: z.url({ protocol: /^https$/ }).optional(),
  /** PEM of the CA of that server, relative to KMS_HOME; those that the system trusts where there is none. */
  caFile: z.string().optional(),
  /** Seconds for which a fetched set counts. */
  cacheSeconds: z.coerce.number().int().min(1).max(86_400).default(600),
  /** Seconds between two fetches for keys that the set lacks. */
  cooldownSeconds: z.coerce.number().int().min(1).max(3600).default(30),
  /** Seconds by which clocks may differ. */
  skewSeconds: z.coerce.number().int().min(0).max(60).default(30),
  /** Claim that names the subject, such as `sub` or `oid`. */
  subjectClaim: claim.default('sub'),
  /** Claim that names the token in the audit, such as `jti` or `uti`; it is not required where there is none. */
  idClaim: claim.optional(),
  /** Claims with lists of groups and of roles. */
  groupsClaim: claim.default('groups'),
  rolesClaim: claim.default('roles'),
  /** Claims that must have exactly this value, such as `tid`. */
  requiredClaims: z.record(claim, z.string()).default({}),
}).refine(({ jwksFile, jwksUrl }) => (jwksFile === undefined) !== (jwksUrl === undefined), 'expected either jwksFile or jwksUrl');

/** CAs beside the access CA of the installation, whose client certificates are accepted. */
const certificateAuthority = z.strictObject({
  /** By which commands name it. */
  name: z.string().regex(NAME),
  /** PEM, relative to KMS_HOME. */
  certificateFile: z.string(),
  /** CRL, PEM, relative to KMS_HOME; read again when it changes. In `prod`, one that is overdue refuses everybody. */
  crlFile: z.string().optional(),
  /** Which name is the subject of the principal: the common name, or the only alternative name of this type. */
  subject: z.enum(['cn', 'dns', 'email', 'uri']).default('cn'),
  /** The only vault for which its certificates are good; without it they are for the Key Vault API alone. */
  vault: z.string().optional(),
});

const port = z.coerce.number().int().min(0).max(65_535);
const positive = z.coerce.number().int().min(1);

/** Parsed once in a process: compiling the schema for it would take longer than all the rest. */
const ONCE = { jitless: true };

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
      /** Connections at a time to each of the two HTTPS ports, over all processes; those above are closed at once. */
      connectionsMax: positive.max(100_000).default(2048),
      /** Seconds after which a connection is closed with its next answer. */
      connectionSeconds: positive.max(600).default(600),
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
  access: z
    .strictObject({
      /** Issuers of access tokens; see above. */
      issuers: z.array(tokenIssuer).default([]),
      /** CAs of client certificates; see above. */
      authorities: z.array(certificateAuthority).default([]),
    })
    .prefault({}),
  /** Requests per second of one caller over all processes of this host; 0 for no limit. A second's worth may come at once. */
  limits: z
    .strictObject({
      /** Uses of key material, and random bytes. */
      useRate: z.coerce.number().int().min(0).default(0),
      /** Listings and looks. */
      readRate: z.coerce.number().int().min(0).default(0),
      /** Changes: creation, import, rotation, states, deletion. */
      manageRate: z.coerce.number().int().min(0).default(0),
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
  const parsed = schema.safeParse(withEnvironment(readTree(resolve(home, 'kms.yaml')), environment), ONCE);
  if (!parsed.success) throw new KmsError('internal', `configuration: ${z.prettifyError(parsed.error)}`);
  return Object.freeze({ ...parsed.data, home });
}

function readTree(path: string): Tree {
  const text = readIfPresent(path);
  const tree: unknown = text === undefined ? {} : parseYaml(path, text);
  if (typeof tree === 'object' && tree !== null && !Array.isArray(tree)) return tree as Tree;
  throw new KmsError('internal', `configuration: ${path} holds no settings`);
}

/** @throws KmsError `internal` naming where it came from */
function parseYaml(from: string, text: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    throw new KmsError('internal', `configuration: ${from}: ${(cause as Error).message}`, { cause });
  }
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
    if (value !== undefined && value !== '') set(merged, path.split('.'), valueOf(path, value));
  }
  return merged;
}

/** Lists are separated by commas, and those of objects are YAML, which JSON is too. */
function valueOf(path: string, value: string): unknown {
  if (path.startsWith('access.')) return parseYaml(variableName(path), value);
  return path.endsWith('addresses') ? value.split(',') : value;
}

/** Every variable that is a setting, with its path. */
export function settingNames(): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const [section, settings] of Object.entries(schema.parse({}, ONCE))) {
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
