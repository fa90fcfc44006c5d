/** A store with rows of every kind and state, and the answers that it gives while nobody has touched them. */

import { StatementStore } from '../../src/store/statements.ts';
import type { CompareCursor, Damage, KeyStore } from '../../src/store/store.ts';
import type { Key } from '../../src/keys/key.ts';
import type { Behind, Contents, Ground, Row } from './behind.ts';
import { enrolment } from './fleet-suite.ts';
import * as make from './fixtures.ts';

export const PRINCIPAL = { method: 'certificate', issuer: 'issuer', subject: 'subject' } as const;
/** How questions about it begin. */
export const PRINCIPAL_TEXT = 'certificate issuer subject';
/** More rows than the entries that are verified at start: those before them are left to the full comparison. */
const OTHERS = 210;
const { REQUEST } = make;

export interface Populated {
  readonly vaultId: string;
  readonly live: Key;
  readonly other: Key;
  readonly off: Key;
  readonly gone: Key;
  readonly clientId: string;
  /** The destroy intent of `gone`. */
  readonly destruction: string;
  /** As it was before `off` was deactivated and `gone` destroyed. */
  readonly earlier: Contents;
  readonly contents: Contents;
}

export async function populate({ engine, behind }: Ground): Promise<Populated> {
  const store = new StatementStore(engine, 'boot');
  const vaults = [make.vault(), make.vault()];
  const [first, second] = [vaults[0]!.id, vaults[1]!.id];
  await store.createInstallation({
    installation: make.installation(),
    vaults,
    credentials: [make.credential(first), make.credential(first, { revokedMs: 1_700_000_000_020 })],
    assignments: [
      make.assignment(), make.assignment({ vaultId: first, role: 'user' }),
      ...Array.from({ length: OTHERS }, (_, n) => make.assignment({ subject: `other-${n}` })),
    ],
  }, make.MACS);
  const client = make.tokenClient();
  for (const of of [client, make.tokenClient()]) await store.addTokenClient(of, REQUEST);
  await store.changePolicy({ define: [make.customRole(), make.customRole({ vaultId: first })] }, REQUEST);
  const live = await make.rotated(store, await make.created(store, first, { name: 'live' }));
  const other = await make.created(store, first, { name: 'other', context: null });
  await make.created(store, second, { name: 'elsewhere' });
  const [before, doomed] = [await make.created(store, first, { name: 'off' }), await make.created(store, first, { name: 'gone' })];
  await store.beginCreate(make.announcement(make.newKey(first), [make.hex()]), REQUEST);
  for (const boot of ['boot', 'earlier']) await store.enrol(enrolment(boot));
  await store.settleStream('earlier', 'closed', { seq: 3, head: 'h', checkpoint: 'c' });
  const earlier = await behind.contents();
  const change = { state: 'deactivated', deactivatedMs: 1_700_000_000_021, deactivationReason: 'superseded' } as const;
  const off = await store.updateKey(first, before.id, 0, change, REQUEST);
  const { id: destruction } = await make.destroyed(store, doomed);
  const gone = (await store.findKey(first, doomed.id))!;
  return { vaultId: first, clientId: client.id, live, other, off, gone, destruction, earlier, contents: await behind.contents() };
}

/** What a store says about everything that is, or was, in the database: by question, a value or the code of a refusal. */
export type Answers = ReadonlyMap<string, unknown>;

export async function ask(store: KeyStore, behind: Behind, pristine: Contents): Promise<Answers> {
  const answers = new Map<string, unknown>();
  const answer = async (question: string, of: () => Promise<unknown>) => {
    if (!answers.has(question)) answers.set(question, await of().catch((error: unknown) => (error as { code?: string }).code));
  };
  const all = async (table: string): Promise<Row[]> => [...(pristine[table] ?? []), ...(await behind.rows(table))];
  await answer('vaults', () => store.vaults());
  await answer('roles', () => store.customRoles());
  await answer('intents', () => store.intents());
  await answer('processes', () => store.processes());
  for (const { vault_id: vaultId, id } of await all('key')) {
    await answer(`key ${String(vaultId)}/${String(id)}`, () => store.findKey(String(vaultId), String(id)));
  }
  for (const { id } of pristine['vault'] ?? []) {
    const page = { vaultId: String(id), afterOrdinal: -1, limit: 100 };
    await answer(`list ${String(id)}`, () => store.listKeys({ ...page, states: ['active', 'deactivated', 'compromised'] }));
    await answer(`tombstones ${String(id)}`, () => store.listKeys({ ...page, states: ['destroyed', 'destroyed_compromised'] }));
  }
  for (const { id } of await all('token_client')) await answer(`client ${String(id)}`, () => store.tokenClient(String(id)));
  for (const { issuer_key_hash: hash, serial } of await all('credential')) {
    await answer(`credential ${String(hash)}/${String(serial)}`, () => store.credential(String(hash), String(serial)));
  }
  for (const { method, issuer, subject } of await all('assignment')) {
    if (/^other-[1-9]/.test(String(subject))) continue; // all alike
    const principal = { method: String(method) as 'token', issuer: String(issuer), subject: String(subject) };
    await answer(`assignments ${Object.values(principal).join(' ')}`, () => store.assignments(principal));
  }
  return answers;
}

/** A question that nobody asked before is answered as one about something that is not there. */
const NOTHING: readonly unknown[] = ['undefined', '[]'];

/** Questions that are answered with something that was never written: each is a forgery that was believed. */
export function believed(answers: Answers, before: Answers): string[] {
  return [...answers].filter(([question, now]) => {
    if (now === 'integrity') return false;
    const [text, then] = [write(now), before.get(question)];
    if (before.has(question) ? text === write(then) : NOTHING.includes(text)) return false;
    // Collections leave out what is damaged.
    const known = Array.isArray(then) ? new Set(then.map(write)) : new Set<string>();
    return !(Array.isArray(now) && now.every((item) => known.has(write(item))));
  }).map(([question]) => question);
}

/** Questions that are refused. */
export function refused(answers: Answers): string[] {
  return [...answers].filter(([, now]) => now === 'integrity').map(([question]) => question);
}

function write(value: unknown): string {
  if (value === undefined) return 'undefined';
  return JSON.stringify(value, (_, of: unknown) => (of instanceof Uint8Array ? Buffer.from(of).toString('hex') : of));
}

/** Runs a full comparison. @returns what it reports, each once, as `table row: reason` */
export async function compared(store: KeyStore): Promise<void> {
  let cursor: CompareCursor | undefined;
  do cursor = await store.compare(cursor); while (cursor !== undefined);
}

export function texts(damage: readonly Damage[]): string[] {
  return damage.map(({ table, row, reason }) => `${table} ${row}: ${reason}`);
}
