/** Every algorithm with every type, size and operation: works, is refused as documented, or names what the HSM lacks (§4). */

import { constants, createCipheriv, createDecipheriv, createHash, createHmac, createPublicKey, type KeyObject, privateEncrypt, publicEncrypt, randomBytes, verify } from 'node:crypto';
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { Answer, Client, Installation } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { b64, type Bundle, expectOk, expectRefusal, KeyVault, unb64 } from './support.ts';

let kms: Installation;
let nobody: Client;
let dev: KeyVault;

const ALL = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'];
const KEYS = {
  'rsa-2048': { kty: 'RSA', key_size: 2048 },
  'rsa-3072': { kty: 'RSA', key_size: 3072 },
  'rsa-4096': { kty: 'RSA', key_size: 4096 },
  'ec-p-256': { kty: 'EC', crv: 'P-256' },
  'ec-p-384': { kty: 'EC', crv: 'P-384' },
  'ec-p-521': { kty: 'EC', crv: 'P-521' },
  'ec-p-256k': { kty: 'EC', crv: 'P-256K' },
  'oct-128': { kty: 'oct', key_size: 128, key_ops: ALL },
  'oct-192': { kty: 'oct', key_size: 192, key_ops: ALL },
  'oct-256': { kty: 'oct', key_size: 256, key_ops: ALL },
} as const;
type Name = keyof typeof KEYS;
const NAMES = Object.keys(KEYS) as Name[];

const bundles = new Map<Name, Bundle>();

serve(async (served) => {
  ({ kms } = served);
  nobody = kms.client(null);
  dev = await KeyVault.of(nobody, kms, 'dev');
  for (const name of NAMES) bundles.set(name, await dev.create(name, KEYS[name]));
});

afterAll(() => nobody.close());

const SIZES = [128, 192, 256] as const;
const AES = SIZES.flatMap((bits) => [`A${bits}GCM`, `A${bits}CBC`, `A${bits}CBCPAD`, `A${bits}KW`]);
const CIPHERS = ['RSA1_5', 'RSA-OAEP', 'RSA-OAEP-256', ...AES, 'CKM_AES_KEY_WRAP', 'CKM_AES_KEY_WRAP_PAD'];
const SIGNERS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'RSNULL', 'ES256', 'ES384', 'ES512', 'ES256K', 'HS256', 'HS384', 'HS512'];

const kindOf = (name: Name): string => name.split('-')[0]!;
const bitsOf = (name: Name): number => Number(name.split('-')[1]);

/** What §4.3 says of a cell: undefined when it works, else words of the refusal. */
function cipherRefusal(alg: string, name: Name, wraps: boolean): string | undefined {
  if (kindOf(name) === 'ec') return 'usage';
  const isRsa = alg.startsWith('RSA');
  if (isRsa !== (kindOf(name) === 'rsa')) return 'incompatible';
  if (isRsa) return undefined;
  const size = /^A(\d+)/.exec(alg)?.[1];
  if (size !== undefined && Number(size) !== bitsOf(name)) return 'key size incorrect';
  const isWrap = alg.endsWith('KW') || alg.startsWith('CKM_');
  if (isWrap !== wraps) return wraps ? 'not for wrapping keys' : 'for wrapping keys';
  return undefined;
}

const CURVES: Readonly<Record<string, string>> = { ES256: 'ec-p-256', ES384: 'ec-p-384', ES512: 'ec-p-521', ES256K: 'ec-p-256k' };

function signatureRefusal(alg: string, name: Name): string | undefined {
  const wanted = CURVES[alg];
  if (wanted !== undefined) return wanted === name ? undefined : 'incompatible';
  const kind = alg.startsWith('HS') ? 'oct' : 'rsa';
  return kindOf(name) === kind ? undefined : 'incompatible';
}

function expectRefused(answer: Answer, words: string): void {
  if (words === 'usage') expectRefusal(answer, { status: 403, code: 'Forbidden', inner: 'KeyOperationForbidden', words: 'lacks the usage' });
  else expectRefusal(answer, { status: 400, code: 'BadParameter', words });
}

