/** A file that its owner replaces while we run: looked at once a second at most, and read again when it has changed. */

import { readFile, stat } from 'node:fs/promises';
import { KmsError } from '../errors.ts';

const LOOK_MS = 1000;

export class ReloadedFile<T> {
  readonly #path: string;
  readonly #read: (text: string) => T | Promise<T>;
  #value: T;
  #state: string;
  #lookedMs = performance.now();

  private constructor(path: string, read: (text: string) => T | Promise<T>, value: T, state: string) {
    this.#path = path;
    this.#read = read;
    this.#value = value;
    this.#state = state;
  }

  /** @throws KmsError `internal` naming the file, when it cannot be read for the first time */
  static async open<T>(path: string, read: (text: string) => T | Promise<T>): Promise<ReloadedFile<T>> {
    try {
      const state = await stateOf(path);
      return new ReloadedFile(path, read, await read(await readFile(path, 'utf8')), state);
    } catch (cause) {
      throw new KmsError('internal', `${path} cannot be read: ${(cause as Error).message}`, { cause });
    }
  }

  /** What it held when it could last be read: a file that is half written, or gone, changes nothing. */
  async current(): Promise<T> {
    const now = performance.now();
    if (now - this.#lookedMs >= LOOK_MS) {
      this.#lookedMs = now;
      await this.#reload();
    }
    return this.#value;
  }

  async #reload(): Promise<void> {
    try {
      const state = await stateOf(this.#path);
      if (state === this.#state) return;
      this.#value = await this.#read(await readFile(this.#path, 'utf8'));
      this.#state = state;
    } catch {
      // Tried again with the next look.
    }
  }
}

async function stateOf(path: string): Promise<string> {
  const { ino, size, mtimeMs } = await stat(path);
  return `${ino} ${size} ${mtimeMs}`;
}
