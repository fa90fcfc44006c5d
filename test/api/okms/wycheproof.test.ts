// The supplied Wycheproof signatures through the door: each public key imported alone, each signature verified. What the
// product refuses by policy is named, with the reason.

import { createHash, createPublicKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import process from 'node:process';
import { describe, expect, jest, test } from '@jest/globals';
import type { Answer, Client } from '../../support/installation.ts';
import { serve } from '../../support/served.ts';
import { base64, expectRefusal, inTurns } from './support.ts';

interface Vector {
  readonly tcId: number;
  readonly msg: string;
  readonly sig: string;
  readonly result: 'valid' | 'invalid' | 'acceptable';
  readonly flags: readonly string[];
}

interface Vectors {
  readonly numberOfTests: number;
  readonly testGroups: readonly { readonly publicKeyDer: string; readonly tests: readonly Vector[] }[];
}

const VECTORS = process.env['KMS_VECTORS'] ?? '../shared/vectors';
const FOLDER = resolve(VECTORS, 'wycheproof');

/** @param policy refused although the file calls them acceptable or more, by tcId */
const FILES = [
  { file: 'ecdsa_secp256r1_sha256_p1363_test', alg: 'ES256', keys: 112, policy: {} },
  { file: 'rsa_signature_2048_sha256_test', alg: 'RS256', keys: 3, policy: { MissingNull: 'DigestInfo without its NULL (RFC 8017 §9.2)' } },
  { file: 'rsa_pss_2048_sha256_mgf1_32_test', alg: 'PS256', keys: 1, policy: {} },
] as const;

jest.setTimeout(180_000);

if (!existsSync(FOLDER)) {
  test.skip(`Wycheproof signatures: no vectors in ${VECTORS}/wycheproof (KMS_VECTORS names the folder above)`, () => undefined);
} else {
  let admin: Client;

  serve((served) => { ({ admin } = served); });

  const importKey = async (der: string): Promise<string> => {
    const jwk = createPublicKey({ key: Buffer.from(der, 'hex'), format: 'der', type: 'spki' }).export({ format: 'jwk' });
    const { status, text, json } = await admin.post('/servicekey', { name: 'wycheproof', keys: [jwk] });
    expect({ status, text }).toEqual({ status: 201, text: expect.any(String) });
    return `/servicekey/${json.id as string}`;
  };

  /** An empty message is none on this wire: then its digest is sent. */
  const verify = (path: string, alg: string, { msg, sig }: Vector): Promise<Answer> => {
    const message = Buffer.from(msg, 'hex');
    const said = message.length > 0
      ? { message: base64(message) }
      : { message: base64(createHash('sha256').update(message).digest()), isdigest: true };
    return admin.post(`${path}/verify`, { alg, ...said, signature: base64(Buffer.from(sig, 'hex')) });
  };

  describe.each(FILES)('$file', ({ file, alg, keys, policy }) => {
    const { testGroups, numberOfTests } = JSON.parse(readFileSync(resolve(FOLDER, `${file}.json`), 'utf8')) as Vectors;

    test(`${numberOfTests} signatures under ${keys} keys`, async () => {
      expect(testGroups).toHaveLength(keys);
      const judged: number[] = [];
      const refused: string[] = [];
      await inTurns(testGroups, async ({ publicKeyDer, tests }) => {
        const path = await importKey(publicKeyDer);
        for (const vector of tests) {
          const answer = await verify(path, alg, vector);
          judged.push(vector.tcId);
          if (vector.sig === '') {
            // The schema of the wire wants a character: a request without a signature is a mistake, not a wrong signature.
            expect(vector.result).toBe('invalid');
            expectRefusal(answer, 'invalid-field', 'signature');
            refused.push(`tcId ${vector.tcId}: empty signature`);
            continue;
          }
          const reason = Object.entries(policy).find(([flag]) => vector.flags.includes(flag))?.[1];
          if (vector.result === 'acceptable') {
            expect([vector.tcId, reason]).toEqual([vector.tcId, expect.any(String)]);
            refused.push(`tcId ${vector.tcId}: ${String(reason)}`);
          }
          expect([vector.tcId, answer.status, answer.json]).toEqual([vector.tcId, 200, { result: vector.result === 'valid' }]);
        }
      }, 8);
      expect(judged.toSorted((a, b) => a - b)).toEqual(Array.from({ length: numberOfTests }, (_, index) => index + 1));
      process.stderr.write(`${file}: ${judged.length} judged; refused by policy: ${refused.length === 0 ? 'none' : refused.join('; ')}\n`);
    });
  });
}
