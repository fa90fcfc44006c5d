// Foreign keys against keys that are not there: interleaved calls, in random order. Two classes are told apart when a rank test
// (Mann-Whitney) finds a difference beyond chance; the same test on two halves of one class shows what chance does here.

import { randomUUID } from 'node:crypto';
import { Client } from 'undici';
import { quantile } from './timing-installation.mjs';

const CALLS = 2000;
/** Of the rank test, in standard deviations: both kinds of chance stay below. */
const Z_MAX = 4;
/** Of the medians. */
const RATIO_MAX = 1.05;

export async function names({ kms, port, okmsId, tls, stop }) {
  const premium = JSON.parse(kms('vault', 'show', 'dev-premium', '--output', 'json'));
  const token = kms('token', 'issue', '--subject', 'timing', '--role', 'owner').trim();
  const foreigner = kms('token', 'issue', '--subject', 'foreign', '--role', 'owner', '--vault', 'dev-premium').trim();
  const client = new Client(`https://localhost:${port}`, { connect: tls });
  const bare = new Client(`https://localhost:${port}`, { connect: { ca: tls.ca } });
  const { body } = await bare.request({
    method: 'POST', path: `/api/${premium.id}/v1/servicekey`, body: JSON.stringify({ name: 'k', type: 'oct', size: 256 }),
    headers: { authorization: `Bearer ${foreigner}`, 'content-type': 'application/json' },
  });
  const { id: foreign } = await body.json();
  const results = [];
  const doors = [
    ['OKMS', client, (id) => `/api/${okmsId}/v1/servicekey/${id}`, {}],
    ['Key Vault', bare, (id) => `/keys/${id}?api-version=7.6`, { authorization: `Bearer ${token}`, host: `dev.localhost:${port}` }],
  ];
  for (const [door, by, pathOf, headers] of doors) {
    const unknown = randomUUID();
    const times = { foreign: [], unknown: [] };
    for (let call = 0; call < 2 * CALLS + 400; call += 1) {
      const kind = Math.random() < 0.5 ? 'foreign' : 'unknown';
      const began = process.hrtime.bigint();
      const answer = await by.request({ method: 'GET', path: pathOf(kind === 'foreign' ? foreign : unknown), headers });
      await answer.body.text();
      if (answer.statusCode !== 404) throw new Error(`${door}: ${answer.statusCode}`);
      // The first ones warm up.
      if (call >= 400) times[kind].push(Number(process.hrtime.bigint() - began) / 1e3);
    }
    const ratio = quantile(times.foreign, 0.5) / quantile(times.unknown, 0.5);
    const z = rankTest(times.foreign, times.unknown);
    const odd = times.foreign.filter((_, n) => n % 2 === 1);
    const chance = rankTest(odd, times.foreign.filter((_, n) => n % 2 === 0));
    const ok = Math.abs(ratio - 1) <= RATIO_MAX - 1 && Math.abs(z) <= Z_MAX;
    console.log(`S-11 ${door}: foreign ${quantile(times.foreign, 0.5).toFixed(0)} µs, unknown ${quantile(times.unknown, 0.5).toFixed(0)} µs, ratio of medians ${ratio.toFixed(3)} (aim ${RATIO_MAX}), rank test z ${z.toFixed(2)} (aim ${Z_MAX}), of one class with itself ${chance.toFixed(2)}; ${times.foreign.length} and ${times.unknown.length} calls: ${ok ? 'ok' : 'NOT MET'}`);
    results.push({ ok });
  }
  await Promise.all([client.destroy(), bare.destroy()]);
  await stop();
  return results;
}

/** Standard deviations by which the ranks of two classes differ. */
function rankTest(left, right) {
  const all = [...left.map((value) => [value, true]), ...right.map((value) => [value, false])].sort(([a], [b]) => a - b);
  const sum = all.reduce((ranks, [, isLeft], index) => (isLeft ? ranks + index + 1 : ranks), 0);
  const [n, m] = [left.length, right.length];
  return (sum - (n * (n + m + 1)) / 2) / Math.sqrt((n * m * (n + m + 1)) / 12);
}
