/**
 * A real installation for one test file: what `kms init --dev` makes, in a temporary $KMS_HOME, `kms serve` as a child
 * process on free ports, and clients over mutual TLS. Everything goes through the built package, as users run it.
 */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { Agent, request } from 'undici';
import { assertHidden, assertTellsNone, secretsOf } from './canary.ts';
import { copyHome } from './homes.ts';
import { PATIENCE_MS, within, witness } from './wait.ts';

const MAIN = resolve('dist/cli/main.js');
/** A start of two processes on two quiet cores. */
const QUIET_START_MS = 2500;

export interface AdminFile {
  readonly okmsId: string;
  readonly vaultName: string;
  readonly endpoint: string;
  readonly vaultUrl: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** Parsed when the answer is JSON. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  readonly json: any;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((server) => new Promise<void>((done) => server.listen(0, '127.0.0.1', done))));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

export class Installation {
  readonly home: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly port: number;
  readonly publicPort: number;
  readonly metricsPort: number;
  /** Whose administrator's files our clients use: a joined host has none. */
  readonly #adminHome: string;
  #server: ChildProcess | undefined;
  readonly #unwitness: () => void;
  /** Of the slowest start so far, from `kms serve` to `ready`. */
  #startMs = 0;
  /** Standard output and error of every server so far. */
  output = '';

  private constructor(home: string, [port = 0, publicPort = 0, metricsPort = 0]: readonly number[], extra: NodeJS.ProcessEnv, adminHome = home) {
    this.home = home;
    this.#adminHome = adminHome;
    this.port = port;
    this.publicPort = publicPort;
    this.metricsPort = metricsPort;
    const ports = { KMS_PORT: String(port), KMS_PUBLIC_PORT: String(publicPort), KMS_METRICS_PORT: String(metricsPort) };
    // Clients of a test keep their connections; nobody needs the default grace of 5 s.
    const drain = { KMS_SERVER_DRAIN_MS: '200' };
    // One process, unless the test is about several: each costs a second of processor time to start.
    const one = { KMS_SERVER_PROCESSES: '1' };
    this.environment = { PATH: process.env['PATH'], KMS_HOME: home, ...one, ...drain, ...ports, ...extra };
    this.#unwitness = witness(() => this.output);
  }

  /**
   * What `kms init --dev` makes in a fresh home, copied: all of a run have one identity.
   *
   * @param extra settings for all commands, such as KMS_SERVER_PROCESSES
   * @param prepare called with the home while it is empty
   */
  static async make(extra: NodeJS.ProcessEnv = {}, prepare: (home: string) => void = () => undefined): Promise<Installation> {
    if (extra['KMS_STORE_URL'] !== undefined) return Installation.fresh(extra, prepare);
    const home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    prepare(home);
    const installation = new Installation(home, await freePorts(3), extra);
    await copyHome(home, installation.port);
    return installation;
  }

  /** `kms init --dev` itself, in a fresh home; with an identity of its own. */
  static async fresh(extra: NodeJS.ProcessEnv = {}, prepare: (home: string) => void = () => undefined): Promise<Installation> {
    const home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    prepare(home);
    const installation = new Installation(home, await freePorts(3), extra);
    await installation.command('init', '--dev');
    return installation;
  }

  /** `kms init --from FILE` in a fresh home. @param plan what the file says, given the directory where its secrets may be */
  static async production(plan: (directory: string) => object, extra: NodeJS.ProcessEnv = {}): Promise<Installation> {
    const home = mkdtempSync(join(tmpdir(), 'kms-test-'));
    const installation = new Installation(home, await freePorts(3), extra);
    mkdirSync(join(home, 'softhsm'));
    writeFileSync(join(home, 'plan.yaml'), JSON.stringify(plan(join(home, 'softhsm'))));
    await installation.command('init', '--from', join(home, 'plan.yaml'));
    return installation;
  }

  /** A further host of an installation on PostgreSQL and of its token: `kms init --join` in a home and on ports of its own. */
  static async join(other: Installation, storeUrl: string, extra: NodeJS.ProcessEnv = {}): Promise<Installation> {
    const host = await Installation.blank(other, extra);
    await host.command('init', '--join', ...joinArguments(other, storeUrl));
    return host;
  }

  /** A fresh home beside another one, before anything is done there. */
  static async blank(other: Installation, extra: NodeJS.ProcessEnv = {}): Promise<Installation> {
    return new Installation(mkdtempSync(join(tmpdir(), 'kms-test-')), await freePorts(3), extra, other.home);
  }

