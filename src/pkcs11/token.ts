/**
 * The public face of this folder: one token, addressed by KeyRef, with the operations the service needs. Every call
 * goes to a token thread; every failure comes back as a KmsError.
 *
 * There is one way to recover: a lost token stays lost for this process, which is replaced (design §2).
 */

import { ownCopy, wipe } from '../bytes.ts';
import { KmsError } from '../errors.ts';
import { type Cost, Dispatcher, type DispatcherOptions } from './dispatcher.ts';
import { HandleCache, type KeyRef } from './handles.ts';
import {
  DATA_VALUE_MAX,
  type DataObject,
  type Generation,
  HANDLES_MOVED,
  type Inspection,
  type Job,
  type ObjectHandle,
  type PublicAttributes,
  type PublicHalf,
  type Reply,
  type Results,
  type SurveyedObject,
  type TokenSetup,
  type TrialResult,
  type TrialStep,
  type WrappedKey,
} from './job.ts';
import type { Mechanism } from './mechanism.ts';
import { loadProfile, type Profile } from './profile.ts';
import { classify, tokenUnavailable, toKmsError } from './return-value.ts';
import type { Purpose } from './template.ts';
import { type TokenState, ThreadPool } from './thread-pool.ts';

export type { Cost } from './dispatcher.ts';
export type { KeyRef } from './handles.ts';
export {
  type Canary,
  CANARY_QUESTION,
  DATA_VALUE_MAX,
  type DataObject,
  type Generation,
  type Inspection,
  type PublicAttributes,
  type PublicHalf,
  type SurveyedObject,
  type TrialResult,
  type TrialStep,
  type WrappedKey,
} from './job.ts';
export { GCM_IV_BYTES, GCM_TAG_BYTES, type Hash, hashBytes, type Mechanism } from './mechanism.ts';
export { pinSource } from './login.ts';
export { loadProfile, type Profile };
export { isUnsupported } from './return-value.ts';
export type { Purpose } from './template.ts';
export type { TokenState } from './thread-pool.ts';

/** Starts of CKA_LABEL. Internal keys have a space of their own, which no destruction of customer keys reaches. */
export interface LabelPrefixes {
  readonly keys: string;
  readonly internal: string;
}

export function labelPrefixes(installation: string): LabelPrefixes {
  return { keys: `kms:${installation}:`, internal: `kms-internal:${installation}:` };
}

export interface TokenOptions extends DispatcherOptions {
  readonly setup: TokenSetup;
  /** Start of CKA_LABEL of the only objects that may be destroyed. */
  readonly destroyable: string;
  /** Threads that may hang before the process must be replaced. */
  readonly lostThreadsMax: number;
  /** Resolves when this process may log in: one at a time on a host. */
  readonly mayLogin: () => Promise<void>;
  /** Runs a change of the token while nobody else on this host makes one; see `serialiseCreates` of the profile. */
  readonly exclusively: <T>(run: () => Promise<T>) => Promise<T>;
  /** Told once when the token cannot be used by this process any more. */
  readonly onLost: (reason: string) => void;
  /** Told when the token can be used, and while it cannot be reached. */
  readonly onState: (state: TokenState) => void;
}

export interface TokenStats {
  /** Jobs waiting, by queue. */
  readonly depth: Readonly<Record<string, number>>;
  /** Objects that the last listing showed. */
  readonly objects: number;
  readonly readyThreads: number;
  readonly lostThreads: number;
}

export class Token {
  readonly #options: TokenOptions;
  readonly #dispatcher: Dispatcher;
  readonly #pool: ThreadPool;
  readonly #handles = new HandleCache();
  #listing: Promise<void> | undefined;
  #changing = 0;