/** Plaintexts that each algorithm takes: shortest, usual, longest. */
function plaintexts(alg: string, name: Name): Buffer[] {
  const k = bitsOf(name) / 8;
  if (alg === 'RSA1_5') return [0, 32, k - 11].map((length) => randomBytes(length));
  if (alg === 'RSA-OAEP') return [0, 32, k - 42].map((length) => randomBytes(length));
  if (alg === 'RSA-OAEP-256') return [0, 32, k - 66].map((length) => randomBytes(length));
  if (alg.endsWith('CBC')) return [16, 4096, 16_000].map((length) => randomBytes(length));
  if (alg.endsWith('CBCPAD') || alg.endsWith('GCM')) return [0, 15, 16, 16_000].map((length) => randomBytes(length));
  return [16, 24, 32, 4096].map((length) => randomBytes(length));
}

describe.each(NAMES)('%s', (name) => {
  describe.each([['encrypt', 'decrypt', false], ['wrapkey', 'unwrapkey', true]] as const)('%s and %s', (protect, open, wraps) => {
    test.each(CIPHERS)('%s', async (alg) => {
      const refusal = cipherRefusal(alg, name, wraps);
      if (refusal !== undefined) {
        const value = b64(randomBytes(32));
        expectRefused(await dev.post(`/keys/${name}/${protect}`, { alg, value }), refusal);
        expectRefused(await dev.post(`/keys/${name}/${open}`, { alg, value, iv: b64(Buffer.alloc(16)) }), refusal);
        return;
      }
      for (const plaintext of plaintexts(alg, name)) {
        const aad = alg.endsWith('GCM') ? { aad: b64('bound') } : {};
        const sealed = expectOk(await dev.post(`/keys/${name}/${protect}`, { alg, value: b64(plaintext), ...aad })) as Record<string, string>;
        expect(sealed).toMatchObject({ kid: bundles.get(name)!.key.kid, alg });
        const { value, iv, tag } = sealed;
        const body = { alg, value, ...(iv !== undefined && { iv }), ...(tag !== undefined && { tag }), ...aad };
        const opened = expectOk(await dev.post(`/keys/${name}/${open}`, body)) as Record<string, string>;
        expect([alg, plaintext.length, unb64(opened['value']).equals(plaintext)]).toEqual([alg, plaintext.length, true]);
      }
    });
  });

  test.each(SIGNERS)('sign and verify: %s', async (alg) => {
    const value = b64(randomBytes({ 2: 32, 3: 48, 5: 64 }[Number(/\d/.exec(alg)?.[0] ?? 2)] ?? 32));
    const refusal = signatureRefusal(alg, name);
    if (refusal !== undefined) {
      expectRefused(await dev.post(`/keys/${name}/sign`, { alg, value }), refusal);
      expectRefused(await dev.post(`/keys/${name}/verify`, { alg, digest: value, value }), refusal);
      return;
    }
    const signed = expectOk(await dev.post(`/keys/${name}/sign`, { alg, value })) as { kid: string; value: string };
    const check = async (digest: string, signature: string): Promise<unknown> =>
      expectOk(await dev.post(`/keys/${name}/verify`, { alg, digest, value: signature }));
    expect(await check(value, signed.value)).toEqual({ value: true });
    const other = unb64(signed.value);
    other[other.length - 1]! ^= 1;
    expect(await check(value, b64(other))).toEqual({ value: false });
    expect(await check(value, b64(unb64(signed.value).subarray(1)))).toEqual({ value: false });
    expect(await check(b64(randomBytes(unb64(value).length)), signed.value)).toEqual({ value: false });
  });
});

