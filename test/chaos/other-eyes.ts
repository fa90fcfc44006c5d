/**
 * The invariants after kills, looked at past the service: SQL, the token through PKCS#11, the audit's JSON lines and
 * node:crypto. Each check returns what violates it; none when it holds.
 */

import { createHash, createPublicKey, verify } from 'node:crypto';
import ck from 'pkcs11js';
import type { Installation } from '../support/installation.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import type { Line, Stream } from './audit-lines.ts';
import type { Ledger } from './ledger.ts';
import { rowsOf, type Row } from './store-sql.ts';

export interface Rows {
  readonly keys: readonly Row[];
  readonly versions: readonly Row[];
  readonly objects: readonly Row[];
  readonly internal: readonly Row[];
  readonly intents: readonly Row[];
  readonly journal: readonly Row[];
}

export async function readRows(kms: Installation): Promise<Rows> {
  return {
    keys: await rowsOf(kms, 'select id, state from "key"'),
    versions: await rowsOf(kms, 'select key_id, ordinal, id, public_key from key_version order by key_id, ordinal'),
    objects: await rowsOf(kms, `
      select o.object_id, o.family, o.key_id, o.version_ordinal, v.id as version_id from key_object o
      join key_version v on v.vault_id = o.vault_id and v.key_id = o.key_id and v.ordinal = o.version_ordinal`),
    internal: await rowsOf(kms, 'select object_id, public_key from internal_key'),
    intents: await rowsOf(kms, 'select id, action, state, key_id from intent'),
    journal: await rowsOf(kms, 'select seq, stream, request_id, tbl, pk from journal order by seq'),
  };
}

const DESTROYED = 'destroyed';

/** I-1 and the ends of keys, in the rows; versions contiguous, each with one set of objects (S-22). */
export function keysAsPromised({ keys, versions, objects, intents }: Rows, ledger: Ledger): readonly string[] {
  const states = new Map(keys.map(({ id, state }) => [text(id), state]));
  const found = intents.map((intent) => `intent left: ${JSON.stringify(intent)}`);
  for (const { id, acknowledged, deleteSent, deleted } of ledger.keys.values()) {
    const state = states.get(id);
    if (acknowledged && state === undefined) found.push(`I-1: key ${id} was acknowledged and has no row`);
    if (deleted && state !== DESTROYED) found.push(`S-25: key ${id} was deleted and is ${String(state)}`);
    if (!deleteSent && state === DESTROYED) found.push(`I-1: key ${id} is destroyed and nobody asked for it`);
  }
  for (const [id, state] of states) {
    if (!ledger.keys.has(id)) found.push(`key ${id}: nobody asked for it`);
    found.push(...versionsOf(id, versions.filter(({ key_id }) => key_id === id), ledger));
    found.push(...objectsOf(id, state === DESTROYED, versions, objects.filter(({ key_id }) => key_id === id), ledger));
  }
  return found;
}

function versionsOf(id: string, versions: readonly Row[], ledger: Ledger): readonly string[] {
  const found = versions.flatMap(({ ordinal }, index) =>
    (Number(ordinal) === index ? [] : [`S-22: key ${id}: version ${String(ordinal)} in place ${index}`]));
  for (const promised of ledger.keys.get(id)?.versions.values() ?? []) {
    const row = versions[promised.ordinal];
    const publicKey = row?.['public_key'] == null ? null : base64(row['public_key']);
    if (row?.['id'] !== promised.id) found.push(`I-1: key ${id}: version ${promised.ordinal} was ${promised.id} and is ${String(row?.['id'])}`);
    else if (publicKey !== promised.publicKey) found.push(`I-3: key ${id}: version ${promised.ordinal} has another public key`);
  }
  return found;
}

const FAMILIES = { EC: 'private public', oct: 'dk gcm kw mac' } as const;

function objectsOf(id: string, destroyed: boolean, versions: readonly Row[], objects: readonly Row[], ledger: Ledger): readonly string[] {
  if (destroyed) return objects.map(({ object_id }) => `S-25: destroyed key ${id} has the object ${text(object_id)}`);
  const wanted = FAMILIES[ledger.keys.get(id)?.type ?? 'oct'];
  return versions.filter(({ key_id }) => key_id === id).flatMap(({ ordinal }) => {
    const families = objects.filter(({ version_ordinal }) => Number(version_ordinal) === Number(ordinal)).map(({ family }) => text(family));
    const seen = families.filter((family) => family !== 'cbc').sort().join(' ');
    return seen === wanted ? [] : [`S-22: key ${id} version ${text(ordinal)} has the objects ${seen}`];
  });
}

