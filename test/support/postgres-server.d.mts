export interface PostgresServer {
  /** Of the superuser, who needs no password on 127.0.0.1, and of the database `postgres`. */
  readonly url: string;
  start(): Promise<void>;
  stop(mode: 'fast' | 'immediate'): Promise<void>;
  /** To the postmaster and its children. */
  signal(name: NodeJS.Signals): void;
  remove(): Promise<void>;
}
export function startServer(): Promise<PostgresServer>;