describe('checked with the code of others', () => {
  const publicOf = (name: Name): KeyObject => {
    const { kty: _kty, kid: _kid, key_ops: _ops, ...members } = bundles.get(name)!.key;
    const crv = members['crv'] === 'P-256K' ? { crv: 'secp256k1' } : {};
    return createPublicKey({ key: { kty: name.startsWith('rsa') ? 'RSA' : 'EC', ...members, ...crv }, format: 'jwk' });
  };

  test.each(['rsa-2048', 'rsa-3072', 'rsa-4096'] as const)('%s: what node sealed is opened; signatures hold in node', async (name) => {
    const key = publicOf(name);
    const plaintext = randomBytes(30);
    const sealed: Record<string, Buffer> = {
      RSA1_5: publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, plaintext),
      'RSA-OAEP': publicEncrypt({ key, oaepHash: 'sha1' }, plaintext),
      'RSA-OAEP-256': publicEncrypt({ key, oaepHash: 'sha256' }, plaintext),
    };
    for (const [alg, value] of Object.entries(sealed)) {
      for (const operation of ['decrypt', 'unwrapkey']) {
        const { value: opened } = expectOk(await dev.post(`/keys/${name}/${operation}`, { alg, value: b64(value) })) as { value: string };
        expect(unb64(opened)).toEqual(plaintext);
      }
    }
    // RSNULL over a DigestInfo of SHA-1 is what RSA with SHA-1 makes.
    const digest = createHash('sha1').update('old').digest();
    const info = Buffer.concat([Buffer.from('3021300906052b0e03021a05000414', 'hex'), digest]);
    const { value } = expectOk(await dev.post(`/keys/${name}/sign`, { alg: 'RSNULL', value: b64(info) })) as { value: string };
    expect(verify('sha1', Buffer.from('old'), key, unb64(value))).toBe(true);
  });

  test.each(SIZES)('an imported key of %d bits does in the HSM what it does in node', async (bits) => {
    const name = `given-${bits}`;
    const k = randomBytes(bits / 8);
    expectOk(await dev.put(`/keys/${name}`, { key: { kty: 'oct', k: b64(k), key_ops: ALL } }));
    const plaintext = randomBytes(100);
    const gcm = expectOk(await dev.post(`/keys/${name}/encrypt`, { alg: `A${bits}GCM`, value: b64(plaintext), aad: b64('with') })) as Record<string, string>;
    const opener = createDecipheriv(`aes-${bits}-gcm`, k, unb64(gcm['iv'])).setAAD(Buffer.from('with')).setAuthTag(unb64(gcm['tag']));
    expect(Buffer.concat([opener.update(unb64(gcm['value'])), opener.final()])).toEqual(plaintext);
    const iv = randomBytes(16);
    const cbc = expectOk(await dev.post(`/keys/${name}/encrypt`, { alg: `A${bits}CBCPAD`, value: b64(plaintext), iv: b64(iv) })) as Record<string, string>;
    const chained = createCipheriv(`aes-${bits}-cbc`, k, iv);
    expect(cbc).toMatchObject({ value: b64(Buffer.concat([chained.update(plaintext), chained.final()])), iv: b64(iv) });
    const wrapper = createCipheriv(`aes${bits}-wrap`, k, Buffer.alloc(8, 0xa6));
    const secret = randomBytes(32);
    const wrapped = Buffer.concat([wrapper.update(secret), wrapper.final()]);
    for (const alg of [`A${bits}KW`, 'CKM_AES_KEY_WRAP']) {
      expect(expectOk(await dev.post(`/keys/${name}/wrapkey`, { alg, value: b64(secret) }))).toMatchObject({ value: b64(wrapped) });
    }
    for (const hash of ['256', '384', '512']) {
      const mac = createHmac(`sha${hash}`, k).update(plaintext).digest();
      expect(expectOk(await dev.post(`/keys/${name}/sign`, { alg: `HS${hash}`, value: b64(plaintext) }))).toMatchObject({ value: b64(mac) });
      expect(expectOk(await dev.post(`/keys/${name}/verify`, { alg: `HS${hash}`, digest: b64(plaintext), value: b64(mac) }))).toEqual({ value: true });
    }
  });

  test('an imported RSA key opens what node sealed, and node verifies what it signs', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
    expectOk(await dev.put('/keys/given-rsa', { Hsm: true, key: { ...privateKey.export({ format: 'jwk' }) } }));
    // Type 1 padding made outside is what RSNULL makes inside.
    const block = randomBytes(40);
    const { value } = expectOk(await dev.post('/keys/given-rsa/sign', { alg: 'RSNULL', value: b64(block) })) as { value: string };
    expect(unb64(value)).toEqual(privateEncrypt({ key: privateKey, padding: constants.RSA_PKCS1_PADDING }, block));
    const { value: sealed } = expectOk(await dev.post('/keys/given-rsa/encrypt', { alg: 'RSA-OAEP', value: b64(block) })) as { value: string };
    expect(publicKey.asymmetricKeyDetails?.modulusLength).toBe(unb64(sealed).length * 8);
  });
});
