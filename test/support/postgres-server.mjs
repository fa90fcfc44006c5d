// Runs a PostgreSQL server of Debian's package in a temporary directory; never touches a cluster of the machine. Not
// TypeScript, because jest's globalSetup uses it too. PostgreSQL refuses to run as root: then it runs as `postgres`;
// not through runuser, which stops itself when its child is stopped.
import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { appendFile, chmod, chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = process.getuid() === 0;
const USER = 'postgres';
const LIBRARY = '/usr/lib/postgresql';

const CONFIGURATION = `
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 16MB
fsync = on
autovacuum = off
`;
// The password user is for tests of the password's way; both rules stand before initdb's.
const ACCESS = `
host all kms_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local all all trust
`;

export async function startServer() {
  const bin = binaries();
  const owner = ROOT ? await userOf(USER) : {};
  const server = new Server(bin, await freshDirectory(owner), owner);
  try {
    await server.initialise();
    await server.start();
    return server;
  } catch (error) {
    await server.remove();
    throw error;
  }
}

class Server {
  #bin;
  #directory;
  #owner;
  #port;
  #guard;
  #child;

  constructor(bin, directory, owner) {
    this.#bin = bin;
    this.#directory = directory;
    this.#owner = owner;
  }

  get url() {
    return `postgres://${USER}@127.0.0.1:${this.#port}/postgres`;
  }

  get #data() {
    return join(this.#directory, 'data');
  }

  async initialise() {
    const args = ['-D', this.#data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--locale=C', '-N'];
    await run(join(this.#bin, 'initdb'), args, { ...this.#owner, cwd: this.#directory });
    await appendFile(join(this.#data, 'postgresql.conf'), CONFIGURATION);
    const file = join(this.#data, 'pg_hba.conf');
    const rules = await readFile(file, 'utf8');
    await writeFile(file, `${ACCESS}${rules}`);
    this.#port = await freePort();
    this.#guard = guard(this.#directory);
  }

  async start() {
    const args = ['-D', this.#data, '-p', String(this.#port), '-k', this.#directory];
    const options = { ...this.#owner, cwd: this.#directory, stdio: ['ignore', 'ignore', 'pipe'], detached: true };
    let output = '';
    this.#child = spawn(join(this.#bin, 'postgres'), args, options);
    this.#child.stderr.on('data', (text) => (output = `${output}${text}`.slice(-10_000)));
    this.#child.stderr.unref();
    this.#child.unref();
    for (let tries = 0; !(await this.#ready()); tries++) {
      if (this.#child.exitCode !== null || tries > 600) throw new Error(`PostgreSQL does not start:\n${output}`);
      await delay(50);
    }
  }

  async stop(mode) {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.ref();
    this.signal('SIGCONT');
    process.kill(this.#postmaster(), mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    await ended;
    this.#child = undefined;
  }

  signal(name) {
    const postmaster = this.#postmaster();
    const children = childrenOf(postmaster);
    const order = name === 'SIGSTOP' ? [postmaster, ...childrenOf(postmaster)] : [...children, postmaster];
    for (const pid of order) {
      try {
        process.kill(pid, name);
      } catch (error) {
        if (error.code !== 'ESRCH') throw error;
      }
    }
  }

  async remove() {
    await this.stop('immediate').catch(() => undefined);
    await rm(this.#directory, { recursive: true, force: true });
    this.#guard?.stdin.end();
  }

  #postmaster() {
    return Number(readFileSync(join(this.#data, 'postmaster.pid'), 'utf8').split('\n', 1)[0]);
  }

  async #ready() {
    const args = ['-h', '127.0.0.1', '-p', String(this.#port), '-U', USER, '-d', 'postgres', '-q'];
    return run(join(this.#bin, 'pg_isready'), args).then(
      () => true,
      () => false,
    );
  }
}

function binaries() {
  const versions = readdirSync(LIBRARY).filter((name) => /^\d+$/.test(name));
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  if (newest === undefined) throw new Error(`no PostgreSQL server below ${LIBRARY}; scripts/prepare.sh test installs one`);
  return join(LIBRARY, newest, 'bin');
}

async function freshDirectory({ uid, gid }) {
  const directory = await mkdtemp(join(tmpdir(), 'kms-pg-'));
  await chmod(directory, 0o700);
  if (ROOT) await chown(directory, uid, gid);
  return directory;
}

/** Neither Ctrl-C nor SIGKILL lets jest run its teardown: when the pipe from this process breaks, the server ends. */
function guard(directory) {
  const script = `cat >/dev/null; [ -d "$1" ] || exit 0
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -CONT "$pid" && kill -QUIT "$pid" && sleep 1
    rm -rf "$1"`;
  const child = spawn('sh', ['-c', script, 'sh', directory], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  child.unref();
  child.stdin.unref();
  return child;
}

async function userOf(name) {
  const [uid, gid] = await Promise.all(['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)));
  return { uid, gid };
}

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function childrenOf(pid) {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}
