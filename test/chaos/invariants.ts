/**
 * The invariants of `security.md` §4.1. Each check returns what violates it, as lines that name the request or object;
 * none when it holds. I-8, the time of recovery, is measured in `field.ts`.
 */

import { verify as verifySignature } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { auditRecords, type SeenRecord, unrecorded } from '../support/audit-records.ts';
import { runKms } from '../support/files.ts';
import type { Installation } from '../support/installation.ts';
import { readStore } from '../support/store-rows.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { type ChaosKey, type Entry, type Recorder, type Signed, succeeded } from './recorder.ts';
import { activate, type Asked, CRYPTO, decrypt, encrypt, list, MARKER, sign, verify } from './requests.ts';

export type Ask = (asked: Asked) => Promise<Entry>;

/** Requests of one check at a time. */
const AT_ONCE = 6;

async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = items[Symbol.iterator]();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const item of left) await work(item);
  }));
}

/** I-1: each acknowledged key is listed and its self-test passes, unless somebody asked to delete it. */
export async function noAcknowledgedKeyLost(recorder: Recorder, ask: Ask): Promise<readonly string[]> {
  const found: string[] = [];
  const listed = await everyListedId(recorder, ask, found);
  await inTurns(recorder.living(), async (key) => {
    if (!listed.has(key.id)) found.push(`I-1: key ${key.id} (${key.kind}) was acknowledged and is not listed`);
    const failed = await selfTest(key, recorder, ask);
    if (failed !== undefined) found.push(`I-1: key ${key.id} (${key.kind}) was acknowledged: ${recorder.describe(failed)} ${failed.wrong ?? ''}`);
  });
  return found;
}

async function everyListedId(recorder: Recorder, ask: Ask, found: string[]): Promise<ReadonlySet<string>> {
  const ids = new Set<string>();
  for (let token: string | undefined = ''; token !== undefined;) {
    const entry = await ask(list(token));
    if (!succeeded(entry)) found.push(`I-1: ${recorder.describe(entry)}`);
    for (const { id } of entry.json?.objects_list ?? []) ids.add(id);
    token = entry.json?.is_truncated === true ? (entry.json.continuation_token as string) : undefined;
  }
  return ids;
}

/** @returns the request that failed */
async function selfTest(key: ChaosKey, recorder: Recorder, ask: Ask): Promise<Entry | undefined> {
  if (Number.isFinite(key.deactivateSentMs)) {
    const activated = await ask(activate(key));
    if (!succeeded(activated)) return activated;
  }
  const made = await ask(key.kind === 'oct' ? encrypt(key) : sign(key));
  if (!succeeded(made) || made.wrong !== null) return made;
  // The recorder has just taken it in; I-3 will check the signature with somebody else's code, too.
  const proof = key.kind === 'oct'
    ? decrypt(recorder.sealed.findLast(({ entry }) => entry === made)!)
    : verify(recorder.signed.findLast(({ entry }) => entry === made)!, true);
  const proved = await ask(proof);
  return succeeded(proved) && proved.wrong === null ? undefined : proved;
}

/** I-2: every recorded ciphertext of a key that lives gives its plaintext. To be asked after I-1, which activates keys. */
export async function nothingUndecryptable(recorder: Recorder, ask: Ask): Promise<readonly string[]> {
  const found: string[] = [];
  const living = new Set(recorder.living());
  await inTurns(recorder.sealed.filter(({ key, entry }) => living.has(key) && !entry.tainted), async (sealed) => {
    const entry = await ask(decrypt(sealed));
    if (succeeded(entry) && entry.wrong === null) return;
    found.push(`I-2: made by ${recorder.describe(sealed.entry)}; now ${recorder.describe(entry)} ${entry.wrong ?? ''}`);
  });
  return found;
}

/** I-3: every signature verifies under the public key of the creation. */
export function rightKey(recorder: Recorder): readonly string[] {
  return recorder.signed
    .filter((signed) => !signed.entry.tainted && !isValid(signed))
    .map(({ entry }) => `I-3: the signature does not verify under the key's public half: ${recorder.describe(entry)}`);
}

function isValid({ key, message, signature }: Signed): boolean {
  if (key.publicKey === null) return false;
  const options = { key: key.publicKey, dsaEncoding: 'ieee-p1363' } as const;
  return verifySignature('sha256', Buffer.from(message, 'base64'), options, Buffer.from(signature, 'base64'));
}

