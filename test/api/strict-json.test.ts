/** The one check of every JSON text: what it refuses, and that its cost grows with the bytes alone. */

import { describe, expect, test } from '@jest/globals';
import { parseStrictJson, parseStrictObject } from '../../src/api/strict-json.ts';

const read = (text: string): unknown => parseStrictJson(Buffer.from(text, 'utf8'));

describe('accepted', () => {
  test.each([
    ['{}', {}],
    [' [1, "a", null, true, {"b": [-1.5e3]}] ', [1, 'a', null, true, { b: [-1500] }]],
    ['"a \\" b { [ : ,"', 'a " b { [ : ,'],
    ['{"\\\\": 1, "\\"": 2}', { '\\': 1, '"': 2 }],
    ['{"a": {"a": [{"a": 1}, {"a": 2}]}, "b": "a"}', { a: { a: [{ a: 1 }, { a: 2 }] }, b: 'a' }],
    ['"\\ud83d\\ude00"', '\u{1f600}'],
    [`${'['.repeat(16)}${']'.repeat(16)}`, JSON.parse(`${'['.repeat(16)}${']'.repeat(16)}`)],
  ])('%s', (text, value) => {
    expect(read(text)).toEqual(value);
  });
});

describe('refused', () => {
  test.each([
    ['', 'syntax error'],
    ['"', 'syntax error'],
    ['{"a": "b}', 'syntax error'],
    ['"\\', 'syntax error'],
    ['"\\"', 'syntax error'],
    ['{"a" 1}', 'syntax error'],
    ['[1,]', 'syntax error'],
    ['"\\x"', 'syntax error'],
    [`${'['.repeat(17)}${']'.repeat(17)}`, 'nested deeper than 16'],
    ['{"a": 1, "a": 2}', 'duplicate member'],
    ['{"a": 1, "\\u0061": 2}', 'duplicate member'],
    ['[{"x": {"b": 1, "c": [], "b": 1}}]', 'duplicate member'],
    ['{"__proto__": 1}', 'member __proto__'],
    ['{"a": [{"\\u005f_proto__": 1}]}', 'member __proto__'],
    ['"\\ud800"', 'lone surrogate in a string'],
  ])('%s', (text, why) => {
    expect(() => read(text)).toThrow(expect.objectContaining({ code: 'malformed-request', message: `the body is not acceptable JSON: ${why}` }));
    expect(parseStrictObject(Buffer.from(text))).toBeUndefined();
  });

  test('sixty thousand brackets', () => {
    expect(() => read('['.repeat(60_000))).toThrow(/nested deeper than 16/);
  });

  test('what is no UTF-8', () => {
    expect(() => parseStrictJson(Buffer.from([0x22, 0xff, 0x22]))).toThrow(/expected UTF-8/);
  });
});

describe('the cost grows with the bytes', () => {
  const BYTES = 65_400;
  /** For an input of so many bytes, or a little less. */
  const shapes: readonly (readonly [string, (bytes: number) => string])[] = [
    ['a string without an end, full of escaped quotes', (bytes) => `"${'\\"'.repeat(bytes / 2 - 1)}`],
    ['a string without an end, full of backslashes', (bytes) => `"${'\\'.repeat(bytes - 1)}`],
    ['quotes', (bytes) => '"'.repeat(bytes)],
    ['an odd number of quotes', (bytes) => '"'.repeat(bytes - 1 + (bytes % 2))],
    ['members of one object', (bytes) => `{${Array.from({ length: bytes / 12 }, (_, index) => `"${String(index).padStart(6, '0')}":1`).join(',')}}`],
    ['escapes of one string', (bytes) => `"${'\\u0061'.repeat(bytes / 6 - 1)}"`],
    ['arrays beside each other', (bytes) => `[${'[],'.repeat(bytes / 3 - 1)}[]]`],
    ['open brackets', (bytes) => '['.repeat(bytes)],
    ['a number', (bytes) => '1'.repeat(bytes)],
    ['blanks', (bytes) => ' '.repeat(bytes)],
  ];

  function processorTime(bytes: Buffer): number {
    const before = process.cpuUsage();
    for (let round = 0; round < 8; round += 1) {
      try {
        parseStrictJson(bytes);
      } catch {
        // Refused after so much work.
      }
    }
    const { user, system } = process.cpuUsage(before);
    return user + system;
  }

  test.each(shapes)('%s', (_name, make) => {
    const [large, quarter] = [make(BYTES), make(BYTES / 4)].map((text) => Buffer.from(text));
    // The first rounds are compiled. The smaller of several: others use the processor, too.
    const ratios = Array.from({ length: 5 }, () => processorTime(large!) / Math.max(processorTime(quarter!), 100));
    expect(Math.min(...ratios)).toBeLessThanOrEqual(6);
  });
});
