/**
 * The token objects behind keys made through the API, read and attacked directly through PKCS#11 by someone who has the
 * PIN (security §2.1, §2.2; design §4).
 */

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { Installation } from '../support/installation.ts';
import { readStore, type StoreRows } from '../support/store-rows.ts';
import { ckr, type SeenObject, TokenViewer } from '../support/token-viewer.ts';

const KW = 0x2109;
const KWP = 0x210a;
/** PKCS#11 2.40; the binding has no name for it. */
const CKR_ACTION_PROHIBITED = 0x1b;

const USAGE = {
  ENCRYPT: ck.CKA_ENCRYPT,
  DECRYPT: ck.CKA_DECRYPT,
  SIGN: ck.CKA_SIGN,
  SIGN_RECOVER: ck.CKA_SIGN_RECOVER,
  VERIFY: ck.CKA_VERIFY,
  VERIFY_RECOVER: ck.CKA_VERIFY_RECOVER,
  WRAP: ck.CKA_WRAP,
  UNWRAP: ck.CKA_UNWRAP,
  DERIVE: ck.CKA_DERIVE,
} as const;

/** The usage attributes each class of object has (PKCS#11 2.40 §4.8–4.10). */
const USAGES_OF = {
  secret: ['ENCRYPT', 'DECRYPT', 'SIGN', 'VERIFY', 'WRAP', 'UNWRAP', 'DERIVE'],
  private: ['DECRYPT', 'SIGN', 'SIGN_RECOVER', 'UNWRAP', 'DERIVE'],
  public: ['ENCRYPT', 'VERIFY', 'VERIFY_RECOVER', 'WRAP', 'DERIVE'],
  other: [],
} as const satisfies Record<SeenObject['class'], readonly (keyof typeof USAGE)[]>;

interface Expected {
  readonly usages: readonly string[];
  readonly mechanisms: readonly number[];
}

const SECRET: Readonly<Record<string, Expected>> = {
  gcm: { usages: ['ENCRYPT', 'DECRYPT'], mechanisms: [ck.CKM_AES_GCM] },
  dk: { usages: ['ENCRYPT', 'DECRYPT'], mechanisms: [ck.CKM_AES_GCM] },
  cbc: { usages: ['ENCRYPT', 'DECRYPT'], mechanisms: [ck.CKM_AES_CBC, ck.CKM_AES_CBC_PAD] },
  kw: { usages: ['WRAP', 'UNWRAP'], mechanisms: [KW, KWP] },
};
const PRIVATE: Readonly<Record<string, Expected>> = {
  RSA: { usages: ['SIGN'], mechanisms: [ck.CKM_RSA_PKCS, ck.CKM_RSA_PKCS_PSS] },
  EC: { usages: ['SIGN'], mechanisms: [ck.CKM_ECDSA] },
};

const GUARDS = {
  TOKEN: ck.CKA_TOKEN,
  PRIVATE: ck.CKA_PRIVATE,
  SENSITIVE: ck.CKA_SENSITIVE,
  EXTRACTABLE: ck.CKA_EXTRACTABLE,
  MODIFIABLE: ck.CKA_MODIFIABLE,
  COPYABLE: ck.CKA_COPYABLE,
  LOCAL: ck.CKA_LOCAL,
  ALWAYS_SENSITIVE: ck.CKA_ALWAYS_SENSITIVE,
  NEVER_EXTRACTABLE: ck.CKA_NEVER_EXTRACTABLE,
} as const;

const REQUESTS = [
  { name: 'all four', type: 'oct', size: 256, operations: ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] },
  { name: 'cipher', type: 'oct', size: 128, operations: ['encrypt', 'decrypt'] },
  { name: 'wrapping', type: 'oct', size: 192, operations: ['wrapKey', 'unwrapKey'] },
  { name: 'rsa', type: 'RSA', size: 2048 },
  { name: 'p256', type: 'EC', curve: 'P-256' },
  { name: 'p521', type: 'EC', curve: 'P-521' },
] as const;

const FAMILIES: Readonly<Record<(typeof REQUESTS)[number]['name'], readonly string[]>> = {
  'all four': ['cbc', 'dk', 'gcm', 'kw'],
  cipher: ['cbc', 'gcm'],
  wrapping: ['dk', 'kw'],
  rsa: ['private', 'public'],
  p256: ['private', 'public'],
  p521: ['private', 'public'],
};