/** I-4, I-3: token objects are rows, exactly, with the label of their version; each private half signs for its public key. */
export function tokenIsRows(kms: Installation, { objects, internal, versions }: Rows): readonly string[] {
  return TokenViewer.look(kms.home, (viewer) => {
    const seen = keyObjects(viewer.login(kms.home));
    const rows = new Map(objects.map((row) => [`${text(row['object_id'])} ${classOf(text(row['family']))}`, row]));
    const ours = internal.flatMap(({ object_id, public_key }) =>
      (public_key == null ? ['secret'] : ['private', 'public']).map((part) => `${text(object_id)} ${part}`));
    const names = seen.map(({ name }) => name);
    const expected = new Set([...rows.keys(), ...ours]);
    return [
      ...names.filter((name, index) => names.indexOf(name) !== index).map((name) => `I-4: twice on the token: ${name}`),
      ...seen.filter(({ name }) => !expected.has(name)).map(({ name, label }) => `I-4: object without a row: ${name} ${label}`),
      ...[...expected].filter((name) => !names.includes(name)).map((name) => `I-4: row without an object: ${name}`),
      ...seen.flatMap(({ name, label, handle }) => {
        const row = rows.get(name);
        if (row === undefined) return [];
        const ending = `:${text(row['version_id'])}:${text(row['family'])}`;
        const misplaced = label.endsWith(ending) ? [] : [`I-4: ${name} is labelled ${label}, not …${ending}`];
        if (row['family'] !== 'private') return misplaced;
        const version = versions.find(({ key_id, ordinal }) => key_id === row['key_id'] && Number(ordinal) === Number(row['version_ordinal']));
        return signsFor(viewer, handle, version) ? misplaced : [...misplaced, `I-3: ${name} does not sign for its public key`];
      }),
    ];
  });
}

function classOf(family: string): string {
  return family === 'private' || family === 'public' ? family : 'secret';
}

interface KeyObject {
  readonly name: string;
  readonly label: string;
  readonly handle: ck.Handle;
}

/** Objects of the three key classes; those of data, the anchors, are not keys. */
function keyObjects(viewer: TokenViewer): readonly KeyObject[] {
  const classes = [['secret', ck.CKO_SECRET_KEY], ['private', ck.CKO_PRIVATE_KEY], ['public', ck.CKO_PUBLIC_KEY]] as const;
  return classes.flatMap(([part, value]) => {
    const handles: ck.Handle[] = [];
    viewer.module.C_FindObjectsInit(viewer.session, [{ type: ck.CKA_TOKEN, value: true }, { type: ck.CKA_CLASS, value }]);
    for (let more = viewer.module.C_FindObjects(viewer.session, 100); more.length > 0; more = viewer.module.C_FindObjects(viewer.session, 100)) handles.push(...more);
    viewer.module.C_FindObjectsFinal(viewer.session);
    return handles.map((handle) => ({
      name: `${viewer.raw(handle, ck.CKA_ID).toString('hex')} ${part}`,
      label: viewer.raw(handle, ck.CKA_LABEL).toString('utf8'),
      handle,
    }));
  });
}

function signsFor(viewer: TokenViewer, handle: ck.Handle, version: Row | undefined): boolean {
  if (version === undefined) return false;
  const message = Buffer.from('asked past the service');
  viewer.module.C_SignInit(viewer.session, { mechanism: ck.CKM_ECDSA }, handle);
  const signature = viewer.module.C_Sign(viewer.session, createHash('sha256').update(message).digest(), Buffer.alloc(64));
  return verifies(base64(version['public_key']), message, signature);
}

