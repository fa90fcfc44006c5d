/** The files of `hsm-config/`: all of them load, say what they are, and do not contradict themselves (design §11). */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { KmsError } from '../../src/errors.ts';
import { loadProfile, type Profile } from '../../src/pkcs11/profile.ts';

const STATUS: Readonly<Record<string, Profile['status']>> = {
  'aws-cloudhsm': 'documented',
  'azure-cloudhsm': 'documented',
  'entrust-nshield': 'documented',
  kryoptic: 'documented',
  'nss-fips': 'tested',
  'nss-softokn': 'tested',
  'securosys-primus': 'documented',
  'softhsm-2.6.1': 'tested',
  'softhsm-2.7': 'documented',
  'thales-luna7': 'documented',
  utimaco: 'documented',
  yubihsm2: 'documented',
};
const NAMES = Object.keys(STATUS);
const VARIABLES = { KMS_HOME: '/srv/kms', KMS_NSS_FIPS_SHIM: '/srv/kms/shim.so' };

const fileOf = (name: string): string => join('hsm-config', `${name}.yaml`);
const load = (name: string): Profile => loadProfile(fileOf(name), VARIABLES);

test('the folder holds exactly the expected profiles', () => {
  expect(readdirSync('hsm-config').sort()).toEqual(NAMES.map((name) => `${name}.yaml`));
});

describe.each(NAMES)('%s', (name) => {
  test('loads, and is named as its file', () => {
    expect(load(name)).toMatchObject({ name, status: STATUS[name] });
  });

  test('says in its first line whether it was run', () => {
    const [first] = readFileSync(fileOf(name), 'utf8').split('\n');
    expect(first).toMatch(/^# \w/);
    expect(first?.includes('written from documentation, not run')).toBe(STATUS[name] === 'documented');
  });

  test('leaves no variable unreplaced', () => {
    expect(JSON.stringify(load(name))).not.toContain('${');
  });

  test('does not contradict itself', () => {
    const { gcm, keyWrap, oaep, import: imports, birth } = load(name);
    expect(gcm.maxPlaintext > 0).toBe(gcm.iv !== 'none');
    expect(keyWrap.maxBytes > 0).toBe(keyWrap.dataKeyPath !== 'none');
    if (keyWrap.dataKeyPath !== 'none') expect(keyWrap.kw).not.toBeNull();
    if (keyWrap.kwpWrap !== 'none') expect(keyWrap.kwp).not.toBeNull();
    if (birth === 'unwrap' || imports.recipe === 'oaep+kwp') expect(keyWrap.kwp).not.toBeNull();
    if (imports.recipe === 'oaep+kwp') expect(oaep.hashes).toContain(imports.oaepHash);
    expect(oaep.hashes.includes('sha256')).toBe(oaep.sha256 === 'native');
  });

  test('stands in the documentation as it is', () => {
    const { status, gcm, keyWrap, oaep, import: imports, curves, birth } = load(name);
    const wrap = keyWrap.dataKeyPath === 'none' ? 'none' : `${keyWrap.dataKeyPath}, KWP ${keyWrap.kwpWrap}`;
    const recipe = imports.recipe === 'none' ? 'none' : `${imports.recipe}, ${imports.oaepHash}`;
    const cells = [name, status, gcm.iv, wrap, oaep.sha256, recipe, curves.join(' ') || 'none', birth];
    expect(readFileSync('docs/hsm-profiles.md', 'utf8').split('\n')).toContain(`| ${cells.join(' | ')} |`);
  });
});

describe('PIN patterns', () => {
  test.each([
    ['aws-cloudhsm', 'crypto_user:secret', 'secret'],
    ['azure-cloudhsm', 'crypto_user:secret', 'crypto_user:'],
    ['softhsm-2.7', '1234', '123'],
    ['yubihsm2', '0001password', '0001passwor'],
    ['yubihsm2', '00aFpassword', 'passwordpassword'],
  ])('%s takes %s and not %s', (name, good, bad) => {
    const pattern = new RegExp(load(name).pin.pattern);
    expect([good, bad].map((pin) => pattern.test(pin))).toEqual([true, false]);
  });

  test.each(NAMES)('%s refuses an empty PIN', (name) => {
    expect(new RegExp(load(name).pin.pattern).test('')).toBe(false);
  });
});

describe('a profile that is not valid', () => {
  const good = readFileSync(fileOf('softhsm-2.6.1'), 'utf8');
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kms-profile-'));
  });
  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  function refusal(text: string): { path: string; error: unknown } {
    const path = join(folder, 'mine.yaml');
    writeFileSync(path, text);
    try {
      loadProfile(path, VARIABLES);
    } catch (error) {
      return { path, error };
    }
    return { path, error: null };
  }

  test('the unchanged text is accepted', () => {
    expect(refusal(good).error).toBeNull();
  });

  test.each([
    ['a wrong choice', 'birth', /^birth: .*/m, 'birth: clone'],
    ['a wrong choice inside', 'gcm.iv', /^ {2}iv: .*/m, '  iv: nobody'],
    ['a wrong type', 'serialiseCreates', /^serialiseCreates: .*/m, 'serialiseCreates: "no"'],
    ['a number out of range', 'keyWrap.kw', /^ {2}kw: .*/m, '  kw: 0x100000000'],
    ['a wrong member of a list', 'curves[0]', /^curves: .*/m, 'curves: [P-224]'],
    ['a missing member', 'maxRandom', /^maxRandom: .*\n/m, ''],
    ['an unknown member', 'surprise', /^birth: /m, 'surprise: 1\nbirth: '],
    ['an unknown member inside', 'keyWrap', /^ {2}kw: /m, '  surprise: 1\n  kw: '],
  ])('%s is refused naming file and member %s', (_what, member, from, to) => {
    const text = good.replace(from, to);
    expect(text).not.toBe(good);
    const { path, error } = refusal(text);
    expect(error).toBeInstanceOf(KmsError);
    expect(error).toMatchObject({ code: 'internal' });
    expect(String(error)).toContain(path);
    expect(String(error)).toContain(member);
    if (to.includes('surprise')) expect(String(error)).toContain('surprise');
  });
});
