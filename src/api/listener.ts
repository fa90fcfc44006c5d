/**
 * An HTTPS server that does not listen itself: the supervisor accepts connections and hands the sockets over, so that
 * nobody is refused while a process is replaced. Counts connections, handshakes included, for the drain.
 */

import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import type Koa from 'koa';

export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
  /** CAs whose client certificates are accepted, PEM; empty on a port that asks for none. */
  readonly clientAuthorities: readonly string[];
}

export interface ConnectionLimits {
  /** Connections at a time, handshakes included; those above it are closed at once. */
  readonly max: number;
  /** Milliseconds after which a connection is told to close with its next answer. */
  readonly lifetimeMs: number;
}

const LIMITS = {
  handshakeTimeout: 10_000,
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 60_000,
  connectionsCheckingInterval: 5_000,
  maxHeaderSize: 16_384,
} as const;

/** TLS 1.2 with forward secrecy and AEAD only; TLS 1.3 has nothing else (security S-14). */
const TLS12_CIPHERS = [
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
];
const TLS13_CIPHERS = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];

export class Listener {
  readonly #server: Server;
  readonly #tls: TlsOptions;
  readonly #limits: ConnectionLimits;
  /** With the time since when each is open. */
  readonly #open = new Map<Socket, number>();
  #handshakes = 0;

  constructor(app: Koa, tls: TlsMaterial, limits: ConnectionLimits) {
    const handle = app.callback();
    this.#limits = limits;
    this.#tls = tlsOptions(tls);
    this.#server = createServer({ ...LIMITS, ...this.#tls }, (request, response) => {
      if (this.#isOld(request.socket)) response.shouldKeepAlive = false;
      void handle(request, response);
    });
    // No limit by number: the size is limited, and the application refuses too many instead of dropping some.
    this.#server.maxHeadersCount = 0;
    this.#server.on('secureConnection', (socket) => { this.#secured(socket); });
    this.#server.on('tlsClientError', () => { this.#handshakes -= 1; });
    // The timers of headersTimeout and requestTimeout start with this event, which a server without a port never emits.
    this.#server.emit('listening');
  }

  /** For connections from here on. */
  renew(tls: Pick<TlsMaterial, 'cert' | 'key'>): void {
    this.#server.setSecureContext({ ...this.#tls, ...tls });
  }

  /** Connections, handshakes in progress included. */
  get connections(): number {
    return this.#open.size + this.#handshakes;
  }

  accept(socket: Socket): void {
    if (this.connections >= this.#limits.max) {
      socket.destroy();
      return;
    }
    this.#handshakes += 1;
    this.#server.emit('connection', socket);
  }

  closeIdle(): void {
    this.#server.closeIdleConnections();
  }

  closeAll(): void {
    this.#server.closeAllConnections();
    for (const socket of this.#open.keys()) socket.destroy();
  }

  /** What was proved when it was opened does not count for ever (security S-13). */
  #isOld(socket: Socket): boolean {
    return performance.now() - (this.#open.get(socket) ?? Infinity) > this.#limits.lifetimeMs;
  }

  #secured(socket: Socket): void {
    this.#handshakes -= 1;
    this.#open.set(socket, performance.now());
    socket.once('close', () => { this.#open.delete(socket); });
  }
}

function tlsOptions({ cert, key, clientAuthorities }: TlsMaterial): TlsOptions {
  const asksForCertificate = clientAuthorities.length > 0;
  return {
    cert,
    key,
    minVersion: 'TLSv1.2',
    ciphers: [...TLS13_CIPHERS, ...TLS12_CIPHERS].join(':'),
    honorCipherOrder: true,
    // Requested, not required: bearer tokens and documents work without one; the doors refuse with a JSON body.
    ...(asksForCertificate ? { requestCert: true, rejectUnauthorized: false, ca: [...clientAuthorities] } : {}),
  };
}
