/**
 * The supplied Wycheproof ciphertexts through the Key Vault door: each key imported, each ciphertext opened, and sealed again
 * where that is no matter of chance. What the product refuses by policy is named, with the reason.
 */

import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import process from 'node:process';
import { afterAll, describe, expect, jest, test } from '@jest/globals';
import type { Answer, Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { inTurns } from '../okms/support.ts';
import { b64, expectOk, expectRefusal, KeyVault } from './support.ts';

interface Vector {
  readonly tcId: number;
  readonly key?: string;
  readonly iv?: string;
  readonly aad?: string;
  readonly tag?: string;
  readonly label?: string;
  readonly msg: string;
  readonly ct: string;
  readonly result: 'valid' | 'invalid' | 'acceptable';
}

interface Group {
  readonly keySize: number;
  readonly privateKeyJwk?: object;
  readonly tests: readonly Vector[];
}

/** What is asked of one file. */
interface Asked {
  readonly file: string;
  readonly alg: (bits: number) => string;
  readonly words: readonly ['encrypt', 'decrypt'] | readonly ['wrapkey', 'unwrapkey'];
  /** Whether sealing the message again must give the ciphertext. */
  readonly seals: boolean;
  /** @returns why the product refuses a vector that the file allows, and what it says then */
  readonly policy: (vector: Vector) => readonly [why: string, words: string] | undefined;
  readonly refused: number;
}

const CANNOT = 'the data cannot be decrypted with this key';
const labelled = ({ label = '' }: Vector): readonly [string, string] | undefined => (label === '' ? undefined : ['labelled', CANNOT]);

const FILES: readonly Asked[] = [
  {
    file: 'aes_gcm_test', alg: (bits) => `A${bits}GCM`, words: ['encrypt', 'decrypt'], seals: false, refused: 119,
    policy: ({ iv = '' }) => (iv.length === 24 ? undefined : ['an IV that is not 96 bits long', 'iv: expected 12 bytes']),
  },
  { file: 'aes_cbc_pkcs5_test', alg: (bits) => `A${bits}CBCPAD`, words: ['encrypt', 'decrypt'], seals: true, refused: 0, policy: () => undefined },
  {
    file: 'aes_wrap_test', alg: (bits) => `A${bits}KW`, words: ['wrapkey', 'unwrapkey'], seals: true, refused: 3,
    policy: ({ msg, result }) => (msg.length === 16 && result !== 'invalid' ? ['less than the 16 bytes of RFC 3394 §2', CANNOT] : undefined),
  },
  { file: 'rsa_oaep_2048_sha1_mgf1sha1_test', alg: () => 'RSA-OAEP', words: ['encrypt', 'decrypt'], seals: false, refused: 7, policy: labelled },
  { file: 'rsa_oaep_2048_sha256_mgf1sha256_test', alg: () => 'RSA-OAEP-256', words: ['encrypt', 'decrypt'], seals: false, refused: 8, policy: labelled },
];

const VECTORS = process.env['KMS_VECTORS'] ?? '../shared/vectors';
const FOLDER = resolve(VECTORS, 'wycheproof');

jest.setTimeout(300_000);

if (!existsSync(FOLDER)) {
  test.skip(`Wycheproof ciphertexts: no vectors in ${VECTORS}/wycheproof (KMS_VECTORS names the folder above)`, () => undefined);
} else {
  let nobody: Client;
  let dev: KeyVault;

  serve(async (served) => {
    nobody = served.kms.client(null);
    dev = await KeyVault.of(nobody, served.kms, 'dev');
  });

  afterAll(() => nobody.close());

  const binary = (hex: string): string => b64(Buffer.from(hex, 'hex'));

  /** Imports a key, uses it, and destroys it: a full token is a slow one. */
  async function withKey(name: string, key: object, use: () => Promise<void>): Promise<void> {
    expectOk(await dev.put(`/keys/${name}`, { key }));
    await use();
    expectOk(await dev.delete(`/keys/${name}`));
    expect((await dev.delete(`/deletedkeys/${name}`)).status).toBe(204);
  }

  function open(name: string, { words: [, word] }: Asked, alg: string, { ct, iv, aad, tag }: Vector): Promise<Answer> {
    const members = { ...(iv !== undefined && { iv: binary(iv) }), ...(tag !== undefined && { aad: binary(aad ?? ''), tag: binary(tag) }) };
    return dev.post(`/keys/${name}/${word}`, { alg, value: binary(ct), ...members });
  }

  async function judge(name: string, asked: Asked, alg: string, vector: Vector, refused: string[]): Promise<void> {
    const { tcId, msg, ct, iv, result } = vector;
    const answer = await open(name, asked, alg, vector);
    const policy = asked.policy(vector);
    if (policy !== undefined) {
      expectRefusal(answer, { status: 400, code: 'BadParameter', words: policy[1] });
      refused.push(`${tcId}`);
    } else if (result === 'invalid') {
      // One and the same answer, whatever is wrong with it.
      expect([tcId, answer.status, String(answer.json.error?.message).replace(/ \(Activity ID: [\w-]+\)$/, '')]).toEqual([tcId, 400, CANNOT]);
    } else {
      expect([tcId, answer.status, (answer.json as { value?: string }).value]).toEqual([tcId, 200, binary(msg)]);
      if (!asked.seals) return;
      const sealed = await dev.post(`/keys/${name}/${asked.words[0]}`, { alg, value: binary(msg), ...(iv !== undefined && { iv: binary(iv) }) });
      expect([tcId, (sealed.json as { value?: string }).value]).toEqual([tcId, binary(ct)]);
    }
  }

  describe.each(FILES.map((asked) => [asked.file, asked] as const))('%s', (file, asked) => {
    const { testGroups, numberOfTests } = JSON.parse(readFileSync(resolve(FOLDER, `${file}.json`), 'utf8')) as
      { readonly numberOfTests: number; readonly testGroups: readonly Group[] };

    test(`${numberOfTests} ciphertexts`, async () => {
      const refused: string[] = [];
      const judged: number[] = [];
      const short = file.replace(/_test$/, '').replaceAll('_', '-');
      const all = testGroups.flatMap((group, index) => group.tests.map((vector) => ({ group, index, vector })));
      const rsa = testGroups.map(({ privateKeyJwk }) => privateKeyJwk);
      if (rsa.every((jwk) => jwk !== undefined)) {
        for (const [index, jwk] of rsa.entries()) {
          await withKey(`${short}-${index}`, { ...jwk, key_ops: ['encrypt', 'decrypt'] }, async () => {
            for (const { vector } of all.filter((of) => of.index === index)) {
              await judge(`${short}-${index}`, asked, asked.alg(0), vector, refused);
              judged.push(vector.tcId);
            }
          });
        }
      } else {
        await inTurns(all, async ({ group: { keySize }, vector }) => {
          const { tcId, key = '' } = vector;
          const key_ops = asked.words[0] === 'wrapkey' ? ['wrapKey', 'unwrapKey'] : ['encrypt', 'decrypt'];
          await withKey(`${short}-${tcId}`, { kty: 'oct', k: binary(key), key_ops }, () => judge(`${short}-${tcId}`, asked, asked.alg(keySize), vector, refused));
          judged.push(tcId);
        }, 8);
      }
      expect(judged.toSorted((a, b) => a - b)).toEqual(Array.from({ length: numberOfTests }, (_, index) => index + 1));
      const [why] = all.flatMap(({ vector }) => asked.policy(vector) ?? []);
      const list = refused.toSorted((a, b) => Number(a) - Number(b)).join(', ');
      process.stderr.write(`${file}: ${judged.length} judged; refused by policy: ${list === '' ? 'none' : `${String(why)}: tcId ${list}`}\n`);
      expect(refused).toHaveLength(asked.refused);
    });
  });
}
