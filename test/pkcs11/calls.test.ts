/** Which PKCS#11 calls the source holds, and which ones a running server makes. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { cryptokiViolations } from '../support/cryptoki-rules.ts';
import { times } from '../support/form.ts';
import type { Client } from '../support/installation.ts';
import { ANCHOR, findSpy, type SpiedCall, SpiedInstallation } from '../support/spy.ts';

function violations(root: string, ending: string): readonly string[] {
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith(ending));
  // Else an empty folder would be clean.
  expect(files).toContain(join('pkcs11', `cryptoki${ending}`));
  return files.flatMap((file) =>
    cryptokiViolations(file.slice(0, -ending.length), readFileSync(join(root, file), 'utf8')).map((what) => `${file}:${what}`));
}

describe('source', () => {
  test('src holds no forbidden form', () => {
    expect(violations('src', '.ts')).toEqual([]);
  });

  test('neither does what was built from it', () => {
    expect(violations('build/modules', '.js')).toEqual([]);
  });

  test('graphene-pk11 is used at all', () => {
    expect(readFileSync('src/pkcs11/inventory.ts', 'utf8')).toContain(`from 'graphene-pk11'`);
  });

  test.each([
    ['pkcs11/session', `m.C_SignAsync(s, d, o);`, 'C_SignAsync is asynchronous'],
    ['pkcs11/session', `m.C_SignCallback(s, d, o, done);`, 'C_SignCallback is asynchronous'],
    ['pkcs11/session', `m['C_EncryptAsync'](s, d, o);`, 'C_EncryptAsync is asynchronous'],
    ['pkcs11/session', `const { C_DecryptAsync } = m;`, 'C_DecryptAsync is asynchronous'],
    ['pkcs11/session', `m.C_Sign(s, d, o, (error, signature) => keep(signature));`, 'C_Sign with a callback'],
    ['pkcs11/session', `m.C_Sign(s, d, o, done);`, 'C_Sign with a callback'],
    ['pkcs11/session', `m['C_Encrypt'](s, d, o, done);`, 'C_Encrypt with a callback'],
    ['pkcs11/session', `m.C_GenerateKey(s, mechanism, template, done);`, 'C_GenerateKey with a callback'],
    ['pkcs11/session', `m.C_WrapKey(s, mechanism, a, b, o, done);`, 'C_WrapKey with a callback'],
    ['pkcs11/session', `m.C_Verify(...all);`, 'C_Verify with a callback'],
    ['pkcs11/session', `m['C_' + name](s);`, 'a call with a computed name'],
    ['pkcs11/session', 'm[`C_${name}`](s);', 'a call with a computed name'],
    ['pkcs11/objects', `m.C_CreateObject(s, template);`, 'C_CreateObject is forbidden'],
    ['pkcs11/cryptoki', `class A { create() { return m.C_CreateObject(s, t); } }`, 'C_CreateObject is forbidden'],
    ['pkcs11/objects', `class A { createPublicObject() { return m.C_CreateObject(s, t); } }`, 'C_CreateObject is forbidden'],
    ['pkcs11/data-objects', `class A { createDataObject() { return m.C_CreateObject(s, t); } }`, 'C_CreateObject is forbidden'],
    ['pkcs11/cryptoki', `class A { createPublicObject() { return m.C_CopyObject(s, t); } }`, 'C_CopyObject is forbidden'],
    ['pkcs11/objects', `m.C_SetAttributeValue(s, o, template);`, 'C_SetAttributeValue is forbidden'],
    ['pkcs11/objects', `const copy = m.C_CopyObject;`, 'C_CopyObject is forbidden'],
    ['pkcs11/objects', `m['C_CopyObject'](s, o, template);`, 'C_CopyObject is forbidden'],
    ['pkcs11/token', `import graphene from 'graphene-pk11';`, 'only pkcs11/inventory uses graphene-pk11'],
    ['cli/doctor', `const graphene = await import('graphene-pk11');`, 'only pkcs11/inventory uses graphene-pk11'],
    ['pkcs11/inventory', `import graphene from 'graphene-pk11'; slot.open();`, `graphene's open()`],
    ['pkcs11/inventory', `import graphene from 'graphene-pk11'; session.createCipher(a, k).once(d, cb);`, `graphene's once()`],
    ['pkcs11/inventory', `import graphene from 'graphene-pk11'; session.generateKeyPair(a, b, c);`, `graphene's generateKeyPair()`],
  ])('%s: %s is caught', (file, text, what) => {
    expect(cryptokiViolations(file, `\n${text}`)).toContain(`2: ${what}`);
  });

  test.each([
    ['pkcs11/cryptoki', `// C_CopyObject\nm.C_Sign(s, d, o); m.C_Initialize(options); m.C_GenerateKeyPair(s, m, a, b);`],
    ['pkcs11/cryptoki', `class A { createPublicObject() { return m.C_CreateObject(s, t); } }`],
    ['pkcs11/cryptoki', `class A { createDataObject() { return m.C_CreateObject(s, t); } }`],
    ['pkcs11/objects', `throw new CryptokiError('C_CreateObject', 1);`],
    ['pkcs11/inventory', `import graphene from 'graphene-pk11'; module.getSlots(true).items(0).getToken();`],
    ['cli/serve', `process.once('SIGTERM', stop);`],
  ])('%s: %s is fine', (file, text) => {
    expect(cryptokiViolations(file, text)).toEqual([]);
  });
});

/** A dump that calls of other threads stand in goes on after them: on a busy machine after several. */
function whole(calls: readonly SpiedCall[], index: number): string {
  return calls.slice(index, index + 8).map(({ text }) => text).join('');
}

