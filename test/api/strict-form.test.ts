// Forms (RFC 6749 appendix B): what is not clear is refused, and never quoted.

import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parseStrictForm } from '../../src/api/strict-form.ts';

const parse = (text: string | Buffer): unknown => parseStrictForm(Buffer.from(text));

test.each<[string, string, object]>([
  ['the example of RFC 6749 appendix B', '+%25%26%2B%C2%A3%E2%82%AC=x', { ' %&+£€': 'x' }],
  ['plus and space', 'a=b+c%20d', { a: 'b c d' }],
  ['an equals sign in a value', 'a=b=c', { a: 'b=c' }],
  ['a parameter without a value', 'a=&b&c=1', { c: '1' }],
  ['empty pieces', '&a=1&&b=2&', { a: '1', b: '2' }],
  ['nothing', '', {}],
])('%s', (_name, text, expected) => { expect(parse(text)).toEqual(expected); });

test('the name of a prototype is a name like others', () => {
  const form = parseStrictForm(Buffer.from('__proto__=x&constructor=y'));
  expect(Object.entries(form)).toEqual([['__proto__', 'x'], ['constructor', 'y']]);
  expect(Object.getPrototypeOf(form)).toBe(Object.prototype);
});

test.each<[string, string | Buffer]>([
  ['a parameter twice', 'secretive=1&secretive=2'], ['twice, once without a value', 'secretive=1&secretive'], ['twice behind an encoding', 'secretive=1&%73ecretive=1'],
  ['half an encoding', 'secretive=%2'], ['no hexadecimal', 'secretive=%zz'], ['no UTF-8', 'secretive=%ff'], ['overlong UTF-8', 'secretive=%c0%af'], ['a surrogate', 'secretive=%ed%a0%80'],
  ['a space', 'secretive=a b'], ['a line break', 'secretive=a\n'], ['NUL', 'secretive=\0'], ['UTF-8 without encoding', 'secretive=é'], ['a byte above ASCII', Buffer.from([0x61, 0x3d, 0xff])],
])('refused: %s', (_name, text) => {
  expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'malformed-request', message: expect.not.stringContaining('ecretive') }));
});

test('what URLSearchParams writes is read as it was', () => {
  const text = fc.string({ minLength: 1, unit: 'grapheme' });
  fc.assert(fc.property(fc.uniqueArray(fc.tuple(text, text), { selector: ([name]) => name }), (pairs) => {
    const form = parseStrictForm(Buffer.from(new URLSearchParams(pairs).toString()));
    expect(Object.entries(form).sort()).toEqual([...pairs].sort());
  }));
});
