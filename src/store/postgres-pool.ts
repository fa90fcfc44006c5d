/**
 * Connections to PostgreSQL that may break at any moment. A broken one is dropped when it is given back, and whoever
 * asks next gets a new one; nothing that happens to a connection can end the process.
 *
 * Sessions are ours from begin to end (settings, advisory locks, LISTEN): a pooler between us and the server must pool
 * by session, not by transaction.
 */

import pg from 'pg';
import type { PostgresPool } from 'kysely';
import { KmsError } from '../errors.ts';
import { ConnectionFailure, isDefect, isLasting, sqlState } from './postgres-errors.ts';

/** Which server, and as whom. TLS and whatever else libpq knows stands in the URL. */
export interface Server {
  readonly url: string;
  /** Goes before the one in the URL, so that the URL can be shown. */
  readonly password?: string | undefined;
  readonly bootId: string;
}

export interface PoolOptions {
  readonly max: number;
  /** For connecting, and for each statement, in ms; 0 = no limit for statements. */
  readonly timeoutMs: number;
  readonly readOnly?: boolean;
}

/** The driver's own limit, for a server that is stopped, is a little longer than the server's: its answer says more. */
const GRACE_MS = 500;
const CONNECT_MS = 5_000;
const IDLE_MS = 60_000;

/**
 * What every session needs, whatever the server's configuration says: commits are durable when acknowledged, and the
 * server frees the locks of a client whose host has vanished, or that stands still amid a transaction.
 */
export const SETTINGS = [
  'synchronous_commit = on',
  'idle_session_timeout = 0',
  'idle_in_transaction_session_timeout = 10000',
  'tcp_keepalives_idle = 10',
  'tcp_keepalives_interval = 5',
  'tcp_keepalives_count = 3',
]
  .map((setting) => `set ${setting}`)
  .join('; ');

const INT8 = pg.types.builtins.INT8;

/** Rows as the schema has them: every bigint is a number that a double holds exactly. */
const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) =>
    oid === INT8 && format !== 'binary' ? safeInteger : (pg.types.getTypeParser(oid, format) as (text: string) => unknown),
};

/** @throws KmsError `integrity` beyond 2^53: nothing of ours writes such a number */
function safeInteger(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value;
  throw new KmsError('integrity', 'a stored number is too large');
}

/** A client of these settings, not connected yet. Its errors show in its queries; alone they mean nothing. */
export function newClient(server: Server, timeoutMs: number): pg.Client {
  const client = new (clientClass(server))({ ...common(server, timeoutMs), connectionTimeoutMillis: CONNECT_MS });
  client.on('error', () => undefined);
  return client;
}

/** A pool's client while it is out. */
export class Connection {
  readonly #client: pg.PoolClient;
  #broken = false;

  constructor(client: pg.PoolClient) {
    this.#client = client;
  }

  /**
   * @param timeoutMs in place of the pool's
   * @throws ConnectionFailure also for a `commit` that was not answered: its outcome is unknown
   */
  async query(text: string, values: readonly unknown[] = [], timeoutMs?: number): Promise<pg.QueryResult> {
    // Whoever is broken has rolled back, or will when the socket closes; its error would hide the one that led here.
    if (text === 'rollback') return this.#rollback();
    if (this.#broken) throw new ConnectionFailure();
    const result = await this.#send(text, values, timeoutMs);
    // The server turns the commit of a failed transaction into a rollback, and reports no error.
    if (text === 'commit' && result.command !== 'COMMIT') throw new KmsError('internal', 'the transaction had failed');
    return result;
  }

  /** It is closed instead of given back. */
  discard(): void {
    this.#broken = true;
  }

  release(): void {
    this.#client.release(this.#broken);
  }

  async #send(text: string, values: readonly unknown[], timeoutMs: number | undefined): Promise<pg.QueryResult> {
    try {
      return await this.#client.query({ text, values: [...values], ...(timeoutMs !== undefined && { query_timeout: timeoutMs }) });
    } catch (error) {
      if (isDefect(error)) throw error;
      const failure = sqlState(error) === '' ? new ConnectionFailure(error) : error;
      if (failure instanceof ConnectionFailure || isLasting(error)) this.#broken = true;
      throw failure;
    }
  }

  async #rollback(): Promise<pg.QueryResult> {
    try {
      if (!this.#broken) return await this.#send('rollback', [], undefined);
    } catch {
      this.#broken = true;
    }
    return { command: 'ROLLBACK', rowCount: null, oid: 0, fields: [], rows: [] };
  }
}

export class Connections {
  readonly #pool: pg.Pool;

  constructor(server: Server, options: PoolOptions) {
    this.#pool = new pg.Pool({
      ...common(server, options.timeoutMs),
      max: options.max,
      connectionTimeoutMillis: options.timeoutMs === 0 ? CONNECT_MS : options.timeoutMs,
      idleTimeoutMillis: IDLE_MS,
      Client: clientClass(server),
      // eslint-disable-next-line @typescript-eslint/no-misused-promises -- the pool waits for it; its type does not say so
      onConnect: async (client) => {
        await client.query(options.readOnly === true ? `${SETTINGS}; set default_transaction_read_only = on` : SETTINGS);
      },
    });
    this.#pool.on('error', () => undefined);
    // A pool looks after its idle clients only; one that is out and dies between two queries would end the process.
    this.#pool.on('connect', (client) => void client.on('error', () => undefined));
  }

  /** @throws ConnectionFailure; what the server answered */
  async connect(): Promise<Connection> {
    try {
      return new Connection(await this.#pool.connect());
    } catch (error) {
      throw sqlState(error) === '' ? new ConnectionFailure(error) : error;
    }
  }

  async query(text: string, values: readonly unknown[] = []): Promise<pg.QueryResult> {
    const connection = await this.connect();
    try {
      return await connection.query(text, values);
    } finally {
      connection.release();
    }
  }

  /** As kysely wants it; only its form of `query` for cursors, which we do not use, is missing. */
  forKysely(): PostgresPool {
    return this as unknown as PostgresPool;
  }

  async end(): Promise<void> {
    if (!this.#pool.ending) await this.#pool.end();
  }
}

function common(server: Server, timeoutMs: number): pg.ClientConfig {
  return {
    connectionString: server.url,
    application_name: `kms ${server.bootId}`,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types,
    ...(timeoutMs > 0 && { statement_timeout: timeoutMs, query_timeout: timeoutMs + GRACE_MS }),
  };
}

type Connected = ((error: Error) => void) | ((error: null, client: pg.Client) => void);

/**
 * pg leaves a connection open that it could not log in on, for example without a password: the server waits for it, for
 * `authentication_timeout`, and meanwhile makes and drops no database.
 */
class Client extends pg.Client {
  override connect(): Promise<pg.Client>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<pg.Client> | undefined {
    const connected = super.connect();
    if (callback === undefined) return connected.catch(async (error: unknown) => { await this.#giveUp(); throw error; });
    const tell = callback as (error: unknown, client?: pg.Client) => void;
    connected.then(() => { tell(null, this); }, (error: unknown) => { void this.#giveUp().then(() => { tell(error); }); });
    return undefined;
  }

  async #giveUp(): Promise<void> {
    try {
      await this.end();
    } catch {
      // It was not open.
    }
  }
}

/** pg lets the URL's password win, also when the URL has none. */
function clientClass({ password }: Server): typeof pg.Client {
  if (password === undefined) return Client;
  return class extends Client {
    constructor(config?: string | pg.ClientConfig) {
      super(config);
      Object.defineProperty(this, 'password', { value: password, writable: true, configurable: true, enumerable: false });
    }
  };
}