export interface Orphans {
  readonly violations: readonly string[];
  /** Objects on the token that an intent announces and no row has: work for the reconciler. */
  readonly announced: readonly string[];
}

const CLASSES: Readonly<Record<string, string>> = { private: 'private', public: 'public' };

/** I-4, after the service has stopped: the token holds what the rows say, and nothing else but announced objects. */
export function noOrphan(kms: Installation): Orphans {
  const store = readStore(kms.home);
  const announced = new Set(store.intents.flatMap(({ objectIds }) => objectIds));
  const rows = new Map(store.objects.map(({ objectId, family, keyId }) => [`${objectId} ${CLASSES[family] ?? 'secret'}`, keyId]));
  const objects = TokenViewer.look(kms.home, (viewer) => viewer.login(kms.home).objects());
  const ours = objects.filter(({ label }) => label.startsWith('kms:'));
  const onToken = new Map(ours.map(({ id, class: kind, label }) => [`${id} ${kind}`, label]));
  const isAnnounced = (object: string): boolean => announced.has(object.split(' ')[0] ?? '');
  const orphans = [...onToken].filter(([object]) => !rows.has(object));
  const story = storyOf(kms);
  const missing = [...rows].filter(([object]) => !onToken.has(object) && !isAnnounced(object));
  return {
    violations: [
      ...(onToken.size === ours.length ? [] : ['I-4: two objects of one class have the same id']),
      ...orphans.filter(([object]) => !isAnnounced(object)).map(([object, label]) => `I-4: object without a row: ${object} ${label} (${story(object)})`),
      ...missing.map(([object, key]) => `I-4: row without an object: ${object} of key ${key}`),
    ],
    announced: orphans.map(([object]) => object).filter(isAnnounced),
  };
}

/** What the audit says of an object. */
function storyOf(kms: Installation): (object: string) => string {
  const records = auditRecords(kms) as readonly (SeenRecord & { readonly objectIds?: readonly string[] })[];
  return (object) => {
    const id = object.split(' ')[0] ?? '';
    const about = records.filter(({ objectIds }) => objectIds?.includes(id));
    const events = about.map(({ event, result, requestId }) => `${event} ${result} of request ${requestId ?? 'none'}`);
    return events.length === 0 ? 'in no audit record' : events.join(', ');
  };
}

/** I-5: the chain verifies, each success is recorded, and no failure is recorded as a success. */
export async function auditComplete(kms: Installation, recorder: Recorder): Promise<readonly string[]> {
  const records = auditRecords(kms);
  // A recovery says only that the change is in the store, whatever its caller was told: here, that the audit had no space.
  const outcomes = records.filter(({ event }) => event !== 'recovery');
  const successes = new Set(outcomes.filter(({ result }) => result === 'success').map(({ requestId }) => requestId));
  const liars = recorder.entries.filter((entry) => entry.status >= 300 && successes.has(entry.id));
  let verified = await runKms(kms.environment, 'audit', 'verify');
  // The stream of a process that was killed is adopted within seconds.
  for (let left = 10; left > 0 && verified.stdout.includes('never closed'); left -= 1) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    verified = await runKms(kms.environment, 'audit', 'verify');
  }
  const { code, stdout, stderr } = verified;
  return [
    ...(code === 0 ? [] : [`I-5: kms audit verify ended with ${code}: ${stdout}${stderr}`]),
    ...owed(kms, records).map((request) => `I-5: no record of the change that request ${request} made`),
    ...unrecorded(records, recorder.entries).map((entry) => `I-5: no record of success: ${recorder.describe(entry as Entry)}`),
    ...liars.map((entry) => `I-5: recorded as a success: ${recorder.describe(entry)}`),
  ];
}

/** Requests that changed the store, whose process has ended its stream, and of which the audit says nothing at all. */
function owed(kms: Installation, records: readonly SeenRecord[]): readonly string[] {
  const told = new Set(records.map(({ requestId }) => requestId));
  return readStore(kms.home).ended.filter((request) => !told.has(request));
}

