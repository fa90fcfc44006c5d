/** Somebody else's issuer of access tokens: a key set over HTTPS, its requests counted. */

import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';

export class KeySetServer {
  readonly #server: Server;
  keys: readonly object[] = [];
  requests = 0;
  /** What it answers with. */
  status = 200;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @param tls whose name is localhost */
  static async start(tls: { readonly cert: string; readonly key: string }): Promise<KeySetServer> {
    const made = new KeySetServer(createServer(tls, (_request, response) => {
      made.requests += 1;
      response.writeHead(made.status, { 'content-type': 'application/json' }).end(JSON.stringify({ keys: made.keys }));
    }));
    await new Promise<void>((done) => made.#server.listen(0, '127.0.0.1', done));
    return made;
  }

  get url(): string {
    return `https://localhost:${(this.#server.address() as AddressInfo).port}/keys`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }
}
