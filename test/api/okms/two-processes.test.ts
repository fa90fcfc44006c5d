// A key that was acknowledged works on every server process, whichever of them made it, and whatever others were made
// by other processes in between (design §2: the processes are identical).

import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Client, Installation } from '../../support/installation.ts';
import { EC, makeKey, OCT } from './support.ts';

let kms: Installation;
let clients: readonly Client[];

beforeAll(async () => {
  kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
  await kms.start();
  // One connection each, handed to the processes in turn.
  clients = Array.from({ length: 6 }, () => kms.client());
  for (const client of clients) await client.get('/servicekey');
});

afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await kms.remove();
});

test('the connections of this test reach both processes', async () => {
  expect(kms.serverProcesses()).toHaveLength(2);
  const streams = new Set(kms.auditText().map((line) => JSON.parse(line) as { boot: string; event: string })
    .filter(({ event }) => event === 'key.list').map(({ boot }) => boot));
  expect(streams.size).toBe(2);
});

test('keys made through every connection, in changing order, work at once through every connection', async () => {
  const refused: string[] = [];
  for (let round = 0; round < 12; round += 1) {
    const makers = [0, 1, 2, 3].map((i) => clients[(i * 3 + round) % 4]!);
    const ids: string[] = [];
    for (const maker of makers) ids.push(await makeKey(maker, EC));
    for (const id of ids) {
      for (const client of clients) {
        const { status, text } = await client.post(`/servicekey/${id}/sign`, { message: 'AAAA', alg: 'ES256' });
        if (status !== 200) refused.push(`round ${round}: ${status} ${text}`);
      }
    }
  }
  expect(refused).toEqual([]);
});

test('key pairs made at the same time through every connection sign and verify through every connection', async () => {
  const ids = await Promise.all(clients.map((client) => makeKey(client, EC)));
  for (const id of ids) {
    for (const client of clients) {
      const input = { message: 'AAAA', alg: 'ES256' };
      const { status, json } = await client.post(`/servicekey/${id}/sign`, input);
      expect({ status, json }).toEqual({ status: 200, json: { signature: expect.any(String) } });
      const checked = await client.post(`/servicekey/${id}/verify`, { ...input, signature: json.signature });
      expect({ status: checked.status, json: checked.json }).toEqual({ status: 200, json: { result: true } });
    }
  }
});

test('keys of one process work while another process destroys keys of its own', async () => {
  const stays = [];
  for (const client of clients) {
    const gone = await makeKey(client, OCT);
    stays.push(await makeKey(clients[stays.length + 1] ?? clients[0]!, OCT));
    expect((await client.post(`/servicekey/${gone}/deactivate`)).status).toBe(204);
    expect((await client.call('DELETE', `/servicekey/${gone}`)).status).toBe(204);
  }
  for (const id of stays) {
    for (const client of clients) expect((await client.post(`/servicekey/${id}/encrypt`, { plaintext: 'AAAA' })).status).toBe(200);
  }
});