/** I-6: neither PINs nor plaintext in output, audit, store, or any other file of the home, nor in an error. */
export function noLeak(kms: Installation, recorder: Recorder): readonly string[] {
  const pinFiles = ['user.pin', 'so.pin'].map((name) => join('softhsm', name));
  const pins = pinFiles.map((file) => readFileSync(join(kms.home, file), 'utf8').trim());
  const dataKeys = recorder.sealed.filter(({ kind }) => kind === 'dataKey').slice(0, 8).map(({ plaintext }) => plaintext);
  const secrets = [...pins, MARKER, Buffer.from(MARKER).toString('base64'), Buffer.from(MARKER).toString('hex'), ...dataKeys];
  const needles = [...secrets.map((text) => Buffer.from(text)), ...dataKeys.map((text) => Buffer.from(text, 'base64'))];
  const leaks = (bytes: Buffer): boolean => {
    const written = withoutZeros(bytes);
    return needles.some((needle) => written.includes(needle));
  };
  const files = readdirSync(kms.home, { recursive: true, withFileTypes: true })
    .filter((item) => item.isFile())
    .map((item) => join(item.parentPath, item.name))
    .filter((path) => !pinFiles.some((file) => path === join(kms.home, file)));
  return [
    ...(leaks(Buffer.from(kms.output)) ? ['I-6: a secret stands in the output of the service'] : []),
    ...files.filter((path) => leaks(readFileSync(path))).map((path) => `I-6: a secret stands in ${path}`),
    ...recorder.entries.filter(({ status, text }) => status >= 300 && leaks(Buffer.from(text)))
      .map((entry) => `I-6: a secret stands in the answer to ${recorder.describe(entry)}`),
  ];
}

/** Audit segments end in megabytes of zeros. */
function withoutZeros(bytes: Buffer): Buffer {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return bytes.subarray(0, end);
}

const TRANSIENT: ReadonlySet<string> = new Set([
  'token-unavailable', 'overloaded', 'outcome-unknown', 'store-unavailable', 'audit-unavailable', 'key-missing', 'integrity',
]);

/** I-7: success with the right data, 503 with a time to come back, or the 4xx that the key's own life explains. */
export function honestErrors(recorder: Recorder): readonly string[] {
  return recorder.entries.flatMap((entry) => {
    const lie = lieIn(entry);
    return lie === undefined ? [] : [`I-7: ${lie}: ${recorder.describe(entry)}`];
  });
}

function lieIn(entry: Entry): string | undefined {
  const { status, headers, json, asked: { key }, endedMs, torn, wrong, tainted } = entry;
  if (status === 0) return torn > 0 ? 'half an answer' : undefined;
  if (wrong !== null) return tainted ? undefined : `wrong data, ${wrong}`;
  if (succeeded(entry)) return undefined;
  if (status === 503) {
    if (!(Number(headers['retry-after']) > 0)) return '503 without Retry-After';
    return TRANSIENT.has(json?.error_id) ? undefined : '503 for no documented reason';
  }
  const asleep = key !== null && Math.min(key.deactivateSentMs, key.deleteSentMs) < endedMs;
  if (status === 400 && json?.error_id === 'wrong-state' && asleep) return undefined;
  const gone = key !== null && key.deleteSentMs < endedMs;
  if (status === 404 && json?.error_id === 'not-found' && gone) return undefined;
  return `${status} is no honest answer here`;
}

/** I-9: after its acknowledgement no deactivated or deleted key serves. To be asked before I-1, which activates keys. */
export function monotonicState(recorder: Recorder): readonly string[] {
  return recorder.entries.filter((entry) => succeeded(entry) && servesTheDead(entry, recorder))
    .map((entry) => `I-9: the end of the key was acknowledged before: ${recorder.describe(entry)}`);
}

function servesTheDead({ act, asked: { key }, sentMs, json }: Entry, recorder: Recorder): boolean {
  if (act === 'list') {
    const ids = (json.objects_list as readonly { readonly id: string }[]).map(({ id }) => id);
    return ids.some((id) => (recorder.keys.get(id)?.deletedMs ?? sentMs) < sentMs);
  }
  if (key === null) return false;
  if (CRYPTO.has(act)) return Math.min(key.deactivatedMs, key.deletedMs) < sentMs;
  if (act === 'get') return key.deletedMs < sentMs || (key.deactivatedMs < sentMs && json.attributes.state === 'active');
  return act === 'activate' && key.deletedMs < sentMs;
}