  get admin(): AdminFile {
    return JSON.parse(readFileSync(join(this.#adminHome, 'clients', 'admin.json'), 'utf8')) as AdminFile;
  }

  /** Base URL of the newer generation. */
  get base(): string {
    return `https://localhost:${this.port}/api/${this.admin.okmsId}/v1`;
  }

  /** Process id of the supervisor. */
  get pid(): number {
    return this.#server?.pid ?? 0;
  }

  /** Whether the server that was started last runs no more. */
  get hasEnded(): boolean {
    const server = this.#server;
    return server === undefined || server.exitCode !== null || server.signalCode !== null;
  }

  /** Runs a `kms` command to its end; rejects with `code`, `stdout` and `stderr` when it fails. */
  command(...args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
    return promisify(execFile)(process.execPath, [MAIN, ...args], { env: this.environment });
  }

  /** Starts `kms serve` and resolves at its `ready` line. */
  async start(extra: NodeJS.ProcessEnv = {}): Promise<void> {
    const beganMs = performance.now();
    const server = spawn(process.execPath, [MAIN, 'serve'], { env: { ...this.environment, ...extra } });
    this.#server = server;
    server.stderr.on('data', (chunk: Buffer) => { this.output += chunk.toString(); });
    let said = '';
    await within('kms serve says that it is ready', new Promise<void>((ready, failed) => {
      server.stdout.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
        said += chunk.toString();
        if (/^ready /m.test(said)) ready();
      });
      server.once('exit', (code) => { failed(new Error(`kms serve ended with ${String(code)}:\n${this.output.slice(-4000)}`)); });
    }));
    this.#startMs = Math.max(this.#startMs, performance.now() - beganMs);
  }

  /**
   * How much slower this machine is now than a quiet one, by the starts of this service: by this much a deadline of the
   * specification is longer, which is about the service and not about who else has the processor.
   */
  get slowness(): number {
    return Math.max(1, this.#startMs / QUIET_START_MS);
  }

  /** SIGTERM. @returns the exit code, or the signal that ended it */
  async stop(): Promise<number | string | null> {
    const server = this.#server;
    if (server === undefined) return null;
    if (server.exitCode !== null || server.signalCode !== null) return server.exitCode ?? server.signalCode;
    const ended = new Promise<number | string | null>((done) => server.once('exit', (code, signal) => { done(code ?? signal); }));
    server.kill('SIGTERM');
    return within('kms serve ends after SIGTERM', ended);
  }

  /** Stops the server and removes the home, once no secret of a test was found where it does not belong. */
  async remove(): Promise<void> {
    await this.stop();
    this.#unwitness();
    assertHidden(this.home, this.output);
    rmSync(this.home, { recursive: true, force: true });
  }

  /** Process ids of the server processes, from the operating system; those that are dead and not yet reaped, too. */
  serverProcesses(): readonly number[] {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8');
    return children.split(' ').filter((pid) => pid !== '').map(Number);
  }

  /** Sum of a metric over all server processes, 0 while it is not told. */
  async metric(name: string): Promise<number> {
    try {
      const text = await (await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`)).text();
      return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\d+)`, 'm').exec(text)?.[1] ?? 0);
    } catch {
      return 0;
    }
  }

  /** A client with the administrator's certificate, or with what `tls` says; null for no certificate. */
  client(tls?: { readonly cert: string; readonly key: string } | null): Client {
    const { ca, cert, key } = this.admin;
    const own = tls === undefined ? { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') } : tls;
    return new Client(this.base, { ca: readFileSync(ca, 'utf8'), ...own });
  }

  /** Every audit record on disk, in no particular order of streams. */
  auditText(): readonly string[] {
    return auditFiles(join(this.home, 'audit')).flatMap((file) => {
      const bytes = readFileSync(file);
      // Segments are written with zeros beforehand.
      const end = bytes.indexOf(0);
      return bytes.toString('latin1', 0, end < 0 ? bytes.length : end).split('\n').filter((line) => line !== '');
    });
  }
}

/** Of `kms init --join`, for a host beside `other`. */
export function joinArguments({ home }: Installation, storeUrl: string): readonly string[] {
  const softhsm = join(home, 'softhsm');
  return ['--store', storeUrl, '--pin-file', join(softhsm, 'user.pin'), '--token-directory', join(softhsm, 'tokens')];
}

function auditFiles(directory: string): readonly string[] {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith('.jsonl')).map((name) => join(directory, name));
}

export class Client {
  readonly #base: string;
  readonly #agent: Agent;

  constructor(base: string, tls: { readonly ca: string; readonly cert?: string; readonly key?: string }) {
    this.#base = base;
    // undici's own limits of 10 s and 300 s are for a network, not for a machine under load.
    this.#agent = new Agent({ connect: { ...tls, timeout: PATIENCE_MS }, headersTimeout: PATIENCE_MS, connections: 32 });
  }

  /**
   * @param path relative to the base, or an absolute URL
   * @param body an object becomes JSON; a string or bytes are sent as they are
   */
  async call(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT',
    path: string,
    body?: object | string | Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const url = path.startsWith('https:') ? path : `${this.#base}${path}`;
    const raw = typeof body === 'string' || body instanceof Uint8Array;
    const secrets = secretsOf(url, raw ? undefined : body, headers);
    const answer = await request(url, {
      method,
      dispatcher: this.#agent,
      headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    assertTellsNone(url, answer.statusCode, text, secrets);
    const isJson = String(answer.headers['content-type']).includes('json');
    return { status: answer.statusCode, headers: answer.headers, text, json: isJson ? JSON.parse(text) : undefined };
  }

  get(path: string): Promise<Answer> {
    return this.call('GET', path);
  }

  post(path: string, body?: object | string): Promise<Answer> {
    return this.call('POST', path, body);
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}