let kms: Installation;
let viewer: TokenViewer;
let store: StoreRows;
let objects: readonly SeenObject[];
/** Key id to what was asked for. */
const made = new Map<string, (typeof REQUESTS)[number]>();

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  const admin = kms.client();
  for (const request of REQUESTS) {
    const created = await admin.post('/servicekey', request);
    expect(created.status).toBe(201);
    made.set(created.json.id, request);
  }
  await admin.close();
  expect(await kms.stop()).toBe(0);
  store = readStore(kms.home);
  viewer = TokenViewer.open(kms.home).login(kms.home);
  objects = viewer.objects();
});

afterAll(async () => {
  viewer.close();
  await kms.remove();
});

const customer = (...classes: readonly SeenObject['class'][]): readonly SeenObject[] =>
  objects.filter(({ label, class: found }) => label.startsWith('kms:') && classes.includes(found));
const familyOf = ({ label }: SeenObject): string => label.split(':').at(-1) ?? '';
const kindOf = ({ id }: SeenObject): string => {
  const row = store.objects.find(({ objectId }) => objectId === id);
  return made.get(row?.keyId ?? '')?.type ?? 'unknown';
};
const usagesOf = ({ handle, class: found }: SeenObject): readonly string[] =>
  USAGES_OF[found].filter((name) => viewer.flag(handle, USAGE[name]));
const named = <T>(seen: readonly SeenObject[], look: (object: SeenObject) => T): readonly (readonly [string, T])[] =>
  seen.map((object) => [`${object.label} ${object.class}`, look(object)] as const);
const all = <T>(seen: readonly SeenObject[], value: T): readonly (readonly [string, T])[] => named(seen, () => value);

describe('what is there', () => {
  test('every key has the objects of its families and no others', () => {
    const families = [...made].map(([keyId, { name }]) => [
      name,
      store.objects.filter((row) => row.keyId === keyId).map(({ family }) => family).sort(),
    ]);
    expect(Object.fromEntries(families)).toEqual(FAMILIES);
  });

  test('the token holds exactly the objects the store names', () => {
    const onToken = customer('secret', 'private', 'public', 'other').map(({ label, id }) => `${label} ${id}`);
    const inStore = store.objects.map(({ objectId, versionId, family }) =>
      `kms:${store.installation}:${versionId}:${family} ${objectId}`);
    expect(onToken.length).toBe(14);
    expect([...onToken].sort()).toEqual([...inStore].sort());
    expect(store.intents).toEqual([]);
  });

  test('the class of each object fits its family', () => {
    const wanted = (object: SeenObject): string =>
      ['private', 'public'].includes(familyOf(object)) ? familyOf(object) : 'secret';
    for (const object of customer('secret', 'private', 'public', 'other')) expect(object.class).toBe(wanted(object));
  });

  test('labels have one format, ids 16 bytes of their own', () => {
    const format = /^kms:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9a-f]{32}:(?:gcm|dk|cbc|kw|private|public)$/;
    const ours = customer('secret', 'private', 'public', 'other');
    for (const { label, id } of ours) {
      expect(label).toMatch(format);
      expect(id).toMatch(/^[0-9a-f]{32}$/);
    }
    const single = ours.filter((object) => object.class !== 'public').map(({ id }) => id);
    expect(new Set(single).size).toBe(single.length);
  });

  test('nothing on the token is neither a customer key nor an internal key', () => {
    const prefixes = [`kms:${store.installation}:`, `kms-internal:${store.installation}:`];
    expect(objects.filter(({ label }) => !prefixes.some((prefix) => label.startsWith(prefix)))).toEqual([]);
  });
});

