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

/** Everything that has one id and part; more than one is a fault that only the token can end. */
interface Entry {
  readonly handles: Set<ObjectHandle>;
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
    const [handle, another] = this.#entries.get(keyOf(ref))?.handles ?? [];
    return another === undefined ? handle : undefined;
  }

  /** Two objects with one id are legal on a token; choosing one of them at random is not (security H-13). */
  isDuplicate(ref: KeyRef): boolean {
    return (this.#entries.get(keyOf(ref))?.handles.size ?? 0) > 1;
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
    const others = this.#entries.get(key)?.handles ?? [];
    this.#entries.set(key, { handles: new Set([...others, handle]), proven: false });
    this.#known.set(handle, key);
  }

  /** The next listing shows it again, if it is there. */
  forget(ref: KeyRef): void {
    for (const handle of this.#entries.get(keyOf(ref))?.handles ?? []) this.#known.delete(handle);
    this.#entries.delete(keyOf(ref));
  }

  /** Takes in a listing: what is no longer there is forgotten first, as its handle may name another object now. */
  update(added: readonly ListedObject[], present: ReadonlySet<ObjectHandle>): void {
    for (const [handle, key] of this.#known) if (!present.has(handle)) this.#remove(handle, key);
    for (const object of added) this.add(object, object.handle);
  }

  /** One of two with the same id may stay, and has to prove itself. */
  #remove(handle: ObjectHandle, key: string): void {
    this.#known.delete(handle);
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.handles.delete(handle);
    entry.proven = false;
    if (entry.handles.size === 0) this.#entries.delete(key);
  }
}
