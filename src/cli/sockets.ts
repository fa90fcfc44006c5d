/**
 * The listening sockets. They stay open while server processes come and go; a connection that finds no process waits
 * here, for a short time and in bounded number.
 */

import { createServer, type Server, type Socket } from 'node:net';
import type { Port } from '../app.ts';
import { KmsError } from '../errors.ts';

interface Waiting {
  readonly port: Port;
  readonly socket: Socket;
  readonly since: number;
}

const WAITING_MAX = 1024;
const WAITING_MS = 10_000;

export class Sockets {
  readonly #give: (port: Port, socket: Socket) => boolean;
  readonly #servers: Server[] = [];
  readonly #waiting: Waiting[] = [];
  #retrying = false;

  /** @param give hands a connection to a process; false when there is none */
  constructor(give: (port: Port, socket: Socket) => boolean) {
    this.#give = give;
    setInterval(() => { this.#dropOld(); }, 1000).unref();
  }

  /** @returns the port, which is chosen by the system when 0 was asked for @throws KmsError `conflict` when taken */
  async listen(port: Port, addresses: readonly string[], number: number): Promise<number> {
    let bound = number;
    for (const address of addresses) bound = await this.#listenOn(port, address, bound);
    return bound;
  }

  /** Gives connections that wait to a process that has come. */
  retry(): void {
    for (const { port, socket } of this.#waiting.splice(0)) this.accept(port, socket);
  }

  /** One that a process did not take waits with the others, and is offered again when the event loop has gone round. */
  takeBack(port: Port, socket: Socket): void {
    this.#wait(port, socket);
    if (this.#retrying) return;
    this.#retrying = true;
    setImmediate(() => {
      this.#retrying = false;
      this.retry();
    });
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const { socket } of this.#waiting.splice(0)) socket.destroy();
  }

  #listenOn(port: Port, address: string, number: number): Promise<number> {
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      // A client that leaves before it is handed over must not end the supervisor.
      socket.on('error', () => { socket.destroy(); });
      this.accept(port, socket);
    });
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => {
        // A machine without IPv6 has no ::1.
        if (error.code === 'EADDRNOTAVAIL' && this.#servers.length > 0) resolve(number);
        else reject(new KmsError('conflict', `cannot listen on ${address} port ${number}: ${error.code ?? error.message}`));
      });
      server.listen({ host: address, port: number, ipv6Only: true }, () => {
        this.#servers.push(server);
        const bound = server.address();
        resolve(typeof bound === 'object' && bound !== null ? bound.port : number);
      });
    });
  }

  /** Hands a connection to a process, or keeps it for a while. */
  accept(port: Port, socket: Socket): void {
    if (!socket.destroyed && !this.#give(port, socket)) this.#wait(port, socket);
  }

  #wait(port: Port, socket: Socket): void {
    if (this.#waiting.length >= WAITING_MAX) socket.destroy();
    else this.#waiting.push({ port, socket, since: performance.now() });
  }

  #dropOld(): void {
    const oldest = performance.now() - WAITING_MS;
    while (this.#waiting[0] !== undefined && this.#waiting[0].since < oldest) this.#waiting.shift()?.socket.destroy();
  }
}
