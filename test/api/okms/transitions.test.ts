// The transitions of okms-rest-api §5.1: every call from every state, the state it leaves, and what that state shows (§2.1),
// in which listings it appears (§2.4), and whether it serves.

import { beforeAll, describe, expect, test } from '@jest/globals';
import type { Answer, Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal, makeKey } from './support.ts';

let admin: Client;

serve((served) => { ({ admin } = served); });

const LIVE = ['active', 'deactivated', 'compromised'] as const;
const TOMBSTONES = ['destroyed', 'destroyed_compromised'] as const;
const STATES = [...LIVE, ...TOMBSTONES];
type Live = (typeof LIVE)[number];
type State = (typeof STATES)[number];

/** A row of §5.1: the state that is left, from each living one; 400 leaves the state as it was. Tombstones answer 404. */
interface Transition extends Readonly<Record<Live, State | 400>> {
  readonly what: string;
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly suffix: string;
  readonly body?: object;
  readonly status: 200 | 204;
}

const JWK = '?format=jwk';
const NOWHERE = { active: 'active', deactivated: 'deactivated', compromised: 'compromised' } as const;
const DEACTIVATION = { method: 'POST', suffix: '/deactivate', status: 204 } as const;
const COMPROMISE = { ...DEACTIVATION, active: 'compromised', deactivated: 'compromised', compromised: 'compromised' } as const;
const END = { ...DEACTIVATION, active: 'deactivated', deactivated: 'deactivated', compromised: 'compromised' } as const;
const DELETION = { method: 'DELETE', status: 204, active: 400, deactivated: 'destroyed', compromised: 'destroyed_compromised' } as const;

const because = (reason: string, of: typeof END | typeof COMPROMISE): Transition => ({ what: `deactivate: ${reason}`, body: { reason }, ...of });

const TRANSITIONS: readonly Transition[] = [
  { what: 'activate', method: 'POST', suffix: '/activate', status: 204, active: 'active', deactivated: 'active', compromised: 'active' },
  because('unspecified', END),
  because('affiliation_changed', END),
  because('superseded', END),
  because('cessation_of_operation', END),
  because('privilege_withdrawn', END),
  because('key_compromise', COMPROMISE),
  because('ca_compromise', COMPROMISE),
  { what: 'delete', suffix: '', ...DELETION },
  { what: 'delete as the guide writes it', suffix: '/delete', ...DELETION },
  { what: 'get', method: 'GET', suffix: '', status: 200, ...NOWHERE },
  { what: 'get with its public half', method: 'GET', suffix: JWK, status: 200, ...NOWHERE },
  { what: 'patch', method: 'PATCH', suffix: '', body: { name: 'renamed' }, status: 200, ...NOWHERE },
];

/** §2.1. Whether a key compromised while active has a deactivation date is left open there, and here. */
const DATES: Readonly<Record<State, { readonly there: readonly string[]; readonly absent: readonly string[] }>> = {
  active: { there: [], absent: ['deactivation_date', 'compromise_date'] },
  deactivated: { there: ['deactivation_date'], absent: ['compromise_date'] },
  compromised: { there: ['compromise_date'], absent: [] },
  destroyed: { there: ['deactivation_date'], absent: ['compromise_date'] },
  destroyed_compromised: { there: ['compromise_date'], absent: [] },
};

/** By which filters of the listing each state is found; undefined is none. */
const FILTERS: readonly (readonly [filter: string | undefined, states: readonly State[]])[] = [
  [undefined, LIVE],
  ['all', STATES],
  ['pre_active', []],
  ...STATES.map((state) => [state, [state]] as const),
];

