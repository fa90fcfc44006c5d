/** `kms init --join`: a further host of an installation, and what it refuses. Then both hosts are one service. */

import { execFileSync } from 'node:child_process';
import { createPublicKey, verify, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { parse } from 'yaml';
import { type Ended, runKms } from '../support/files.ts';
import { type Client, Installation, joinArguments } from '../support/installation.ts';
import { TokenViewer } from '../support/token-viewer.ts';
import { hostId, Pair } from './pair.ts';

const PASSWORD = 'never-to-be-seen';
const TEXT = Buffer.from('made on the one, used on the other').toString('base64');

let pair: Pair;
let before: readonly string[];

beforeAll(async () => {
  pair = await Pair.make({}, (a) => { before = everythingOn(a); });
}, 300_000);

afterAll(() => pair.remove(), 120_000);

/** Keys, and the data objects that are anchors. */
function everythingOn(kms: Installation): readonly string[] {
  return TokenViewer.look(kms.home, (viewer) => {
    const keys = viewer.login(kms.home).objects().map(({ class: kind, id, label }) => `${kind} ${id} ${label}`);
    const { module, session } = viewer;
    module.C_FindObjectsInit(session, [{ type: ck.CKA_CLASS, value: ck.CKO_DATA }]);
    const data: string[] = [];
    for (let found = module.C_FindObjects(session, 16); found.length > 0; found = module.C_FindObjects(session, 16)) {
      data.push(...found.map((handle) => viewer.raw(handle, ck.CKA_VALUE).toString('hex')));
    }
    module.C_FindObjectsFinal(session);
    return [...keys, ...data].sort();
  });
}

describe('the home of a joined host', () => {
  test('has settings and an id of its own, and names store and PIN where they are', () => {
    const settings = parse(readFileSync(join(pair.b.home, 'kms.yaml'), 'utf8'));
    expect(settings).toMatchObject({ store: { url: pair.url }, hsm: { pinFile: join(pair.a.home, 'softhsm', 'user.pin') } });
    expect(hostId(pair.b)).toMatch(/^[0-9a-f]{16}$/);
    expect(hostId(pair.b)).not.toBe(hostId(pair.a));
  });

  test('has a server certificate of its own, from the CA that A’s clients know', () => {
    const ca = join(pair.a.home, 'tls', 'ca.pem');
    const [mine, others] = [pair.b, pair.a].map(({ home }) => new X509Certificate(readFileSync(join(home, 'tls', 'server.pem'))));
    expect(execFileSync('openssl', ['verify', '-CAfile', ca, join(pair.b.home, 'tls', 'server.pem')], { encoding: 'utf8' })).toContain('OK');
    expect(mine!.checkHost('localhost')).toBe('localhost');
    expect(mine!.serialNumber).not.toBe(others!.serialNumber);
    expect(mine!.publicKey.equals(others!.publicKey)).toBe(false);
  });

  test('has no administrator, no PIN and no token of its own', () => {
    const { home } = pair.b;
    const files = readdirSync(home, { recursive: true, encoding: 'utf8' });
    expect(files.filter((file) => /\.pin$|^clients\/.|^kms\.db/.test(file))).toEqual([]);
    const pin = readFileSync(join(pair.a.home, 'softhsm', 'user.pin'), 'utf8').trim();
    const readable = readdirSync(home, { recursive: true, withFileTypes: true }).filter((item) => item.isFile());
    expect(readable.filter((item) => readFileSync(join(item.parentPath, item.name)).includes(pin))).toEqual([]);
  });

  test('joining left the token as it was', () => {
    expect(before.length).toBeGreaterThan(5);
    expect(everythingOn(pair.a)).toEqual(before);
  });
});

describe('joining is refused', () => {
  /** In a fresh home, or in `home`. */
  async function refused(args: readonly string[], home?: Installation): Promise<Ended> {
    const kms = home ?? (await Installation.blank(pair.a, { KMS_STORE_URL: undefined }));
    const ended = await runKms(kms.environment, 'init', '--join', ...args);
    if (home === undefined) {
      expect(existsSync(join(kms.home, 'kms.yaml'))).toBe(false);
      await kms.remove();
    }
    expect(ended.code).not.toBe(0);
    return ended;
  }

  const withOption = (name: string, value: string): readonly string[] => {
    const args = [...joinArguments(pair.a, pair.url)];
    args[args.indexOf(name) + 1] = value;
    return args;
  };

  test('in a home that is in use', async () => {
    const settings = readFileSync(join(pair.b.home, 'kms.yaml'), 'utf8');
    for (const host of pair.hosts) {
      expect((await refused(joinArguments(pair.a, pair.url), host)).stderr).toContain('holds an installation or host already');
    }
    expect(readFileSync(join(pair.b.home, 'kms.yaml'), 'utf8')).toBe(settings);
  });

  test('with a password in the URL, which is not printed', async () => {
    const url = new URL(pair.url);
    url.password = PASSWORD;
    const { code, stdout, stderr } = await refused(withOption('--store', url.href));
    expect(code).toBe(2);
    expect(stderr).toContain('must not hold a password');
    expect(stdout + stderr).not.toContain(PASSWORD);
  });

  test('without a PIN file', async () => {
    const { stderr } = await refused(withOption('--pin-file', join(pair.b.home, 'no.pin')));
    expect(stderr).toContain('cannot be read');
  });

  test('without a token directory', async () => {
    expect((await refused(withOption('--token-directory', join(pair.b.home, 'nothing')))).stderr).toContain('is no directory');
  });

  test('with an empty database', async () => {
    const { stderr } = await refused(withOption('--store', await pair.postgres.createDatabase()));
    expect(stderr).not.toContain('    at ');
  });

  test('with store and token of two installations, either way round', async () => {
    const url = await pair.postgres.createDatabase();
    const other = await Installation.fresh({ KMS_STORE_URL: url });
    const tokens = everythingOn(other);
    try {
      await refused(joinArguments(pair.a, url));
      await refused(joinArguments(other, pair.url));
      expect(everythingOn(other)).toEqual(tokens);
      expect(everythingOn(pair.a)).toEqual(before);
    } finally {
      await other.remove();
    }
  }, 180_000);

  test('with a wrong PIN', async () => {
    const file = join(pair.b.home, 'wrong.pin');
    writeFileSync(file, '000000000000', { mode: 0o600 });
    expect((await refused(withOption('--pin-file', file))).stderr).not.toContain('000000000000');
    // A right login takes the token's warning back, which would keep every server from logging in by itself.
    expect(everythingOn(pair.a)).toEqual(before);
  });
});

test('a host whose database has another schema does not wait for it', async () => {
  const { code, stderr } = await runKms({ ...pair.b.environment, KMS_STORE_URL: await pair.postgres.createDatabase() }, 'serve');
  expect(code).not.toBe(0);
  expect(stderr).toContain('run `kms migrate`');
});

describe('two hosts that serve', () => {
  let clients: readonly Client[] = [];

  beforeAll(async () => {
    await pair.start();
    clients = pair.hosts.map((host) => host.client());
  }, 240_000);

  afterAll(() => Promise.all(clients.map((client) => client.close())));

  test.each([[0, 1], [1, 0]])('what host %i makes is used on host %i at once', async (here, there) => {
    const [maker, user] = [clients[here]!, clients[there]!];
    const aes = `/servicekey/${(await maker.post('/servicekey', { name: 'aes', type: 'oct', size: 256 })).json.id}`;
    const sealed = await user.post(`${aes}/encrypt`, { plaintext: TEXT });
    expect([sealed.status, sealed.text]).toEqual([200, sealed.text]);
    const { ciphertext } = sealed.json;
    expect(await maker.post(`${aes}/decrypt`, { ciphertext })).toMatchObject({ status: 200, json: { plaintext: TEXT } });
    const back = (await maker.post(`${aes}/encrypt`, { plaintext: TEXT })).json.ciphertext;
    expect(await user.post(`${aes}/decrypt`, { ciphertext: back })).toMatchObject({ status: 200, json: { plaintext: TEXT } });

    const created = await maker.post('/servicekey?format=jwk', { name: 'ec', type: 'EC', curve: 'P-256' });
    const { id, keys: [jwk] } = created.json;
    const signed = await user.post(`/servicekey/${id}/sign`, { message: TEXT, alg: 'ES256' });
    expect(signed.status).toBe(200);
    const signature = Buffer.from(signed.json.signature, 'base64');
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    expect(verify('sha256', Buffer.from(TEXT, 'base64'), { key, dsaEncoding: 'ieee-p1363' }, signature)).toBe(true);
    const asked = { message: TEXT, alg: 'ES256', signature: signed.json.signature };
    expect(await maker.post(`/servicekey/${id}/verify`, asked)).toMatchObject({ status: 200, json: { result: true } });
  });

  test('listings agree', async () => {
    const [ofA, ofB] = await Promise.all(clients.map((client) => client.get('/servicekey')));
    expect(ofA).toMatchObject({ status: 200 });
    expect(ofA!.json.objects_list.length).toBe(4);
    expect(ofB!.json).toEqual(ofA!.json);
  });
});