describe('secret and private objects', () => {
  test('are sensitive, private, permanent, generated here; not extractable, modifiable or copyable', () => {
    const guards = named(customer('secret', 'private'), ({ handle }) =>
      Object.fromEntries(Object.entries(GUARDS).map(([name, type]) => [name, viewer.flag(handle, type)])));
    const wanted = {
      TOKEN: true, PRIVATE: true, SENSITIVE: true, EXTRACTABLE: false, MODIFIABLE: false, COPYABLE: false,
      LOCAL: true, ALWAYS_SENSITIVE: true, NEVER_EXTRACTABLE: true,
    };
    expect(guards).toEqual(all(customer('secret', 'private'), wanted));
  });

  test('have exactly the usages and mechanisms of their family', () => {
    const seen = customer('secret', 'private');
    expect(seen.length).toBe(11);
    const found = named(seen, (object) => ({ usages: usagesOf(object), mechanisms: viewer.mechanisms(object.handle) }));
    const wanted = named(seen, (object) => {
      const expected = object.class === 'secret' ? SECRET[familyOf(object)] : PRIVATE[kindOf(object)];
      return { usages: expected?.usages, mechanisms: [...(expected?.mechanisms ?? [])].sort((a, b) => a - b) };
    });
    expect(found).toEqual(wanted);
  });

  test('of one key differ in value: no family opens what another sealed', () => {
    const four = [...made].find(([, { name }]) => name === 'all four')?.[0];
    const of = (family: string): SeenObject => customer('secret').find((object) =>
      familyOf(object) === family && store.objects.some(({ keyId, objectId }) => keyId === four && objectId === object.id))!;
    const parameter = {
      type: ck.CK_PARAMS_AES_GCM_v240, iv: Buffer.alloc(12, 7), ivBits: 96, aad: Buffer.alloc(16).subarray(0, 0), tagBits: 128,
    };
    const mechanism = { mechanism: ck.CKM_AES_GCM, parameter };
    const seal = (family: string): Buffer => {
      viewer.module.C_EncryptInit(viewer.session, mechanism, of(family).handle);
      return viewer.module.C_Encrypt(viewer.session, Buffer.alloc(32), Buffer.alloc(48));
    };
    const [gcm, dk] = [seal('gcm'), seal('dk')];
    expect(gcm.length).toBe(48);
    expect(seal('gcm')).toEqual(gcm);
    expect(dk).not.toEqual(gcm);
    // CBC of GCM's first counter block is the key stream, if the key is the same (P-16).
    const counter = Buffer.concat([Buffer.alloc(12, 7), Buffer.from([0, 0, 0, 2])]);
    viewer.module.C_EncryptInit(viewer.session, { mechanism: ck.CKM_AES_CBC, parameter: Buffer.alloc(16) }, of('cbc').handle);
    const block = viewer.module.C_Encrypt(viewer.session, counter, Buffer.alloc(16));
    expect(block.length).toBe(16);
    expect(block).not.toEqual(gcm.subarray(0, 16));
  });
});

