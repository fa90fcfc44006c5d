/**
 * The gate: the only place that decides who may do what. Every operation passes it in one order: vault → permission →
 * key → usage → state → run → audit. The audit record is on disk before the caller learns the outcome.
 */

import { isAllowed, isAllowedSomewhere } from '../auth/policy.ts';
import { issuerOf, type Principal } from '../auth/principal.ts';
import type { FloodGate, SourceRefusal } from '../audit/flood.ts';
import type { AuditLog } from '../audit/log.ts';
import type { AuditEvent } from '../audit/record.ts';
import { asKmsError, isTransient, KmsError } from '../errors.ts';
import type { KeyStore } from '../store/store.ts';
import { ChangeWatch, FreshCache } from './cache.ts';
import { Entrance } from './entrance.ts';
import { Grants } from './grants.ts';
import type { Installation, Key, KeyVersion, Permission, TokenClient, Vault } from './key.ts';
import type { Outbox } from './outbox.ts';
import { type OperationClass, RateLimits, type Rates } from './rate-limits.ts';
import { isTombstone, lacksUsage, usableVersion, usableVersions, versionOf } from './state.ts';
import type { Operation } from './usage.ts';

/** One request, as a door hands it in. */
export interface Call {
  readonly principal: Principal;
  readonly vault: Vault;
  readonly requestId: string;
  /** Client address. */
  readonly source: string;
  /** What its route may ask for: all that the gate decides is declared in the table of routes. Undefined without a route. */
  readonly declared?: readonly Permission[];
}

/** One request for an access token, its client authenticated. */
export type TokenCall = Pick<Call, 'requestId' | 'source'> & { readonly client: TokenClient };

/** Names a key within the vault of the call: its id, or the name that it has while it lives. */
export type KeyAddress = string | { readonly name: string };

/** What a decided operation adds to its audit record; `event` where only the outcome tells what happened. */
export type AuditFacts = Pick<AuditEvent, 'key' | 'version' | 'algorithm' | 'bits' | 'objectIds' | 'detail'> & Partial<Pick<AuditEvent, 'event'>>;

export interface Outcome<T> {
  readonly value: T;
  readonly facts?: AuditFacts;
}

export interface GateOptions {
  readonly store: KeyStore;
  readonly audit: AuditLog;
  readonly floods: FloodGate;
  readonly outbox: Outbox;
  /** @throws KmsError while the store must not be believed */
  readonly assertServing: () => void;
  readonly installation: Installation;
  readonly now: () => number;
  /** Of one principal in this process. */
  readonly rates: Rates;
}

/** Keys that live, or those that were deleted softly. */
type Which = 'living' | 'deleted';

const KEYS_CACHED = 10_000;

export class Gate {
  /** Who comes, and to which vault. */
  readonly entrance: Entrance;
  readonly #options: GateOptions;
  readonly #watch: ChangeWatch;
  readonly #limits: RateLimits;
  readonly #keys: FreshCache<Key | undefined>;
  readonly #grants: Grants;