  /** Starts at once and returns; operations fail with `token-unavailable` until `whenReady` resolves. */
  constructor(options: TokenOptions) {
    // Native code reads the environment of the process, which a thread cannot set.
    Object.assign(process.env, options.setup.profile.environment);
    this.#options = options;
    this.#dispatcher = new Dispatcher(options);
    this.#pool = new ThreadPool({
      ...options,
      dispatcher: this.#dispatcher,
      list: () => this.#list(),
    });
  }

  get state(): TokenState {
    return this.#pool.state;
  }

  get profile(): Profile {
    return this.#options.setup.profile;
  }

  /** Resolves when canary and listing are done. @throws KmsError when the token is lost before */
  whenReady(): Promise<void> {
    return this.#pool.whenReady();
  }

  stats(): TokenStats {
    const { readyThreads, lostThreads } = this.#pool;
    return { depth: this.#dispatcher.depth(), objects: this.#handles.size, readyThreads, lostThreads };
  }

  /** CKA_IDs of all objects that the last listing showed, ours and others. */
  objectIds(): readonly string[] {
    return this.#handles.objectIds();
  }

  /** No job waits or runs. */
  idle(): boolean {
    return !this.#dispatcher.busy();
  }

  /**
   * AES-GCM with an IV of 96 bits from the token's generator, or of the token's own making where the profile says so, and
   * a tag of 128 bits.
   * @returns `sealed`: ciphertext followed by the tag
   */
  async encryptGcm(ref: KeyRef, aad: Uint8Array, data: Uint8Array): Promise<Results['encryptGcm']> {
    return this.#onKey(ref, 'fast', data, (key, copy) => ({ op: 'encryptGcm', key, aad: ownCopy(aad), data: copy }));
  }

  /** @param room bytes of the longest result; a block of padding more than the data unless said otherwise */
  async encrypt(ref: KeyRef, mechanism: Mechanism, data: Uint8Array, room = data.length + 16): Promise<Uint8Array> {
    return this.#onKey(ref, 'fast', data, (key, copy) => ({ op: 'encrypt', key, mechanism, data: copy, room }));
  }

  /** @throws KmsError `decryption-failed`, one and the same for every reason */
  async decrypt(ref: KeyRef, mechanism: Mechanism, data: Uint8Array): Promise<Uint8Array> {
    return this.#onKey(ref, 'fast', data, (key, copy) => ({ op: 'decrypt', key, mechanism, data: copy }));
  }

  /** @param length exact length of the signature or MAC, in bytes */
  async sign(ref: KeyRef, mechanism: Mechanism, data: Uint8Array, length: number, cost: Cost): Promise<Uint8Array> {
    return this.#onKey(ref, cost, data, (key, copy) => ({ op: 'sign', key, mechanism, data: copy, length }));
  }

  /** @param ref a public object; @param data what the mechanism signs: a digest, or for RSA PKCS#1 a DigestInfo */
  async verify(ref: KeyRef, mechanism: Mechanism, data: Uint8Array, signature: Uint8Array): Promise<boolean> {
    return this.#onKey(ref, 'slow', data, (key, copy) => ({
      op: 'verify', key, mechanism, data: copy, signature: ownCopy(signature),
    }));
  }

  /** What a public object holds. */
  async publicAttributes(ref: KeyRef, type: PublicAttributes['type']): Promise<PublicAttributes> {
    return this.#onKey(ref, 'fast', NOTHING, (key) => ({ op: 'publicAttributes', key, type }));
  }

  /** A caller's bytes under a wrapping key. @throws KmsError `invalid-field` for a length key wrap does not know */
  async wrapBytes(ref: KeyRef, mechanism: Mechanism, bytes: Uint8Array): Promise<Uint8Array> {
    return this.#onKey(ref, 'slow', bytes, (key, copy) => ({ op: 'wrapBytes', key, mechanism, data: copy }));
  }

  /** @throws KmsError `decryption-failed`, one and the same for every reason */
  async unwrapBytes(ref: KeyRef, mechanism: Mechanism, wrapped: Uint8Array): Promise<Uint8Array> {
    return this.#onKey(ref, 'slow', wrapped, (key, copy) => ({ op: 'unwrapBytes', key, mechanism, data: copy }));
  }

  /** @throws KmsError `decryption-failed` when this key does not open `wrapped` */
  async unwrapThrowAway(ref: KeyRef, mechanism: Mechanism, wrapped: Uint8Array): Promise<void> {
    await this.#onKey(ref, 'slow', wrapped, (key, copy) => ({ op: 'unwrapThrowAway', key, mechanism, data: copy }));
  }

  /** Bytes of the token's generator. */
  async random(length: number): Promise<Uint8Array> {
    this.assertReady();
    return this.#result({ op: 'random', length }, 'fast');
  }

  /**
   * Makes one object or key pair with the complete template of its purpose, read back and compared.
   * Nothing is left on the token when it fails.
   * @param objectId CKA_ID, recorded by the caller before
   */
  async create(objectId: string, label: string, generation: Generation): Promise<PublicAttributes | null> {
    this.assertReady();
    const created = await this.#change({ op: 'create', objectId, label, generation });
    return this.#created(objectId, created);
  }

  /**
   * Unwraps a key into its permanent place. Nothing is left on the token when it fails.
   * @param importKey the token's import pair
   */
  async importKey(importKey: KeyRef, objectId: string, label: string, wrapped: WrappedKey): Promise<void> {
    this.assertReady();
    const key = await this.#resolve(importKey);
    this.#created(objectId, await this.#change({ op: 'import', key, objectId, label, wrapped }));
  }

  /** A public object without a private half. */
  async importPublic(objectId: string, label: string, purpose: Purpose, half: PublicHalf): Promise<void> {
    this.assertReady();
    this.#created(objectId, await this.#change({ op: 'importPublic', objectId, label, purpose, half }));
  }

  /** Runs operations on a test key that exists for this call only. */
  async trial(importKey: KeyRef, wrapped: WrappedKey, steps: readonly TrialStep[]): Promise<readonly TrialResult[]> {
    const key = await this.#resolve(importKey);
    return this.#result({ op: 'trial', key, wrapped, steps }, 'heavy');
  }

  /** Destroys all objects of ours with these ids and proves them gone. Repeating it is harmless. */
  async destroy(objectIds: readonly string[]): Promise<void> {
    this.assertReady();
    for (const objectId of objectIds) for (const part of PARTS) this.#handles.forget({ objectId, part });
    await this.#change({ op: 'destroy', objectIds, labelPrefix: this.#options.destroyable });
  }

  /** Every secret, private and public object of the token, ours or not; with the time limit of a creation. */
  async survey(): Promise<readonly SurveyedObject[]> {
    this.assertReady();
    return this.#result({ op: 'survey' }, 'create');
  }

  /** Whether what `create` made with these arguments is there as it was made; changes nothing. */
  async inspect(objectId: string, label: string, generation: Generation): Promise<Inspection> {
    this.assertReady();
    return this.#result({ op: 'inspect', objectId, label, generation }, 'create');
  }

  /** All data objects of this application. Searches each time: not for the request path. */
  async readData(application: string): Promise<readonly DataObject[]> {
    this.assertReady();
    return this.#result({ op: 'readData', application }, 'create');
  }

  /**
   * Makes a data object, and only then destroys the obsolete ones. When it fails the new one may be there.
   * @param value at most 512 bytes
   * @param obsolete as `readData` gave them; those that changed or are gone are passed over
   * @throws KmsError `unsupported-by-token` when the token keeps no data objects
   */
  async replaceData(application: string, label: string, value: Uint8Array, obsolete: readonly DataObject[]): Promise<void> {
    this.assertReady();
    if (value.length > DATA_VALUE_MAX) throw new KmsError('internal', `a data object of ${value.length} bytes is too long`);
    await this.#change({ op: 'replaceData', application, label, value: ownCopy(value), obsolete });
  }

  /** Whether the object behind the handle has shown this epoch that it is the one its proof was made with. */
  isProven(ref: KeyRef): boolean {
    return this.#handles.isProven(ref);
  }

  markProven(ref: KeyRef): void {
    this.#handles.markProven(ref);
  }

  /** Refuses new jobs, then stops the threads, the first one last. */
  async stop(timeoutMs: number): Promise<'clean' | 'stuck'> {
    this.#dispatcher.refuse(tokenUnavailable());
    return this.#pool.stop(timeoutMs);
  }

  /** Runs a job on a key; looks the handle up again once when the token does not know it. */
  async #onKey<Op extends Job['op']>(
    ref: KeyRef,
    cost: Cost,
    data: Uint8Array,
    job: (key: ObjectHandle, copy: Uint8Array) => Extract<Job, { op: Op }>,
  ): Promise<Results[Op]> {
    const attempt = async (key: ObjectHandle): Promise<Reply & { op: Op }> => {
      const copy = ownCopy(data);
      try {
        const made = job(key, copy);
        return { ...(await this.#dispatcher.submit(made, cost, ref.objectId)), op: made.op };
      } finally {
        wipe(copy);
      }
    };
    this.assertReady();
    const proven = this.isProven(ref);
    const first = await attempt(await this.#resolve(ref));
    const handleGone = !('ok' in first) && first.call !== HANDLES_MOVED && classify(first.code, this.profile) === 'handle';
    if (!handleGone) return this.#unpack(first.op, first);
    this.#handles.forget(ref);
    const found = await this.#resolve(ref);
    // What the id leads to now has not proved itself, and this caller will not ask it to: the next one will.
    if (proven && !this.isProven(ref)) throw missing();
    const second = await attempt(found);
    return this.#unpack(second.op, second);
  }

  /** Before that, jobs would wait for a thread that may not come. @throws KmsError `token-unavailable` */
  assertReady(): void {
    if (this.state.phase !== 'ready') throw tokenUnavailable();
  }

  #created(objectId: string, { handles, publicAttributes }: Results['create']): PublicAttributes | null {
    for (const { part, handle } of handles) this.#handles.add({ objectId, part }, handle);
    return publicAttributes;
  }

  async #resolve(ref: KeyRef): Promise<ObjectHandle> {
    const cached = this.#handles.handle(ref);
    if (cached !== undefined) return cached;
    // A listing under way may have begun before the object was made: only one that begins now can say it is not there.
    const underWay = this.#listing;
    await (underWay ?? this.#list());
    if (underWay !== undefined && this.#handles.handle(ref) === undefined) await this.#list();
    const handle = this.#handles.handle(ref);
    if (handle !== undefined) return handle;
    if (this.#handles.isDuplicate(ref)) throw new KmsError('integrity', 'the HSM holds several objects with one id');
    // Absence is never proof of deletion: a lost token shows no objects either (security H-7).
    throw this.state.phase === 'ready' ? missing() : tokenUnavailable();
  }

  /** One listing serves all who wait for it. */
  #list(): Promise<void> {
    this.#listing ??= this.#refresh().finally(() => { this.#listing = undefined; });
    return this.#listing;
  }

  /**
   * Takes its turn with creations, as every search does: beside searches in another thread up to a fifth of them fail in
   * SoftHSM 2.6.1, with whatever code, CKR_TEMPLATE_INCOMPLETE among them (measured).
   */
  async #refresh(): Promise<void> {
    const listed = await this.#result({ op: 'list', known: this.#handles.known }, 'create');
    this.#handles.update(listed.added, listed.present);
  }

  /** Objects come and go one at a time, also between processes, where the token wants it so. */
  async #change<Op extends Job['op']>(job: Extract<Job, { op: Op }>): Promise<Results[Op]> {
    if (this.#changing >= this.#options.queueMax) throw new KmsError('overloaded', 'the HSM queue is full', { retryAfter: 1 });
    this.#changing += 1;
    try {
      const run = (): Promise<Results[Op]> => this.#result(job, 'create');
      return await (this.profile.serialiseCreates ? this.#options.exclusively(run) : run());
    } finally {
      this.#changing -= 1;
    }
  }

  async #result<Op extends Job['op']>(job: Extract<Job, { op: Op }>, cost: Cost): Promise<Results[Op]> {
    return this.#unpack(job.op, await this.#dispatcher.submit(job, cost));
  }

  #unpack<Op extends Job['op']>(op: Op, reply: Reply): Results[Op] {
    if ('ok' in reply) return reply.ok as Results[Op];
    if (reply.call === HANDLES_MOVED) this.#pool.lose(HANDLES_MOVED);
    throw toKmsError(op, reply.code, reply.call, this.profile, this.state.phase !== 'lost');
  }
}

const NOTHING = new Uint8Array();

const PARTS = ['secret', 'private', 'public'] as const;

function missing(): KmsError {
  return new KmsError('key-missing', 'the HSM does not show the object of this key', { retryAfter: 30 });
}
