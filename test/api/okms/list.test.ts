// Listing keys (okms-rest-api §2.4): pages, their order, continuation tokens (integrity §8) and state filters.

import { beforeAll, describe, expect, test } from '@jest/globals';
import type { Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { expectRefusal, inTurns, makeKey } from './support.ts';

let admin: Client;

serve((served) => { ({ admin } = served); });

const OCT = { type: 'oct', size: 128, operations: ['encrypt'] };

interface Page {
  readonly ids: readonly string[];
  readonly truncated: boolean;
  readonly token: string;
}

async function page(query: string): Promise<Page> {
  const { status, json } = await admin.get(`/servicekey?${query}`);
  expect(status).toBe(200);
  expect(Object.keys(json as object).toSorted()).toEqual(['continuation_token', 'is_truncated', 'objects_list']);
  const ids = (json.objects_list as { id: string }[]).map(({ id }) => id);
  return { ids, truncated: json.is_truncated as boolean, token: json.continuation_token as string };
}

function next(query: string, token: string): string {
  return `${query}&continuation-token=${encodeURIComponent(token)}`;
}

/** As clients do: on while `is_truncated`. */
async function everyId(query: string, token = ''): Promise<readonly string[]> {
  let current = await page(next(query, token));
  const ids = [...current.ids];
  while (current.truncated) {
    current = await page(next(query, current.token));
    ids.push(...current.ids);
  }
  return ids;
}

test('an installation without keys lists none: an empty list, an empty token', async () => {
  const { status, json } = await admin.get('/servicekey');
  expect({ status, json }).toEqual({
    status: 200,
    json: { objects_list: [], is_truncated: false, continuation_token: '' },
  });
});

describe('with 25 keys', () => {
  const made: string[] = [];
  beforeAll(async () => {
    while (made.length < 25) made.push(await makeKey(admin, { ...OCT, name: `key ${made.length}` }));
  });

  test('pages of ten follow each other in order of creation', async () => {
    const first = await page('max=10');
    expect(first).toEqual({ ids: made.slice(0, 10), truncated: true, token: expect.stringMatching(/^[\w-]{28}$/) });
    const second = await page(next('max=10', first.token));
    expect(second).toEqual({ ids: made.slice(10, 20), truncated: true, token: expect.stringMatching(/^[\w-]{28}$/) });
    expect(await page(next('max=10', second.token))).toEqual({ ids: made.slice(20), truncated: false, token: '' });
  });

  test('a page that ends with the last key is the last page', async () => {
    expect(await page('max=25')).toEqual({ ids: made, truncated: false, token: '' });
    expect((await page('max=24')).truncated).toBe(true);
  });

  test('a token can be used again, and with another max', async () => {
    const { token } = await page('max=10');
    for (const max of [10, 1, 500, 10]) {
      expect((await page(next(`max=${max}`, token))).ids).toEqual(made.slice(10, 10 + max));
    }
    expect((await page(next('', token))).ids).toEqual(made.slice(10));
  });

  test('an empty token is the first page', async () => {
    expect((await page('max=10&continuation-token=')).ids).toEqual(made.slice(0, 10));
  });

  test('a listed key is the key object without keys, also with format=jwk', async () => {
    const { json } = await admin.get('/servicekey?max=1&format=jwk');
    expect(json.objects_list[0]).toEqual((await admin.get(`/servicekey/${made[0] ?? ''}`)).json);
  });

  test.each(['0', '501', '-1', '1.5', '1e1', 'ten', '', ' 10', '99999999999'])('max=%j is refused', async (max) => {
    expectRefusal(await admin.get(`/servicekey?max=${encodeURIComponent(max)}`), 'invalid-field', 'max');
  });

  test('a token with any one character changed, dropped or added is refused', async () => {
    const { token } = await page('max=10');
    const altered = Array.from(token, (character, i) =>
      `${token.slice(0, i)}${character === 'A' ? 'B' : 'A'}${token.slice(i + 1)}`);
    const others = [token.slice(1), token.slice(0, -1), `${token}A`, `${token}=`, `${token} `, `${token}${token}`];
    const junk = ['A', 'A'.repeat(28), '!'.repeat(28), '0'.repeat(501), '1', '-1', 'null'];
    await inTurns([...altered, ...others, ...junk], async (wrong) => {
      expectRefusal(await admin.get(`/servicekey?${next('max=10', wrong)}`), 'invalid-field', 'continuation-token');
    });
  });

  test('a token of another listing is refused: it belongs to its filter', async () => {
    const { token } = await page('max=10');
    const ofAll = await page('max=10&state=all');
    const crossed = [next('max=10&state=all', token), next('max=10&state=active', token), next('max=10', ofAll.token)];
    for (const query of crossed) {
      expectRefusal(await admin.get(`/servicekey?${query}`), 'invalid-field', 'continuation-token');
    }
  });

  test('keys made while somebody pages come at the end; none is shown twice or left out', async () => {
    const first = await page('max=10');
    const added = await Promise.all(Array.from({ length: 8 }, () => makeKey(admin, OCT)));
    const seen = [...first.ids, ...(await everyId('max=10', first.token))];
    expect(seen.slice(0, 25)).toEqual(made);
    expect(seen.slice(25).toSorted()).toEqual(added.toSorted());
    expect(await everyId('max=7')).toEqual(seen);
  });

  test('no page is larger than a hundred keys', async () => {
    const have = (await everyId('')).length;
    await inTurns(Array.from({ length: 101 - have }), () => makeKey(admin, OCT), 8);
    const all = await everyId('max=37');
    expect(new Set(all).size).toBe(101);
    for (const query of ['', 'max=100', 'max=500']) {
      expect(await page(query)).toEqual({ ids: all.slice(0, 100), truncated: true, token: expect.any(String) });
    }
  });
});

describe('state filters', () => {
  const keys: Record<string, string> = {};
  const STATES = ['active', 'deactivated', 'compromised', 'destroyed', 'destroyed_compromised'];

  beforeAll(async () => {
    for (const state of STATES) keys[state] = await makeKey(admin, { ...OCT, name: state });
    for (const [state, id] of Object.entries(keys)) {
      if (state === 'active') continue;
      const reason = state.includes('compromised') ? 'key_compromise' : 'superseded';
      expect((await admin.post(`/servicekey/${id}/deactivate`, { reason })).status).toBe(204);
      if (state.startsWith('destroyed')) expect((await admin.call('DELETE', `/servicekey/${id}`)).status).toBe(204);
    }
  });

  test.each(STATES)('%s lists the keys in that state and no other', async (state) => {
    const { json } = await admin.get(`/servicekey?state=${state}`);
    const shown = json.objects_list as { id: string; name: string; attributes: { state: string } }[];
    expect(new Set(shown.map(({ attributes }) => attributes.state))).toEqual(new Set([state]));
    const others = STATES.filter((other) => other !== state).map((other) => keys[other]);
    expect((await everyId(`state=${state}`)).filter((id) => others.includes(id))).toEqual([]);
    expect(await everyId(`state=${state}`)).toContain(keys[state]);
  });

  test('pre_active lists nothing, as nothing makes such keys', async () => {
    expect(await page('state=pre_active')).toEqual({ ids: [], truncated: false, token: '' });
  });

  test('all adds the destroyed ones; without a filter they are left out', async () => {
    const [live, all] = [await everyId(''), await everyId('state=all')];
    const destroyed = [keys['destroyed'], keys['destroyed_compromised']];
    expect(all.filter((id) => !live.includes(id))).toEqual(destroyed);
    expect(all.filter((id) => live.includes(id))).toEqual(live);
    expect(live).toEqual(expect.arrayContaining([keys['active'], keys['deactivated'], keys['compromised']]));
  });

  test('a tombstone keeps name, kind and dates', async () => {
    const { json } = await admin.get('/servicekey?state=destroyed_compromised');
    expect(json.objects_list).toEqual([
      {
        id: keys['destroyed_compromised'],
        name: 'destroyed_compromised',
        type: 'oct',
        class: 'SECRET_KEY',
        protectionLevel: 'HSM',
        size: 128,
        operations: ['encrypt'],
        attributes: expect.objectContaining({ state: 'destroyed_compromised', compromise_date: expect.any(String) }),
      },
    ]);
  });

  test.each(['ACTIVE', 'deleted', '', 'all,active'])('state=%j is refused', async (state) => {
    expectRefusal(await admin.get(`/servicekey?state=${state}`), 'invalid-field', 'state');
  });
});