  constructor(options: GateOptions) {
    this.#options = options;
    this.#watch = new ChangeWatch(options.store);
    this.#limits = new RateLimits(options.rates, () => performance.now());
    this.entrance = new Entrance(options, this.#watch);
    this.#keys = new FreshCache(this.#watch, KEYS_CACHED);
    this.#grants = new Grants(options.store, this.#watch);
  }

  /** Runs the issue of an access token to a client. */
  async issueToken<T>({ client, requestId, source }: TokenCall, work: () => Promise<Outcome<T>>): Promise<T> {
    const issuer = issuerOf(this.#options.installation.id);
    const principal = { method: 'client-secret', issuer, subject: client.subject };
    return this.#audited({ event: 'token.issue', requestId, principal, credential: client.id, source }, work);
  }

  /** Runs an operation on key material. `versions` are those that may serve it, newest first. */
  async use<T>(
    call: Call,
    operation: Operation,
    keyId: string,
    work: (key: Key, versions: readonly [KeyVersion, ...KeyVersion[]]) => Promise<Outcome<T>>,
  ): Promise<T> {
    return this.#recorded(call, 'use', operation.event, keyId, async () => {
      const key = await this.#admit(call, operation.permission, keyId);
      if (!key.usages.includes(operation.usage)) throw lacksUsage(operation.usage);
      if (!operation.kinds.includes(key.kind)) {
        throw new KmsError('wrong-usage', `expected a key of type ${operation.kinds.join(' or ')}, this one is ${key.kind}`);
      }
      return work(key, usableVersions(key, operation, this.#options.now()));
    });
  }

  /**
   * Runs an operation with one version.
   * @param versionId null for the newest
   * @param read what the caller wants done; looked at when the key is found, and before its state
   */
  async useVersion<T, Input>(
    call: Call,
    operation: Operation,
    { key: address, versionId }: { readonly key: KeyAddress; readonly versionId: string | null },
    read: () => Input,
    work: (input: Input, key: Key, version: KeyVersion) => Promise<Outcome<T>>,
  ): Promise<T> {
    return this.#recorded(call, 'use', operation.event, address, async (found) => {
      const key = await this.#admit(call, operation.permission, address, found);
      versionOf(key, versionId);
      const input = read();
      return work(input, key, usableVersion(key, versionId, operation, this.#options.now()));
    });
  }

  /** Reads one key, as the store has it now. */
  async look<T>(
    call: Call,
    event: string,
    permission: Permission,
    address: KeyAddress,
    work: (key: Key) => Promise<Outcome<T>>,
    which: Which = 'living',
  ): Promise<T> {
    return this.#seen(call, 'read', event, permission, address, work, which);
  }

  /** Runs a change of one key, as the store has it now. */
  async manage<T>(
    call: Call,
    event: string,
    permission: Permission,
    address: KeyAddress,
    work: (key: Key) => Promise<Outcome<T>>,
    which: Which = 'living',
  ): Promise<T> {
    return this.#changing(call, () => this.#seen(call, 'manage', event, permission, address, work, which));
  }

  /** Runs a change of the key of this name, or the making of it: `work` is given the key where there is one. */
  async manageNamed<T>(
    call: Call,
    event: string,
    permission: Permission,
    name: string,
    work: (key: Key | undefined) => Promise<Outcome<T>>,
  ): Promise<T> {
    return this.#changing(call, () => this.#recorded(call, 'manage', event, { name }, async (found) => {
      const key = await this.#seek(call, permission, { name });
      if (key !== undefined) found(key);
      return work(key);
    }));
  }

  /** Runs an operation of the vault that needs no key. */
  async useVault<T>(call: Call, event: string, permission: Permission, work: () => Promise<Outcome<T>>): Promise<T> {
    return this.#ofVault(call, 'use', event, permission, work);
  }

  /** Runs a look at what belongs to the vault and is no key. */
  async readVault<T>(call: Call, event: string, permission: Permission, work: () => Promise<Outcome<T>>): Promise<T> {
    return this.#ofVault(call, 'read', event, permission, work);
  }

  /** Runs a change of the vault's collection of keys, such as create. */
  async manageVault<T>(
    call: Call,
    event: string,
    permission: Permission,
    work: () => Promise<Outcome<T>>,
  ): Promise<T> {
    return this.#changing(call, () => this.#ofVault(call, 'manage', event, permission, work));
  }

  /** For listings: which of these keys the caller may see. Each page is one decision in the audit. */
  async list<T>(
    call: Call,
    work: (mayGet: (key: Key) => boolean) => Promise<Outcome<T>>,
    permission: 'key/get' | 'key/list' | 'key/deleted/list' = 'key/get',
  ): Promise<T> {
    return this.#recorded(call, 'read', 'key.list', undefined, async () => {
      const grants = await this.#grants.of(call, permission);
      const mayGet = (key: Key): boolean => isAllowed(grants, permission, call.vault.id, key.id);
      if (!isAllowedSomewhere(grants, permission, call.vault.id)) throw forbidden(permission);
      return work(mayGet);
    });
  }

  /** Reports a refusal from before the gate: authentication, limits, unknown route, unreadable request. */
  async refused(refusal: Omit<SourceRefusal, 'event' | 'result'>): Promise<void> {
    await this.#options.floods.refused({ ...refusal, event: 'request.refused', result: 'refused' });
  }

  /** A commit of our own is visible to the next question of the same turn. */
  changed(): void {
    this.#watch.forget();
  }

  /** Tells the outbox when the outcome, good or bad, is in the audit. */
  async #changing<T>({ requestId }: Call, run: () => Promise<T>): Promise<T> {
    try {
      const value = await run();
      this.#options.outbox.recorded(requestId);
      return value;
    } catch (error) {
      if (asKmsError(error).code !== 'audit-unavailable') this.#options.outbox.recorded(requestId);
      throw error;
    }
  }

  async #admit(
    call: Call,
    permission: Permission,
    address: KeyAddress,
    found: (key: Key) => void = () => undefined,
    which: Which = 'living',
  ): Promise<Key> {
    const key = await this.#seek(call, permission, address);
    if (key !== undefined) found(key);
    if (key === undefined || isTombstone(key) || (key.deletion === null) !== (which === 'living')) {
      throw new KmsError('not-found', which === 'living' ? 'no such key' : 'no such deleted key');
    }
    return key;
  }

  /** Nobody who has no rights with any key learns of one. @throws KmsError `forbidden` */
  async #seek(call: Call, permission: Permission, address: KeyAddress): Promise<Key | undefined> {
    const { store } = this.#options;
    const { vault } = call;
    if (typeof address === 'string') {
      await this.#authorise(call, permission, address);
      return this.#keys.get(`${vault.id} ${address}`, () => store.findKey(vault.id, address));
    }
    if (!isAllowedSomewhere(await this.#grants.of(call, permission), permission, vault.id)) throw forbidden(permission);
    const name = address.name.toLowerCase();
    const key = await this.#keys.get(`${vault.id} name ${name}`, () => store.findKeyByName(vault.id, name));
    await this.#authorise(call, permission, key?.id ?? null);
    return key;
  }

  async #authorise(call: Call, permission: Permission, keyId: string | null): Promise<void> {
    if (!isAllowed(await this.#grants.of(call, permission), permission, call.vault.id, keyId)) throw forbidden(permission);
  }

  #seen<T>(
    call: Call,
    of: OperationClass,
    event: string,
    permission: Permission,
    address: KeyAddress,
    work: (key: Key) => Promise<Outcome<T>>,
    which: Which,
  ): Promise<T> {
    return this.#recorded(call, of, event, address, async (found) => work(await this.#admit(call, permission, address, found, which)));
  }

  #ofVault<T>(call: Call, of: OperationClass, event: string, permission: Permission, work: () => Promise<Outcome<T>>): Promise<T> {
    return this.#recorded(call, of, event, undefined, async () => {
      await this.#authorise(call, permission, null);
      return work();
    });
  }

  /** Those above the limit are counted, not recorded one by one. @throws KmsError `rate-limited` */
  async #recorded<T>(
    call: Call,
    of: OperationClass,
    event: string,
    address: KeyAddress | undefined,
    decide: (found: (key: Key) => void) => Promise<Outcome<T>>,
  ): Promise<T> {
    try {
      this.#limits.take(call.principal, of);
    } catch (error) {
      await this.refused({ source: call.source, requestId: call.requestId, reason: 'rate-limited', detail: { rule: `rate-${of}` } });
      throw error;
    }
    return this.#audited({ event, ...callFacts(call), ...named(address) }, decide);
  }

  async #audited<T>(
    known: Omit<AuditEvent, 'result'>,
    decide: (found: (key: Key) => void) => Promise<Outcome<T>>,
  ): Promise<T> {
    const { audit } = this.#options;
    if (!audit.healthy()) throw new KmsError('audit-unavailable', 'the audit log cannot be written', { retryAfter: 2 });
    let about = known;
    let outcome: Outcome<T>;
    try {
      outcome = await decide(({ id }) => { about = { ...about, key: id }; });
    } catch (thrown) {
      const error = asKmsError(thrown);
      const result = isTransient(error.code) || error.code === 'internal' ? 'failed' : 'refused';
      await audit.append({ ...about, ...lacking(about, error), result, reason: error.code });
      throw error;
    }
    await audit.append({ ...about, ...outcome.facts, result: 'success' });
    return outcome.value;
  }
}

function callFacts({ principal, vault, requestId, source }: Call): Omit<AuditEvent, 'event' | 'result'> {
  const { method, issuer, subject, credential } = principal;
  return { requestId, vault: vault.id, principal: { method, issuer, subject }, credential, source };
}

/** A key that is asked for by name is in the record by its id once it is found. */
function named(address: KeyAddress | undefined): Pick<AuditEvent, 'key' | 'detail'> {
  if (address === undefined) return {};
  return typeof address === 'string' ? { key: address } : { detail: { name: address.name } };
}

/** Of a refusal for want of a permission: which one, for `kms explain`. */
function lacking({ detail }: Pick<AuditEvent, 'detail'>, { permission }: KmsError): Pick<AuditEvent, 'detail'> {
  return permission === undefined ? {} : { detail: { ...detail, permission } };
}

function forbidden(permission: Permission): KmsError {
  return new KmsError('forbidden', `the permission ${permission} is missing`, { permission });
}
