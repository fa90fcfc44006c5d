// What a token authenticates, checked without any code of ours: PKCS#11 opens it under the AAD of integrity §1, which
// is written out here. The server is stopped; the keys stay where they are, as nothing can take them out.

import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import ck from 'pkcs11js';
import { Installation } from '../../support/installation.ts';
import { TokenViewer } from '../../support/token-viewer.ts';
import { base64, makeKey, OCT } from './support.ts';

let kms: Installation;
let viewer: TokenViewer;

const CONTEXT = 'facture é №1';
const PLAINTEXT = 'opened by PKCS#11';

interface Sealed {
  readonly header: string;
  readonly iv: Buffer;
  /** Ciphertext and tag. */
  readonly sealed: Buffer;
}

const tokens: Record<'plain' | 'bound' | 'dataKey', Sealed | undefined> = { plain: undefined, bound: undefined, dataKey: undefined };
let dataKeyBytes: Buffer;

beforeAll(async () => {
  kms = await Installation.make();
  await kms.start();
  const admin = kms.client();
  const path = `/servicekey/${await makeKey(admin, OCT)}`;
  const plaintext = base64(PLAINTEXT);
  tokens.plain = take((await admin.post(`${path}/encrypt`, { plaintext })).json.ciphertext as string);
  tokens.bound = take((await admin.post(`${path}/encrypt`, { plaintext, context: CONTEXT })).json.ciphertext as string);
  const made = (await admin.post(`${path}/datakey`, { size: 256 })).json;
  tokens.dataKey = take(made.key as string);
  dataKeyBytes = Buffer.from(made.plaintext as string, 'base64');
  await admin.close();
  await kms.stop();
  viewer = TokenViewer.open(kms.home);
  viewer.module.C_Login(viewer.session, ck.CKU_USER, readFileSync(join(kms.home, 'softhsm', 'user.pin'), 'utf8'));
});

afterAll(async () => {
  viewer.close();
  await kms.remove();
});

function take(token: string): Sealed {
  const [header = '', , iv = '', ciphertext = '', tag = ''] = token.split('.');
  const bytes = [ciphertext, tag].map((part) => Buffer.from(part, 'base64url'));
  return { header, iv: Buffer.from(iv, 'base64url'), sealed: Buffer.concat(bytes) };
}

/** @returns the plaintext, or undefined when the tag does not fit */
function open(family: 'gcm' | 'dk', token: Sealed | undefined, aad: string): Buffer | undefined {
  const objects = viewer.objects().filter(({ label }) => label.endsWith(`:${family}`));
  expect(objects).toHaveLength(1);
  const parameter = { type: ck.CK_PARAMS_AES_GCM, iv: token!.iv, aad: Buffer.from(aad, 'ascii'), tagBits: 128 };
  viewer.module.C_DecryptInit(viewer.session, { mechanism: ck.CKM_AES_GCM, parameter }, objects[0]!.handle);
  try {
    return viewer.module.C_Decrypt(viewer.session, token!.sealed, Buffer.alloc(4096));
  } catch {
    return undefined;
  }
}

test('without a context: the encoded header, as RFC 7516 says', () => {
  const { plain } = tokens;
  expect(open('gcm', plain, plain!.header)?.toString()).toBe(PLAINTEXT);
  expect(open('gcm', plain, `${plain!.header}.`)).toBeUndefined();
});

test('with a context: the header, a dot, base64url of the context in UTF-8', () => {
  const { bound } = tokens;
  const aad = `${bound!.header}.${Buffer.from(CONTEXT, 'utf8').toString('base64url')}`;
  expect(open('gcm', bound, aad)?.toString()).toBe(PLAINTEXT);
  expect(open('gcm', bound, bound!.header)).toBeUndefined();
});

test('a data key: the header and ~datakey, under an object of its own', () => {
  const { dataKey } = tokens;
  expect(open('dk', dataKey, `${dataKey!.header}~datakey`)).toEqual(dataKeyBytes);
  expect(open('dk', dataKey, dataKey!.header)).toBeUndefined();
  expect(open('gcm', dataKey, `${dataKey!.header}~datakey`)).toBeUndefined();
});