describe('attacks with the PIN', () => {
  const value = { secret: [ck.CKA_VALUE] };
  const RSA_SECRETS = [
    ck.CKA_PRIVATE_EXPONENT, ck.CKA_PRIME_1, ck.CKA_PRIME_2, ck.CKA_EXPONENT_1, ck.CKA_EXPONENT_2, ck.CKA_COEFFICIENT,
  ];
  const secretsOf = (object: SeenObject): readonly number[] => {
    if (object.class === 'secret') return value.secret;
    return kindOf(object) === 'RSA' ? RSA_SECRETS : [ck.CKA_VALUE];
  };

  test('the value cannot be read', () => {
    const seen = customer('secret', 'private');
    const read = named(seen, (object) => secretsOf(object).map((type) => ckr(() => viewer.raw(object.handle, type))));
    expect(read).toEqual(named(seen, (object) => secretsOf(object).map(() => ck.CKR_ATTRIBUTE_SENSITIVE)));
  });

  test('no object can be wrapped, while one that is extractable can', () => {
    const usage = [ck.CKA_ENCRYPT, ck.CKA_DECRYPT, ck.CKA_SIGN, ck.CKA_VERIFY, ck.CKA_UNWRAP]
      .map((type) => ({ type, value: false }));
    const session = [
      { type: ck.CKA_TOKEN, value: false }, { type: ck.CKA_PRIVATE, value: true }, { type: ck.CKA_VALUE_LEN, value: 32 },
    ];
    const generate = (template: ck.Template): ck.Handle =>
      viewer.module.C_GenerateKey(viewer.session, { mechanism: ck.CKM_AES_KEY_GEN }, [...session, ...usage, ...template]);
    const wrapping = generate([{ type: ck.CKA_WRAP, value: true }]);
    const extractable = generate([{ type: ck.CKA_WRAP, value: false }, { type: ck.CKA_EXTRACTABLE, value: true }]);
    const wrap = (handle: ck.Handle, mechanism: number): number =>
      ckr(() => viewer.module.C_WrapKey(viewer.session, { mechanism }, wrapping, handle, Buffer.alloc(4096)));
    expect(wrap(extractable, KW)).toBe(ck.CKR_OK);
    expect(wrap(extractable, KWP)).toBe(ck.CKR_OK);
    const seen = customer('secret', 'private');
    const tried = named(seen, ({ handle }) => [wrap(handle, KW), wrap(handle, KWP)]);
    expect(tried).toEqual(all(seen, [ck.CKR_KEY_UNEXTRACTABLE, ck.CKR_KEY_UNEXTRACTABLE]));
  });

  test('no attribute can be changed', () => {
    const seen = customer('secret', 'private', 'public');
    const flip = (object: SeenObject): ck.Template => [
      ...USAGES_OF[object.class].map((name) => ({ type: USAGE[name], value: !viewer.flag(object.handle, USAGE[name]) })),
      ...(object.class === 'public' ? [] : [
        { type: ck.CKA_SENSITIVE, value: false },
        { type: ck.CKA_EXTRACTABLE, value: true },
        { type: ck.CKA_ALLOWED_MECHANISMS, value: Buffer.alloc(8) },
      ]),
      { type: ck.CKA_MODIFIABLE, value: true },
      { type: ck.CKA_COPYABLE, value: true },
      { type: ck.CKA_LABEL, value: Buffer.from('other') },
      { type: ck.CKA_ID, value: Buffer.alloc(16) },
    ];
    const tried = named(seen, (object) => flip(object).map((attribute) =>
      ckr(() => { viewer.module.C_SetAttributeValue(viewer.session, object.handle, [attribute]); })));
    const succeeded = tried.filter(([, codes]) => codes.includes(ck.CKR_OK));
    expect(succeeded).toEqual([]);
    expect(new Set(tried.flatMap(([, codes]) => codes))).toEqual(new Set([CKR_ACTION_PROHIBITED]));
    expect(viewer.objects().map(({ label, id }) => `${label} ${id}`).sort())
      .toEqual(objects.map(({ label, id }) => `${label} ${id}`).sort());
  });

  test('no object can be copied, as it is or weakened', () => {
    const seen = customer('secret', 'private');
    const copy = ({ handle }: SeenObject, template: ck.Template): number =>
      ckr(() => viewer.module.C_CopyObject(viewer.session, handle, template));
    const weaker = [{ type: ck.CKA_TOKEN, value: false }, { type: ck.CKA_WRAP, value: true }];
    const tried = named(seen, (object) => [
      copy(object, [{ type: ck.CKA_LABEL, value: Buffer.from('copy') }]),
      copy(object, [{ type: ck.CKA_TOKEN, value: false }]),
      copy(object, weaker),
    ]);
    expect(tried).toEqual(all(seen, [CKR_ACTION_PROHIBITED, CKR_ACTION_PROHIBITED, CKR_ACTION_PROHIBITED]));
    expect(viewer.objects().length).toBe(objects.length);
  });

  test('no object serves a mechanism of another family', () => {
    const iv = { parameter: Buffer.alloc(16) };
    const gcm = {
      mechanism: ck.CKM_AES_GCM,
      parameter: { type: ck.CK_PARAMS_AES_GCM_v240, iv: Buffer.alloc(12), ivBits: 96, aad: Buffer.alloc(1), tagBits: 128 },
    };
    const block = [{ mechanism: ck.CKM_AES_ECB }, { mechanism: ck.CKM_AES_CBC, ...iv }, { mechanism: ck.CKM_AES_CBC_PAD, ...iv }];
    const foreign: Readonly<Record<string, readonly ck.Mechanism[]>> = {
      gcm: block,
      dk: block,
      cbc: [{ mechanism: ck.CKM_AES_ECB }, gcm],
    };
    const seen = customer('secret').filter((object) => foreign[familyOf(object)] !== undefined);
    expect(seen.length).toBe(6);
    const init = ({ handle }: SeenObject, mechanism: ck.Mechanism): readonly number[] => [
      ckr(() => { viewer.module.C_EncryptInit(viewer.session, mechanism, handle); }),
      ckr(() => { viewer.module.C_DecryptInit(viewer.session, mechanism, handle); }),
    ];
    const tried = seen.flatMap((object) => foreign[familyOf(object)]!.flatMap((mechanism) => init(object, mechanism)));
    expect(new Set(tried)).toEqual(new Set([ck.CKR_MECHANISM_INVALID]));
  });

  test('a key-wrapping object neither encrypts nor decrypts, a cipher object does not wrap', () => {
    const kw = customer('secret').filter((object) => familyOf(object) === 'kw');
    const ciphers = customer('secret').filter((object) => familyOf(object) !== 'kw');
    const iv = { mechanism: ck.CKM_AES_CBC, parameter: Buffer.alloc(16) };
    const decrypt = kw.map(({ handle }) => ckr(() => { viewer.module.C_DecryptInit(viewer.session, iv, handle); }));
    const wrap = ciphers.map(({ handle }) =>
      ckr(() => viewer.module.C_WrapKey(viewer.session, { mechanism: KW }, handle, handle, Buffer.alloc(64))));
    expect([kw.length, ciphers.length]).toEqual([2, 6]);
    expect([...decrypt, ...wrap].filter((code) => code === ck.CKR_OK)).toEqual([]);
  });
});

