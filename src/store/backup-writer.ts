/** Writes a backup file whole: under a temporary name, readable by its owner alone, synced, then renamed. */

import { createHash, type Hash } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { KmsError } from '../errors.ts';
import { type BackupHeader, type BackupStream, rowLine, type Section, signedBytes, trailerLine } from './backup-format.ts';
import type { Batch } from './transfer.ts';

const BUFFER = 256 * 1024;

export class BackupWriter {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: number;
  /** Of all lines before the trailer. */
  readonly #content = createHash('sha256');
  /** Of all bytes. */
  readonly #whole = createHash('sha256');
  readonly #sections = new Map<string, { lines: number; readonly hash: Hash }>();
  #pending: string[] = [];
  #pendingBytes = 0;
  #lines = 0;

  /** @throws KmsError `conflict` when the file is there already */
  constructor(path: string, unique: string) {
    if (existsSync(path)) throw new KmsError('conflict', `${path} is there already`);
    this.#path = path;
    this.#temporary = join(dirname(path), `.${basename(path)}.${unique}`);
    this.#file = openSync(this.#temporary, 'wx', 0o600);
  }

  header(header: BackupHeader): void {
    this.#line('header', JSON.stringify(header));
  }

  rows({ table, rows }: Batch): void {
    for (const row of rows) this.#line(table, rowLine(table, row));
  }

  streams(streams: readonly BackupStream[]): void {
    for (const stream of streams) this.#line('streams', JSON.stringify(stream));
  }

  /**
   * @param sign gives the DER signature of these bytes by the audit key
   * @returns SHA-256 of the whole file, hex
   */
  async finish(sign: (bytes: Uint8Array) => Promise<Uint8Array>): Promise<string> {
    const sections = Object.fromEntries([...this.#sections].map(([name, { lines, hash }]): [string, Section] =>
      [name, { lines, sha256: hash.digest('hex') }]));
    const trailer = { trailer: 1, lines: this.#lines, sha256: this.#content.digest('hex'), sections };
    this.#write(`${trailerLine(trailer, await sign(signedBytes(trailer)))}\n`);
    this.#flush();
    fsyncSync(this.#file);
    closeSync(this.#file);
    renameSync(this.#temporary, this.#path);
    syncDirectory(dirname(this.#path));
    return this.#whole.digest('hex');
  }

  /** Leaves nothing behind. */
  abandon(): void {
    rmSync(this.#temporary, { force: true });
  }

  #line(section: string, text: string): void {
    const line = `${text}\n`;
    const found = this.#sections.get(section) ?? { lines: 0, hash: createHash('sha256') };
    this.#sections.set(section, found);
    found.lines += 1;
    found.hash.update(line);
    this.#content.update(line);
    this.#lines += 1;
    this.#write(line);
  }

  #write(text: string): void {
    this.#whole.update(text);
    this.#pending.push(text);
    this.#pendingBytes += text.length;
    if (this.#pendingBytes >= BUFFER) this.#flush();
  }

  #flush(): void {
    const bytes = Buffer.from(this.#pending.join(''));
    for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at);
    this.#pending = [];
    this.#pendingBytes = 0;
  }
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
