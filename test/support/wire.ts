/**
 * One keep-alive HTTPS connection with one request at a time, down to the bytes: so that a test knows which process
 * serves it, and whether an answer that broke off had begun.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import type { Installation } from './installation.ts';

export interface Exchange {
  /** Our own X-Request-Id. */
  readonly id: string;
  readonly method: string;
  readonly path: string;
  /** `performance.now()` when the request was written. */
  readonly sentMs: number;
  /** 0 when no whole answer came. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  readonly json: any;
  /** Why there is no answer. */
  readonly failure?: string;
  /** Bytes of an answer that broke off. */
  readonly torn: number;
}

interface Waiting {
  readonly done: (end: { readonly answer?: Parsed; readonly failure?: string }) => void;
}

interface Parsed {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export class Wire {
  readonly #kms: Installation;
  readonly #tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly #base: string;
  #socket: TLSSocket | undefined;
  #received: Buffer = Buffer.alloc(0);
  #waiting: Waiting | undefined;

  constructor(kms: Installation) {
    const { ca, cert, key, okmsId } = kms.admin;
    this.#kms = kms;
    this.#base = `/api/${okmsId}/v1`;
    this.#tls = { ca: readFileSync(ca, 'utf8'), cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }

  /** Never rejects: what happened is in the result. Connects when there is no connection. */
  async call(method: string, path: string, body?: object): Promise<Exchange> {
    const id = randomUUID();
    const about = { id, method, path, headers: {}, text: '', json: undefined, status: 0, torn: 0 };
    try {
      await this.#connected();
    } catch (error) {
      return { ...about, sentMs: performance.now(), failure: `connect: ${(error as NodeJS.ErrnoException).code ?? String(error)}` };
    }
    const sentMs = performance.now();
    const { answer, failure } = await this.#exchange(request(method, `${this.#base}${path}`, id, body));
    if (answer === undefined) {
      const torn = this.#received.length;
      this.close();
      return { ...about, sentMs, torn, failure: failure ?? 'closed' };
    }
    const text = answer.body.toString('utf8');
    const json = text === '' ? undefined : JSON.parse(text);
    return { ...about, sentMs, status: answer.status, headers: answer.headers, text, json };
  }

  post(path: string, body?: object): Promise<Exchange> {
    return this.call('POST', path, body);
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#received = Buffer.alloc(0);
  }

  async #connected(): Promise<void> {
    if (this.#socket !== undefined) return;
    const socket = connect({ host: '127.0.0.1', port: this.#kms.port, servername: 'localhost', ...this.#tls });
    this.#received = Buffer.alloc(0);
    await new Promise<void>((done, failed) => {
      socket.once('secureConnect', done);
      socket.once('error', failed);
      socket.once('close', () => { failed(new Error('closed in the handshake')); });
    });
    socket.removeAllListeners('error').removeAllListeners('close');
    socket.setNoDelay(true);
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#take(socket);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => { this.#ended(socket, error.code ?? error.message); });
    socket.on('close', () => { this.#ended(socket, 'closed'); });
  }

  #exchange(bytes: string): Promise<{ readonly answer?: Parsed; readonly failure?: string }> {
    return new Promise((done) => {
      this.#waiting = { done };
      this.#socket?.write(bytes);
    });
  }

  #take(socket: TLSSocket): void {
    const parsed = parse(this.#received);
    if (parsed === undefined) return;
    this.#received = this.#received.subarray(parsed.length);
    if (parsed.answer.headers['connection'] === 'close') {
      socket.destroy();
      this.#socket = undefined;
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.done({ answer: parsed.answer });
  }

  #ended(socket: TLSSocket, failure: string): void {
    if (this.#socket === socket) this.#socket = undefined;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.done({ failure });
  }
}

function request(method: string, path: string, id: string, body: object | undefined): string {
  const text = body === undefined ? '' : JSON.stringify(body);
  const content = body === undefined ? '' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n`;
  return `${method} ${path} HTTP/1.1\r\nhost: localhost\r\nx-request-id: ${id}\r\n${content}\r\n${text}`;
}

/** A whole answer at the start of the bytes; undefined while there is none. */
function parse(bytes: Buffer): { readonly answer: Parsed; readonly length: number } | undefined {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n');
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1]);
  if (headers['transfer-encoding'] !== undefined) throw new Error('expected an answer with a length');
  const start = end + 4;
  const length = start + Number(headers['content-length'] ?? 0);
  if (bytes.length < length) return undefined;
  return { answer: { status, headers, body: Buffer.from(bytes.subarray(start, length)) }, length };
}