const spy = findSpy();
if (spy === undefined) console.warn('SKIPPED: calls seen by pkcs11-spy: it is not installed (Debian package opensc-pkcs11)');

(spy === undefined ? describe.skip : describe)('a running server, seen by pkcs11-spy', () => {
  const PROCESSES = 2;
  let spied: SpiedInstallation;
  let callers: readonly Client[] = [];
  let paths: { readonly oct: string; readonly rsa: string; readonly ec: string };
  let key: string;

  beforeAll(async () => {
    // Anchors are written, and looked for, at regular times: not within this test.
    spied = await SpiedInstallation.make(spy!, { KMS_SERVER_PROCESSES: String(PROCESSES), KMS_STORE_ANCHOR_SECONDS: '3600' });
    // What a command called is seen, and is not the server's.
    await spied.kms.command('role', 'list');
    expect(spied.count('C_Login')).toBeGreaterThan(0);
    spied.clear();
    await spied.kms.start();
    // Connections go to the processes in turn.
    callers = Array.from({ length: 4 * PROCESSES }, () => spied.kms.client());
    const create = async (body: object): Promise<string> => {
      const created = await callers[0]!.post('/servicekey', body);
      expect(created.status).toBe(201);
      return `/servicekey/${created.json.id}`;
    };
    const operations = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
    paths = {
      oct: await create({ name: 'oct', type: 'oct', size: 256, operations }),
      rsa: await create({ name: 'rsa', type: 'RSA', size: 2048 }),
      ec: await create({ name: 'ec', type: 'EC', curve: 'P-256' }),
    };
    key = (await callers[0]!.post(`${paths.oct}/encrypt`, { plaintext: 'aGVsbG8=' })).json.ciphertext;
    for (const refused of await Promise.all(callers.map((caller) => mixed(caller, 5)))) expect(refused).toEqual([]);
    await searchesRest();
  });

  /** After the start a process looks at the token in the background: anchors, and every object once. */
  async function searchesRest(): Promise<void> {
    for (let before = -1, now = 0; before !== now; now = spied.count('C_FindObjectsInit')) {
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 4000));
    }
  }

  afterAll(async () => {
    await Promise.all(callers.map((caller) => caller.close()));
    await spied.remove();
  });

  /** One after the other on one connection. @returns the answers that were not good */
  async function mixed(caller: Client, operations: number): Promise<readonly string[]> {
    const message = { message: 'aGVsbG8=' };
    const kinds = [
      () => caller.post(`${paths.oct}/encrypt`, { plaintext: 'aGVsbG8=' }),
      () => caller.post(`${paths.oct}/decrypt`, { ciphertext: key }),
      () => caller.post(`${paths.ec}/sign`, { ...message, alg: 'ES256' }),
      () => caller.post(`${paths.rsa}/sign`, { ...message, alg: 'PS256' }),
      () => caller.post(`${paths.oct}/datakey`, { size: 256 }),
    ];
    const refused: string[] = [];
    for (let n = 0; n < operations; n += 1) {
      const { status, text } = await kinds[n % kinds.length]!();
      if (status !== 200 && status !== 201) refused.push(`${n % kinds.length}: ${status} ${text}`);
    }
    return refused;
  }

  test('every C_Initialize asks for OS locking', () => {
    const calls = spied.calls().filter(({ name }) => name === 'C_Initialize');
    // One in each token thread; the first of a process is the one that counts.
    expect(calls.length).toBeGreaterThanOrEqual(2 * PROCESSES);
    for (const { text } of calls) expect(text).toMatch(/^\s+flags: 2\n\s+CKF_OS_LOCKING_OK$/m);
  });

  test('each process logged in once', () => {
    expect(spied.kms.serverProcesses().length).toBe(PROCESSES);
    expect(spied.count('C_Login')).toBe(PROCESSES);
    expect(spied.count('C_Logout')).toBe(0);
  });

  test('operations search for no object', async () => {
    const before = spied.mark();
    const each = times(200, 1000) / callers.length;
    const refused = await Promise.all(callers.map((caller) => mixed(caller, each)));
    expect(refused.flat()).toEqual([]);
    // The spy saw them: the log does not merely lag or stand still.
    const ofEach = times(80, 400);
    expect(spied.count('C_Sign', before)).toBeGreaterThanOrEqual(ofEach);
    expect(spied.count('C_Encrypt', before)).toBeGreaterThanOrEqual(ofEach);
    expect(spied.count('C_FindObjectsInit', before)).toBe(0);
    // And before that, searches were made and seen.
    expect(spied.count('C_FindObjectsInit')).toBeGreaterThan(0);
  });

  test('no object was changed or copied, and none made from plaintext but public halves, anchors and session objects', () => {
    const calls = spied.calls();
    const names = new Set(calls.map(({ name }) => name));
    expect(names).toContain('C_GenerateKey');
    expect(names).not.toContain('C_SetAttributeValue');
    expect(names).not.toContain('C_CopyObject');
    const made = calls.flatMap(({ name }, index) => (name === 'C_CreateObject' ? [whole(calls, index)] : [])).map((text) => ({
      class: /CKA_CLASS\s+(\w+)/.exec(text)?.[1],
      token: /CKA_TOKEN\s+(\w+)/.exec(text)?.[1],
      anchor: ANCHOR.test(text),
    }));
    const wrong = made.filter((object) =>
      object.class !== 'CKO_PUBLIC_KEY' &&
      (object.class !== 'CKO_SECRET_KEY' || object.token !== 'False') &&
      (object.class !== 'CKO_DATA' || !object.anchor));
    expect(wrong).toEqual([]);
  });

  test('no part of a private key was asked for', () => {
    const reads = spied.calls().filter(({ name }) => name === 'C_GetAttributeValue');
    expect(reads.filter(({ text }) => text.includes('CKA_SENSITIVE')).length).toBeGreaterThan(0);
    expect(reads.filter(({ text }) => /CKA_(?:PRIVATE_EXPONENT|PRIME_\d|EXPONENT_\d|COEFFICIENT)\s/.test(text))).toEqual([]);
  });
});
