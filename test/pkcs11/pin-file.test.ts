/** What is no PIN is found before the token counts a try. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { pinFault, readPin } from '../../src/pkcs11/pin-file.ts';

const LENGTHS = { min: 4, max: 8 };

describe('pinFault', () => {
  test.each([
    ['1234', undefined],
    ['a b c', undefined],
    ['12345678', undefined],
    ['ä234', undefined],
    ['', 'is empty'],
    ['\uFEFF1234', 'begins with a byte-order mark: expected the PIN alone'],
    ['12\uFFFD34', 'is not UTF-8'],
    ['12\n34', 'has a line break in it: expected one line'],
    ['1234\r', 'has a line break in it: expected one line'],
    ['1234 ', 'begins or ends with blanks: expected the PIN alone'],
    ['\t1234', 'begins or ends with blanks: expected the PIN alone'],
    ['123', 'holds less than the 4 bytes that the token asks for'],
    ['123456789', 'holds more than the 8 bytes that the token takes'],
    ['ääääa', 'holds more than the 8 bytes that the token takes'],
  ])('%j', (pin, fault) => {
    expect(pinFault(pin, LENGTHS)).toBe(fault);
  });
});

describe('readPin', () => {
  let directory: string;
  beforeAll(() => { directory = mkdtempSync(join(tmpdir(), 'kms-test-')); });
  afterAll(() => { rmSync(directory, { recursive: true }); });

  function file(content: string): string {
    const path = join(directory, 'user.pin');
    writeFileSync(path, content);
    return path;
  }

  test.each(['1234', '1234\n', '1234\r\n'])('%j is the PIN 1234', (content) => {
    expect(readPin(file(content), LENGTHS)).toBe('1234');
  });

  test.each(['\n', '1234\n\n', '12\n34\n', '1234 \n', '123\n'])('%j is none, and is not told', (content) => {
    const path = file(content);
    const failure = expect.objectContaining({ reason: 'pin-file', message: expect.stringContaining(`the PIN file ${path} `) });
    expect(() => readPin(path, LENGTHS)).toThrow(failure);
    expect(() => readPin(path, LENGTHS)).not.toThrow(/12/);
  });

  test('one that is not there is named', () => {
    expect(() => readPin(join(directory, 'gone.pin'))).toThrow(/^the PIN file .*gone\.pin cannot be read \(ENOENT\)$/);
  });
});