interface Listed {
  readonly id: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

async function list(filter: string | undefined): Promise<readonly Listed[]> {
  const query = filter === undefined ? '' : `&state=${filter}`;
  const keys: Listed[] = [];
  for (let token = ''; ;) {
    const { status, json } = await admin.get(`/servicekey?continuation-token=${token}${query}`);
    expect(status).toBe(200);
    keys.push(...(json.objects_list as Listed[]));
    if (json.is_truncated === false) return keys;
    token = json.continuation_token as string;
  }
}

function expectDone({ status, text, headers }: Answer): void {
  expect({ status, text, type: headers['content-type'] }).toEqual({ status: 204, text: '', type: undefined });
}

async function keyIn(state: State): Promise<string> {
  const id = await makeKey(admin, { type: 'oct', size: 128 });
  const reason = state.endsWith('compromised') ? 'key_compromise' : 'unspecified';
  if (state !== 'active') expectDone(await admin.post(`/servicekey/${id}/deactivate`, { reason }));
  if (isTombstone(state)) expectDone(await admin.call('DELETE', `/servicekey/${id}`));
  return id;
}

function isTombstone(state: State): boolean {
  return TOMBSTONES.some((tombstone) => tombstone === state);
}

/** The key as the listing of its state has it: the one place where tombstones can be seen too. */
async function expectState(id: string, state: State): Promise<Listed> {
  const [key] = (await list(state)).filter((listed) => listed.id === id);
  expect(key?.attributes).toMatchObject({ state });
  const { attributes } = key as Listed;
  const created = Date.parse(attributes['original_creation_date'] as string);
  for (const date of ['activation_date', ...DATES[state].there]) {
    expect([date, Date.parse(attributes[date] as string) >= created]).toEqual([date, true]);
  }
  for (const date of DATES[state].absent) expect(attributes).not.toHaveProperty(date);
  const got = await admin.get(`/servicekey/${id}`);
  if (isTombstone(state)) expectRefusal(got, 'not-found');
  else expect({ status: got.status, json: got.json }).toEqual({ status: 200, json: key });
  return key as Listed;
}

async function expectUse(id: string, state: State): Promise<void> {
  const answer = await admin.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' });
  if (state === 'active') expect({ status: answer.status, json: answer.json }).toEqual({ status: 200, json: { ciphertext: expect.any(String) } });
  else if (isTombstone(state)) expectRefusal(answer, 'not-found');
  else expectRefusal(answer, 'wrong-state', state);
}

describe.each(LIVE)('from %s', (from) => {
  test.each(TRANSITIONS.map((row) => ({ ...row, to: row[from] })))('$what: $to', async ({ method, suffix, body, status, to }) => {
    const id = await keyIn(from);
    const before = await expectState(id, from);
    const answer = await admin.call(method, `/servicekey/${id}${suffix}`, body);
    const left = to === 400 ? from : to;
    if (to === 400) expectRefusal(answer, 'wrong-state', from);
    else if (status === 204) expectDone(answer);
    else expect({ status: answer.status, json: answer.json }).toMatchObject({ status, json: { ...before, ...body } });
    if (suffix === JWK) expect(answer.json.keys).toEqual([{ kid: id, kty: 'oct', key_ops: ['encrypt', 'decrypt'] }]);
    const after = await expectState(id, left);
    if (left === from) expect(after).toEqual(method === 'PATCH' ? { ...before, ...body } : before);
    expect(after.attributes['original_creation_date']).toBe(before.attributes['original_creation_date']);
    if (left !== 'active') expect(after.attributes).toMatchObject({ ...before.attributes, state: left });
    await expectUse(id, left);
  });
});

describe.each(TOMBSTONES)('from %s', (from) => {
  test.each(TRANSITIONS)('$what: 404, and the tombstone stays as it is', async ({ method, suffix, body }) => {
    const id = await keyIn(from);
    const before = await expectState(id, from);
    expectRefusal(await admin.call(method, `/servicekey/${id}${suffix}`, body), 'not-found');
    expect(await expectState(id, from)).toEqual(before);
    await expectUse(id, from);
  });
});

describe('the listing', () => {
  const ids = new Map<State, string>();
  beforeAll(async () => {
    for (const state of STATES) ids.set(state, await keyIn(state));
  });

  test.each(FILTERS)('with the filter %s shows %j', async (filter, states) => {
    const keys = await list(filter);
    expect(STATES.filter((state) => keys.some(({ id }) => id === ids.get(state)))).toEqual(states);
    expect(keys.filter(({ attributes }) => !states.some((state) => state === attributes['state']))).toEqual([]);
  });
});
