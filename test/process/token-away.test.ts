/**
 * The token goes away and comes back; the PIN is wrong and is put right. Nobody is told that a key does not exist, and
 * no operator is needed (design §2; security H-5 to H-8, H-12).
 */

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { FULL, times } from '../support/form.ts';
import { type Answer, type Client, Installation } from '../support/installation.ts';
import { findSpy, SpiedInstallation } from '../support/spy.ts';
import { eventually } from '../support/wait.ts';

/** A start whose end nobody may wait for, when the test fails before. */
function startedLater(kms: Installation): Promise<void> {
  const started = kms.start();
  started.catch(() => undefined);
  return started;
}

/** On a connection of its own: one that is kept may be closed by a process that is replaced, just when it is asked again. */
async function health(kms: Installation, path: '/readyz' | '/healthz'): Promise<Answer> {
  const client = kms.client(null);
  try {
    return await client.get(`https://localhost:${kms.publicPort}${path}`);
  } finally {
    await client.close();
  }
}
const readyz = (kms: Installation): Promise<Answer> => health(kms, '/readyz');
const healthz = (kms: Installation): Promise<Answer> => health(kms, '/healthz');

describe('the token directory', () => {
  let kms: Installation;
  let aes: string;
  let ec: string;
  let ciphertext: string;

  beforeAll(async () => {
    kms = await Installation.make({ KMS_SERVER_PROCESSES: '2' });
    await kms.start();
    const admin = kms.client();
    const create = async (body: object): Promise<string> => `/servicekey/${(await admin.post('/servicekey', body)).json.id}`;
    aes = await create({ name: 'aes', type: 'oct', size: 256 });
    ec = await create({ name: 'ec', type: 'EC', curve: 'P-256' });
    ciphertext = (await admin.post(`${aes}/encrypt`, { plaintext: 'aGVsbG8=' })).json.ciphertext;
    await admin.close();
  });

  afterAll(async () => {
    await kms.remove();
  });

  /** One of each, on a connection of its own: any process may be asked at any time. */
  async function asked<T>(ask: (client: Client) => Promise<T>): Promise<T> {
    const client = kms.client();
    try {
      return await ask(client);
    } finally {
      await client.close();
    }
  }

  const operations = {
    encrypt: () => asked((client) => client.post(`${aes}/encrypt`, { plaintext: 'aGVsbG8=' })),
    decrypt: () => asked((client) => client.post(`${aes}/decrypt`, { ciphertext })),
    sign: () => asked((client) => client.post(`${ec}/sign`, { message: 'aGVsbG8=', alg: 'ES256' })),
  } as const;
  const management = {
    get: () => asked((client) => client.get(aes)),
    list: () => asked((client) => client.get('/servicekey')),
  } as const;

  const tokens = (): string => join(kms.home, 'softhsm', 'tokens');

  async function everythingWorks(): Promise<void> {
    expect(await operations.encrypt()).toMatchObject({ status: 200 });
    expect(await operations.decrypt()).toMatchObject({ status: 200, json: { plaintext: 'aGVsbG8=' } });
    expect(await operations.sign()).toMatchObject({ status: 200 });
  }

  async function comesBack(): Promise<void> {
    renameSync(`${tokens()}.away`, tokens());
    await eventually('ready again', async () => (await readyz(kms)).status === 200);
    await eventually('both processes are ready', async () => {
      const answers = await Promise.all(Array.from({ length: 8 }, operations.encrypt));
      return answers.every(({ status }) => status === 200);
    });
  }

  test('away: 503, never 404 or 500; back: ready again by itself, with the same keys', async () => {
    await everythingWorks();
    renameSync(tokens(), `${tokens()}.away`);
    await eventually('not ready', async () => (await readyz(kms)).status === 503);
    await eventually('both processes know', async () => {
      const answers = await Promise.all(Array.from({ length: 8 }, operations.encrypt));
      return answers.every(({ status }) => status === 503);
    });
    // For as long as several retries of a process take.
    for (const end = performance.now() + times(2000, 5000); performance.now() < end;) {
      for (const [name, ask] of Object.entries(operations)) {
        const { status, headers, text } = await ask();
        expect([name, status, text]).toEqual([name, 503, text]);
        expect(Number(headers['retry-after'])).toBeGreaterThan(0);
      }
      for (const [name, ask] of Object.entries(management)) {
        const { status, text } = await ask();
        expect([[name, 200, text], [name, 503, text]]).toContainEqual([name, status, text]);
      }
      expect((await readyz(kms)).status).toBe(503);
      expect(await healthz(kms)).toMatchObject({ status: 200, json: { status: 'ok' } });
      if (!FULL) await pause(100);
    }
    expect((await asked((client) => client.post('/servicekey', { name: 'new', type: 'oct', size: 256 }))).status).toBe(503);

    await comesBack();
    await everythingWorks();
    expect(await management.get()).toMatchObject({ status: 200, json: { attributes: { state: 'active' } } });
    expect(kms.serverProcesses().length).toBe(2);
    expect((await asked((client) => client.post('/servicekey', { name: 'new', type: 'oct', size: 256 }))).status).toBe(201);
    expect((await kms.command('audit', 'verify')).stdout).toContain('the audit is intact');
  });

  test('in the moment it goes away, a sound ciphertext is never called unsound, nor a key unknown', async () => {
    const seen: string[] = [];
    const latest = new Map<Client, string>();
    let watching = true;
    const watch = async (name: keyof typeof operations, client: Client): Promise<void> => {
      const body = name === 'decrypt' ? { ciphertext } : name === 'encrypt' ? { plaintext: 'aGVsbG8=' } : { message: 'aGVsbG8=', alg: 'ES256' };
      while (watching) {
        try {
          const { status, text } = await client.post(`${name === 'sign' ? ec : aes}/${name}`, body);
          const kind = `${name} ${status}${status === 200 ? '' : ` ${String(/"error_id":"[^"]*"/.exec(text)?.[0])}`}`;
          seen.push(kind);
          latest.set(client, kind);
        } catch {
          // A connection that is closed while its process is replaced is no wrong answer.
          await pause(10);
        }
      }
    };
    const clients = Array.from({ length: 6 }, () => kms.client());
    const watches = clients.map((client, index) => watch((['encrypt', 'decrypt', 'sign'] as const)[index % 3]!, client));
    const every = (what: RegExp): boolean => clients.every((client) => what.test(latest.get(client) ?? ''));
    await eventually('each has an answer, and they come', () => every(/ 200$/) && seen.length > 100);
    renameSync(tokens(), `${tokens()}.away`);
    await eventually('not ready', async () => (await readyz(kms)).status === 503);
    await eventually('each is refused', () => every(/ 503 /));
    const refused = seen.length;
    await eventually('and goes on being refused', () => seen.length > refused + 100);
    watching = false;
    await Promise.all(watches);
    await Promise.all(clients.map((client) => client.close()));
    const kinds = new Set(seen);
    for (const name of Object.keys(operations)) expect(kinds).toContain(`${name} 200`);
    const wrong = [...kinds].filter((kind) => !/ 200$| 503 /.test(kind));
    expect(wrong).toEqual([]);
    await comesBack();
  });

  test('away while it starts: serves health and 503, and becomes ready when it comes', async () => {
    expect(await kms.stop()).toBe(0);
    renameSync(tokens(), `${tokens()}.away`);
    const started = startedLater(kms);
    await eventually('it listens', async () => {
      try {
        return (await healthz(kms)).status === 200;
      } catch {
        return false;
      }
    });
    expect(await readyz(kms)).toMatchObject({ status: 503, json: { status: 'not-ready' } });
    expect((await operations.encrypt()).status).toBe(503);
    renameSync(`${tokens()}.away`, tokens());
    await started;
    await everythingWorks();
  });
});

const spy = findSpy();
if (spy === undefined) console.warn('SKIPPED: a wrong PIN: pkcs11-spy is not installed (Debian package opensc-pkcs11)');

(spy === undefined ? describe.skip : describe)('a wrong PIN', () => {
  let spied: SpiedInstallation;

  beforeEach(async () => {
    spied = await SpiedInstallation.make(spy!, { KMS_SERVER_PROCESSES: '2' });
  });

  afterEach(async () => {
    await spied.remove();
  });

  test('is tried once by the whole installation, and once more when the file has changed', async () => {
    const { kms } = spied;
    const pinFile = join(kms.home, 'softhsm', 'user.pin');
    const right = readFileSync(pinFile, 'utf8');
    spied.clear();
    writeFileSync(pinFile, 'x'.repeat(right.length));
    const started = startedLater(kms);
    await eventually('it listens', async () => {
      try {
        return (await healthz(kms)).status === 200;
      } catch {
        return false;
      }
    });
    await eventually('the PIN is the reason', async () =>
      String((await readyz(kms)).json.checks.token).includes('pin'));
    await eventually('both processes are there', () => kms.serverProcesses().length === 2);
    for (const end = performance.now() + times(4000, 10_000); performance.now() < end;) {
      await pause(250);
      const { status, json } = await readyz(kms);
      expect(status).toBe(503);
      expect(json.checks.token).toMatch(/pin|starting/);
    }
    expect((await readyz(kms)).json.checks.token).toContain('pin');
    const logins = spied.calls().filter(({ name }) => name === 'C_Login');
    expect(logins.length).toBe(1);
    expect(logins[0]!.text).toContain('CKR_PIN_INCORRECT');
    const client = kms.client();
    expect((await client.get('/servicekey')).status).not.toBe(404);
    await client.close();

    writeFileSync(pinFile, right);
    await started;
    expect((await readyz(kms)).status).toBe(200);
    expect(spied.count('C_Login')).toBe(3);
    // The spy writes PINs to its log; nothing else may.
    expect(kms.output).not.toContain(right);
    expect(kms.output).not.toContain('x'.repeat(right.length));
  });
});