describe('every object', () => {
  test('wraps or decrypts, unwraps or encrypts, never both (P-1)', () => {
    const both = objects.filter((object) => {
      const has = usagesOf(object);
      return (has.includes('WRAP') && has.includes('DECRYPT')) || (has.includes('UNWRAP') && has.includes('ENCRYPT'));
    });
    expect(objects.length).toBe(14 + 12);
    expect(both).toEqual([]);
  });

  test('that is public verifies, and cannot be changed', () => {
    const seen = customer('public');
    expect(seen.length).toBe(3);
    const found = named(seen, (object) => ({
      usages: usagesOf(object),
      MODIFIABLE: viewer.flag(object.handle, ck.CKA_MODIFIABLE),
      COPYABLE: viewer.flag(object.handle, ck.CKA_COPYABLE),
      TOKEN: viewer.flag(object.handle, ck.CKA_TOKEN),
    }));
    expect(found).toEqual(all(seen, { usages: ['VERIFY'], MODIFIABLE: false, COPYABLE: false, TOKEN: true }));
  });

  test('that is secret or private is invisible without a login (P-15)', () => {
    viewer.module.C_Logout(viewer.session);
    try {
      const seen = viewer.objects();
      expect(seen.map(({ class: found }) => found).filter((found) => found !== 'public')).toEqual([]);
      expect(seen.length).toBe(objects.filter(({ class: found }) => found === 'public').length);
    } finally {
      viewer.login(kms.home);
      // The handles of private objects ended with the login.
      objects = viewer.objects();
    }
  });
});

describe('internal keys', () => {
  const HMACS = [ck.CKM_SHA256_HMAC];
  const signing = { private: { usages: ['SIGN'], mechanisms: [ck.CKM_ECDSA] }, public: ['VERIFY'] };
  const WANTED = {
    audit: signing,
    'access-ca': signing,
    'server-ca': signing,
    'token-issuer': signing,
    import: { private: { usages: ['UNWRAP'], mechanisms: [ck.CKM_RSA_PKCS_OAEP] }, public: ['WRAP'] },
  } as const;
  const internal = (name: string): readonly SeenObject[] =>
    objects.filter(({ label }) => label.startsWith(`kms-internal:${store.installation}:${name}:`));
  const guards = ({ handle }: SeenObject): readonly boolean[] =>
    [GUARDS.SENSITIVE, GUARDS.PRIVATE, GUARDS.TOKEN, GUARDS.EXTRACTABLE, GUARDS.MODIFIABLE, GUARDS.COPYABLE]
      .map((type) => viewer.flag(handle, type));

  test('are the seven the store names, each once', () => {
    const found = objects
      .filter(({ label }) => label.startsWith('kms-internal:'))
      .map(({ label, id }) => `${label} ${id}`);
    const wanted = [...store.internal].flatMap(([name, id]) =>
      (name in WANTED ? ['private', 'public'] : ['mac']).map((part) => `kms-internal:${store.installation}:${name}:${part} ${id}`));
    expect([...store.internal.keys()].sort()).toEqual([...Object.keys(WANTED), 'canary', 'integrity'].sort());
    expect(found.sort()).toEqual(wanted.sort());
  });

  test.each(Object.keys(WANTED) as (keyof typeof WANTED)[])('%s does its one thing', (name) => {
    const own = internal(name).find((object) => object.class === 'private')!;
    const half = internal(name).find((object) => object.class === 'public')!;
    expect({ usages: usagesOf(own), mechanisms: viewer.mechanisms(own.handle) }).toEqual(WANTED[name].private);
    expect(usagesOf(half)).toEqual(WANTED[name].public);
    expect(viewer.flag(half.handle, ck.CKA_MODIFIABLE)).toBe(false);
    expect(guards(own)).toEqual([true, true, true, false, false, false]);
  });

  test.each(['canary', 'integrity'])('%s is a guarded HMAC key', (name) => {
    const [own, ...others] = internal(name);
    expect(others).toEqual([]);
    expect(usagesOf(own!)).toEqual(['SIGN', 'VERIFY']);
    expect(guards(own!)).toEqual([true, true, true, false, false, false]);
    expect(ckr(() => viewer.raw(own!.handle, ck.CKA_VALUE))).toBe(ck.CKR_ATTRIBUTE_SENSITIVE);
  });

  // security §2.1, row "Anchor key".
  test.each(['canary', 'integrity'])('%s allows HMAC with SHA-256 alone', (name) => {
    expect(viewer.mechanisms(internal(name)[0]!.handle)).toEqual(HMACS);
  });
});
