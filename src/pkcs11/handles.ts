/**
 * CKA_ID → handle for one epoch of the module, filled by bulk listings and never by a search per request. A handle
 * is used only after the object behind it has proved itself once (security H-1, H-2).
 */

import type { ListedObject, ObjectHandle, Part } from './job.ts';

/** Addresses one token object. */
export interface KeyRef {
  /** CKA_ID, 32 hex characters. */
  readonly objectId: string;
  readonly part: Part;
}

interface Entry {
  readonly handle: ObjectHandle;
  readonly duplicate: boolean;
  proven: boolean;
}

function keyOf({ objectId, part }: KeyRef): string {
  return `${part}:${objectId}`;
}

export class HandleCache {
  readonly #entries = new Map<string, Entry>();
  readonly #known = new Map<ObjectHandle, string>();

  get known(): ReadonlySet<ObjectHandle> {
    return new Set(this.#known.keys());
  }

  get size(): number {
    return this.#entries.size;
  }

  /** CKA_IDs, each once. */
  objectIds(): readonly string[] {
    return [...new Set([...this.#entries.keys()].map((key) => key.slice(key.indexOf(':') + 1)))];
  }

  handle(ref: KeyRef): ObjectHandle | undefined {
    const entry = this.#entries.get(keyOf(ref));
    return entry?.duplicate === false ? entry.handle : undefined;
  }

  /** Two objects with one id are legal on a token; choosing one of them at random is not (security H-13). */
  isDuplicate(ref: KeyRef): boolean {
    return this.#entries.get(keyOf(ref))?.duplicate === true;
  }

  isProven(ref: KeyRef): boolean {
    return this.#entries.get(keyOf(ref))?.proven === true;
  }

  markProven(ref: KeyRef): void {
    const entry = this.#entries.get(keyOf(ref));
    if (entry !== undefined) entry.proven = true;
  }

  add(ref: KeyRef, handle: ObjectHandle): void {
    const key = keyOf(ref);
    const other = this.#entries.get(key);
    const duplicate = other !== undefined && other.handle !== handle;
    this.#entries.set(key, { handle, duplicate, proven: false });
    this.#known.set(handle, key);
  }

  forget(ref: KeyRef): void {
    const entry = this.#entries.get(keyOf(ref));
    if (entry === undefined) return;
    this.#entries.delete(keyOf(ref));
    this.#known.delete(entry.handle);
  }

  /** Takes in a listing: what is no longer there is forgotten first, as its handle may name another object now. */
  update(added: readonly ListedObject[], present: ReadonlySet<ObjectHandle>): void {
    for (const [handle, key] of this.#known) {
      if (present.has(handle)) continue;
      this.#known.delete(handle);
      this.#entries.delete(key);
    }
    for (const object of added) this.add(object, object.handle);
  }
}