function verifies(spki: string, message: Buffer, signature: Buffer): boolean {
  const key = createPublicKey({ key: Buffer.from(spki, 'base64'), format: 'der', type: 'spki' });
  return verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

/** I-3: each signature verifies under the public key of a version of its key; deleted keys included. */
export function signaturesHold({ versions }: Rows, ledger: Ledger): readonly string[] {
  const keys = new Map<string, string[]>();
  for (const { key_id, public_key } of versions) {
    if (public_key != null) keys.set(text(key_id), [...(keys.get(text(key_id)) ?? []), base64(public_key)]);
  }
  return ledger.signed.flatMap(({ key: { id }, text: message, made }) => {
    const holds = keys.get(id)?.some((spki) => verifies(spki, Buffer.from(message), Buffer.from(made, 'base64')));
    return holds === true ? [] : [`I-3: a signature of key ${id} verifies under none of its versions`];
  });
}

const ALARMS: ReadonlySet<string> = new Set(['integrity.failure', 'reconcile.finding', 'audit.damaged']);

export function noFalseAlarm(streams: readonly Stream[]): readonly string[] {
  return streams.flatMap(({ name, lines }) => lines.filter(({ event }) => ALARMS.has(event)).map((line) => `false alarm in ${name}: ${JSON.stringify(line)}`));
}

/** A process that was killed while it adopted may have said something that its own successor says again. */
export interface Ended {
  /** Boots that still run. */
  readonly running: ReadonlySet<string>;
  /** Boots that were killed before they were ready. */
  readonly interrupted: ReadonlySet<string>;
}

/** Each stream is closed by itself, or adopted once, exactly where it ends. */
export function streamsEnded(streams: readonly Stream[], { running, interrupted }: Ended): readonly string[] {
  const adoptions = streams.flatMap(({ boot, lines }) =>
    lines.filter(({ event }) => event === 'stream.adopt').map(({ detail }) => ({ ...detail, boot })));
  return streams.filter(({ boot }) => !running.has(boot)).flatMap(({ name, lines, head, closed }) => {
    const mine = adoptions.filter((detail: Line['detail']) => detail?.['stream'] === name);
    if (closed) return mine.length === 0 ? [] : [`stream ${name} is closed and was adopted`];
    const whole = mine.filter(({ boot }) => !interrupted.has(boot)).length;
    if (mine.length === 0 || whole > 1) return [`stream ${name} is not closed and was adopted ${mine.length} times`];
    const exact = mine.every((end: Line['detail']) => end?.['seq'] === lines.at(-1)?.seq && end?.['head'] === head);
    return exact ? [] : [`stream ${name} ends at ${lines.at(-1)?.seq} and was adopted at ${JSON.stringify(mine)}`];
  });
}

/**
 * I-5: each entry of the journal has the outcome of its request in the audit or, only where there is none, one recovery
 * record of its own; and each acknowledgement is a recorded success.
 */
export function everyChangeRecorded({ journal }: Rows, streams: readonly Stream[], ledger: Ledger, { interrupted }: Ended): readonly string[] {
  const outcomes = streams.flatMap(({ lines }) => lines).filter(({ event, requestId }) => event !== 'recovery' && requestId !== undefined);
  const told = new Set(outcomes.map(({ requestId }) => requestId));
  const succeeded = new Set(outcomes.filter(({ result }) => result === 'success').map(({ requestId }) => requestId));
  const recoveries = recoveriesIn(streams);
  const entries = journal.filter(({ request_id }) => request_id !== 'init');
  return [
    ...entries.flatMap(({ seq, request_id, tbl, stream }) => {
      const by = recoveries.get(Number(seq)) ?? [];
      const whole = by.filter((boot) => !interrupted.has(boot)).length;
      const fits = told.has(text(request_id)) ? by.length === 0 : by.length > 0 && whole <= 1;
      const about = `entry ${text(seq)} (${text(tbl)}, ${text(request_id)}, ${text(stream)})`;
      return fits ? [] : [`I-5: ${about} has ${told.has(text(request_id)) ? 'an' : 'no'} outcome and ${by.length} recoveries`];
    }),
    ...[...ledger.exchanges.values()].flatMap(({ step, answer }) => {
      if (answer?.kind === 'done') return succeeded.has(step.id) ? [] : [`I-5: acknowledged without a record: ${step.id}`];
      return answer?.kind === 'failed' && succeeded.has(step.id) ? [`I-5: failed, and recorded as a success: ${step.id}`] : [];
    }),
  ];
}

/** Who recorded a recovery, by the journal's entry. */
function recoveriesIn(streams: readonly Stream[]): ReadonlyMap<number, readonly string[]> {
  const recoveries = new Map<number, string[]>();
  for (const { boot, lines } of streams) {
    for (const { detail } of lines.filter(({ event }) => event === 'recovery')) {
      const seq = Number(detail?.['journalSeq']);
      recoveries.set(seq, [...(recoveries.get(seq) ?? []), boot]);
    }
  }
  return recoveries;
}

function text(value: unknown): string {
  return String(value);
}

function base64(value: unknown): string {
  return Buffer.from(value as Uint8Array).toString('base64');
}
