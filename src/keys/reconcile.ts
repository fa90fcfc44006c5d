/**
 * Store and token side by side (security S-20, S-21, S-25). Completes what was announced by processes that have ended;
 * everything else that does not fit is reported and never destroyed: it is not ours to judge.
 */

import { randomUUID } from 'node:crypto';
import type { AuditLog } from '../audit/log.ts';
import { type CryptoEngine, partOf, type SurveyedObject } from '../crypto/engine.ts';
import type { Intent, KeyStore } from '../store/store.ts';
import type { InternalKey, Key, KeyState } from './key.ts';
import type { Outbox } from './outbox.ts';

export interface Finding {
  readonly kind:
    | 'missing' // a row whose object the token does not show
    | 'unknown' // an object of ours without a row or an intent
    | 'foreign' // an object that does not carry our label: reported, and none of our business
    | 'destroyed' // an object of a key that is destroyed
    | 'misplaced' // the object's label names another version or family than its row
    | 'extractable' // a key object that can leave the token
    | 'unfinished'; // announced work that is not completed
  readonly objectId: string;
  readonly part: string;
  /** Vault and key, or the label of an object without a row. */
  readonly about: string;
}

export interface ReconcilerOptions {
  readonly engine: Pick<CryptoEngine, 'survey' | 'destroy'>;
  readonly store: KeyStore;
  readonly audit: Pick<AuditLog, 'append'>;
  readonly outbox: Pick<Outbox, 'recorded'>;
  /** Made by `kms init`; they have no row among the keys. */
  readonly internalKeys: readonly InternalKey[];
  /** Starts of CKA_LABEL of what is ours. */
  readonly labels: readonly string[];
  /** Whether this process has ended, so that what it announced will not be completed by it. */
  readonly hasEnded: (bootId: string) => Promise<boolean>;
}

const LIVE: readonly KeyState[] = ['active', 'deactivated', 'compromised'];
const PAGE = 500;

interface Expected {
  readonly about: string;
  readonly label: string;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /**
   * Sees through what is announced: destructions forwards, by whomever; creations backwards, when their process has
   * ended. Harmless while the owner of a destruction is still at it.
   * @param goesOn asked before each @returns how many
   */
  async complete(goesOn: () => boolean): Promise<number> {
    const { store, hasEnded } = this.#options;
    let completed = 0;
    for (const intent of await store.intents()) {
      if (!goesOn()) break;
      if (intent.action !== 'destroy' && !(await hasEnded(intent.bootId))) continue;
      await this.#settle(intent);
      completed += 1;
    }
    return completed;
  }

  /** Everything that does not fit. Changes nothing. */
  async report(): Promise<readonly Finding[]> {
    const { engine, store } = this.#options;
    // The rows first: what is made meanwhile is on the token when the survey comes.
    const expected = await this.#expected();
    const surveyed = await engine.survey();
    const shown = new Map(surveyed.map((object) => [`${object.objectId} ${object.part}`, object]));
    const missing = [...expected].filter(([name]) => !shown.has(name)).map(([name, { about }]) => finding('missing', name, about));
    const intents = new Map((await store.intents()).flatMap((intent) => intent.objectIds.map((id) => [id, intent] as const)));
    const strangers = [...shown].filter(([name]) => !expected.has(name));
    const destroyed = await store.ofTombstones(strangers.map(([, { objectId }]) => objectId));
    const later = await this.#expected();
    const findings: Finding[] = missing.filter(({ objectId, part }) => later.has(`${objectId} ${part}`));
    const lost: Finding[] = [];
    for (const [name, { objectId, label }] of strangers) {
      if (later.has(name)) continue;
      const intent = intents.get(objectId);
      if (intent !== undefined) findings.push(finding('unfinished', name, `${intent.action} of ${intent.vaultId}/${intent.keyId}`));
      else lost.push(finding(this.#strangeness(label, destroyed.has(objectId)), name, label ?? 'unreadable'));
    }
    findings.push(...(await this.#stillShown(lost)));
    for (const [name, object] of shown) findings.push(...misfits(name, object, expected.get(name)));
    return findings;
  }

  /** What was announced when it was seen may have been completed since, and its intent removed. */
  async #stillShown(findings: readonly Finding[]): Promise<readonly Finding[]> {
    // What is not ours was never announced.
    if (findings.every(({ kind }) => kind === 'foreign')) return findings;
    const shown = new Set((await this.#options.engine.survey()).map(({ objectId, part }) => `${objectId} ${part}`));
    return findings.filter(({ objectId, part }) => shown.has(`${objectId} ${part}`));
  }

  #strangeness(label: string | null, isDestroyed: boolean): Finding['kind'] {
    if (isDestroyed) return 'destroyed';
    const ours = label === null || this.#options.labels.some((prefix) => label.startsWith(prefix));
    return ours ? 'unknown' : 'foreign';
  }

  /** Live rows by object and part. */
  async #expected(): Promise<Map<string, Expected>> {
    const { store, internalKeys } = this.#options;
    const expected = new Map<string, Expected>();
    for (const key of internalKeys) expectInternal(expected, key);
    for (const { id } of await store.vaults()) {
      for (let after = -1; ;) {
        const keys = await store.listKeys({ vaultId: id, states: LIVE, softly: 'as-they-are', afterOrdinal: after, limit: PAGE });
        keys.forEach((key) => { expectKey(expected, key); });
        const last = keys.at(-1);
        // Not by the length: damaged keys are left out of a page.
        if (last === undefined) break;
        after = last.ordinal;
      }
    }
    return expected;
  }

  async #settle(intent: Intent): Promise<void> {
    const { engine, store, audit, outbox } = this.#options;
    const requestId = `reconcile-${randomUUID()}`;
    // From here a late commit fails: only then may its objects go.
    if (intent.action !== 'destroy') await store.abortIntent(intent.id, intent.revision, requestId);
    await engine.destroy(intent.objectIds);
    await store.removeIntent(intent.id, requestId);
    const event = intent.action === 'destroy' ? 'reconcile.destroyed' : 'reconcile.aborted';
    const { vaultId: vault, keyId: key, objectIds, bootId } = intent;
    await audit.append({ event, result: 'success', requestId, vault, key, objectIds, detail: { boot: bootId, action: intent.action } });
    outbox.recorded(requestId);
  }
}

function expectKey(expected: Map<string, Expected>, key: Key): void {
  const about = `${key.vaultId}/${key.id}`;
  for (const version of key.versions) {
    for (const { objectId, family } of version.objects) {
      expected.set(`${objectId} ${partOf(family)}`, { about, label: `:${version.id}:${family}` });
    }
  }
}

function expectInternal(expected: Map<string, Expected>, { name, objectId, publicKey }: InternalKey): void {
  const about = `internal key ${name}`;
  for (const part of publicKey === null ? ['secret'] : ['private', 'public']) {
    expected.set(`${objectId} ${part}`, { about, label: `:${name}:${part === 'secret' ? 'mac' : part}` });
  }
}

/** What is wrong with an object that is there. */
function misfits(name: string, { label, extractable }: SurveyedObject, row: Expected | undefined): Finding[] {
  const found: Finding[] = [];
  if (row !== undefined && label !== null && !label.endsWith(row.label)) found.push(finding('misplaced', name, row.about));
  if (extractable === true) found.push(finding('extractable', name, row?.about ?? label ?? 'unreadable'));
  return found;
}

function finding(kind: Finding['kind'], name: string, about: string): Finding {
  const [objectId = '', part = ''] = name.split(' ');
  return { kind, objectId, part, about };
}
