// The canary of security S-28, which every test file with an installation runs, finds what it is there for.

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { assertHidden, assertTellsNone, secretsOf } from '../support/canary.ts';

test('a plaintext, a key, a token and a PIN are found wherever they do not belong', () => {
  const home = mkdtempSync(join(tmpdir(), 'kms-canary-'));
  mkdirSync(join(home, 'softhsm'));
  const pin = randomBytes(18).toString('base64url');
  writeFileSync(join(home, 'softhsm', 'user.pin'), pin);
  const bytes = randomBytes(24);
  const secret = (): string => randomBytes(24).toString('base64url');
  const [plaintext, k, value, signature] = [bytes.toString('base64'), secret(), secret(), secret()];
  secretsOf('/servicekey/x/encrypt', { plaintext }, { authorization: `Bearer a.b.${signature}` });
  secretsOf('/servicekey', { keys: [{ kty: 'oct', k }] }, {});
  secretsOf('/keys/x/encrypt?api-version=7.4', { alg: 'A256GCM', value }, {});
  assertHidden(home, 'nothing');
  for (const leak of [pin, plaintext, bytes, k, value, signature]) {
    writeFileSync(join(home, 'kms.log'), Buffer.concat([Buffer.from('before '), Buffer.from(leak), Buffer.from(' after')]));
    expect(() => { assertHidden(home, ''); }).toThrow('kms.log');
    rmSync(join(home, 'kms.log'));
    if (typeof leak === 'string') expect(() => { assertHidden(home, `x ${leak}`); }).toThrow('the output');
  }
  const secrets = secretsOf('/servicekey', { plaintext }, {});
  expect(() => { assertTellsNone('/servicekey', 400, `not ${plaintext}`, secrets); }).toThrow('repeats');
  assertTellsNone('/servicekey', 200, plaintext, secrets);
  rmSync(home, { recursive: true });
});
